//! What happens to orders.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::record::{json_len, len};
use super::{Check, Column, Decimal, Fields, Invalid, Json, Kind, Record};

super::words! {
    /// What happened to an order.
    EventType {
        /// It was made, and not sent yet.
        Pending = "pending",
        /// It was sent.
        Submitted = "submitted",
        /// The broker took it.
        Accepted = "accepted",
        /// A part, or all, was traded.
        Fill = "fill",
        /// An earlier fill was other than said.
        FillCorrected = "fill_corrected",
        /// An earlier fill did not happen.
        FillVoided = "fill_voided",
        /// It has another quantity or price now.
        Replaced = "replaced",
        /// Its cancelling was asked for.
        CancelRequested = "cancel_requested",
        /// It was cancelled.
        Cancelled = "cancelled",
        /// The broker turned it down.
        Rejected = "rejected",
        /// Its time ran out.
        Expired = "expired",
    }
}

super::words! {
    /// Which way an order trades.
    Side {
        /// Buy.
        Buy = "buy",
        /// Sell.
        Sell = "sell",
    }
}

/// Something that happened to an order. `quantity` stands on pending, submitted and replaced (the new
/// total); `last_quantity`, `last_price` and `commission` on fills.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OrderEvent {
    /// When it happened.
    #[serde(deserialize_with = "super::time::deserialize")]
    pub event_at: DateTime<Utc>,
    /// The order it happened to.
    pub order_id: String,
    /// The event's own id.
    #[serde(default)]
    pub event_id: String,
    /// The producer's own order, for events of one instant.
    pub sequence: Option<i64>,
    /// The proposal that the order carries out.
    pub proposal_id: Option<String>,
    /// What happened.
    pub event_type: EventType,
    /// What is traded.
    pub asset: Option<String>,
    /// Buy or sell.
    pub side: Option<Side>,
    /// `market`, `limit`, `stop`, ... as the broker calls it.
    pub order_type: Option<String>,
    /// Ordered quantity (FIX OrderQty).
    pub quantity: Option<Decimal>,
    /// Limit or stop price.
    pub price: Option<Decimal>,
    /// Quantity of this fill (FIX LastQty).
    pub last_quantity: Option<Decimal>,
    /// Price of this fill (FIX LastPx).
    pub last_price: Option<Decimal>,
    /// Commission on this fill, in the currency of the price.
    pub commission: Option<Decimal>,
    /// Who executes.
    pub broker: Option<String>,
    /// Why it was cancelled, rejected, voided, ...
    pub reason: Option<String>,
    /// The fill that `fill_corrected` or `fill_voided` speaks of.
    pub ref_event_id: Option<String>,
    /// Anything else.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "super::json::present")]
    pub details: Option<Json>,
}

impl OrderEvent {
    /// An event that happened now.
    pub fn new(order_id: impl Into<String>, event_type: EventType) -> Self {
        Self {
            event_at: super::now(),
            order_id: order_id.into(),
            event_id: super::fresh_id(),
            sequence: None,
            proposal_id: None,
            event_type,
            asset: None,
            side: None,
            order_type: None,
            quantity: None,
            price: None,
            last_quantity: None,
            last_price: None,
            commission: None,
            broker: None,
            reason: None,
            ref_event_id: None,
            details: None,
        }
    }

    /// When; cut to microseconds.
    #[must_use]
    pub fn at(mut self, time: DateTime<Utc>) -> Self {
        self.event_at = super::micros(time);
        self
    }
}

super::setters!(OrderEvent {
    /// The producer's own order, for events of one instant.
    sequence: i64,
    /// The proposal that the order carries out.
    proposal_id: String,
    /// What is traded.
    asset: String,
    /// Buy or sell.
    side: Side,
    /// `market`, `limit`, `stop`, ... as the broker calls it.
    order_type: String,
    /// Ordered quantity (FIX OrderQty).
    quantity: Decimal,
    /// Limit or stop price.
    price: Decimal,
    /// Quantity of this fill (FIX LastQty).
    last_quantity: Decimal,
    /// Price of this fill (FIX LastPx).
    last_price: Decimal,
    /// Commission on this fill, in the currency of the price.
    commission: Decimal,
    /// Who executes.
    broker: String,
    /// Why it was cancelled, rejected, voided, ...
    reason: String,
    /// The fill that `fill_corrected` or `fill_voided` speaks of.
    ref_event_id: String,
    /// Anything else.
    details: Json,
});

impl Record for OrderEvent {
    const TABLE: &'static str = "order_event";
    const COLUMNS: &'static [Column] = &[
        Column::new("event_at", Kind::Timestamptz),
        Column::new("order_id", Kind::Text),
        Column::new("event_id", Kind::Text),
        Column::new("sequence", Kind::Int8),
        Column::new("proposal_id", Kind::Text),
        Column::new("event_type", Kind::Text),
        Column::new("asset", Kind::Text),
        Column::new("side", Kind::Text),
        Column::new("order_type", Kind::Text),
        Column::new("quantity", Kind::Numeric),
        Column::new("price", Kind::Numeric),
        Column::new("last_quantity", Kind::Numeric),
        Column::new("last_price", Kind::Numeric),
        Column::new("commission", Kind::Numeric),
        Column::new("broker", Kind::Text),
        Column::new("reason", Kind::Text),
        Column::new("ref_event_id", Kind::Text),
        Column::new("details", Kind::Jsonb),
    ];

    fn time(&self) -> Option<DateTime<Utc>> {
        Some(self.event_at)
    }

    fn module(&self) -> Option<&str> {
        None
    }

    fn order_id(&self) -> Option<&str> {
        Some(&self.order_id)
    }

    fn id(&self) -> Option<&str> {
        Some(&self.event_id)
    }

    fn id_mut(&mut self) -> Option<&mut String> {
        Some(&mut self.event_id)
    }

    fn each_json(&mut self, each: &mut dyn FnMut(&mut Option<Json>)) {
        each(&mut self.details);
    }

    fn fields(&self, _: i64, to: &mut impl Fields) {
        to.time(Some(self.event_at));
        to.text(Some(&self.order_id));
        to.text(Some(&self.event_id));
        to.int8(self.sequence);
        to.text(self.proposal_id.as_deref());
        to.text(Some(self.event_type.as_str()));
        to.text(self.asset.as_deref());
        to.text(self.side.map(|w| w.as_str()));
        to.text(self.order_type.as_deref());
        to.numeric(self.quantity);
        to.numeric(self.price);
        to.numeric(self.last_quantity);
        to.numeric(self.last_price);
        to.numeric(self.commission);
        to.text(self.broker.as_deref());
        to.text(self.reason.as_deref());
        to.text(self.ref_event_id.as_deref());
        to.json(self.details.as_ref());
    }

    fn size(&self) -> usize {
        size_of::<Self>()
            + self.order_id.len()
            + self.event_id.len()
            + len(&self.proposal_id)
            + len(&self.asset)
            + len(&self.order_type)
            + len(&self.broker)
            + len(&self.reason)
            + len(&self.ref_event_id)
            + json_len(&self.details)
    }

    fn check(&self, check: &Check<'_>) -> Result<(), Invalid> {
        check.time("event_at", self.event_at)?;
        check.name("order_id", &self.order_id)?;
        check.name("event_id", &self.event_id)?;
        check.some_name("proposal_id", &self.proposal_id)?;
        check.some_name("asset", &self.asset)?;
        check.some_name("order_type", &self.order_type)?;
        check.text("broker", &self.broker)?;
        check.text("reason", &self.reason)?;
        check.some_name("ref_event_id", &self.ref_event_id)?;
        check.json("details", &self.details)
    }
}

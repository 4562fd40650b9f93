//! What the portfolio holds and is worth.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::record::len;
use super::{Check, Column, Decimal, Fields, Invalid, Json, Kind, Record};

/// One position, as [`PortfolioSnapshot::positions`] may hold it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Position {
    #[serde(rename = "quantity")]
    _quantity: Decimal,
    #[serde(rename = "price")]
    _price: Option<Decimal>,
}

/// The view `portfolio_position` casts each position to numeric(38,18): all of them must fit.
fn positions(text: &str) -> Result<(), String> {
    let all: BTreeMap<String, &RawValue> = serde_json::from_str(text).map_err(|e| format!("is not an object of asset -> position: {e}"))?;
    for (asset, position) in all {
        let position = position.get();
        let result = if position.starts_with('{') {
            serde_json::from_str::<Position>(position).map(|_| ())
        } else {
            serde_json::from_str::<Decimal>(position).map(|_| ())
        };
        result.map_err(|e| format!("position '{asset}' is neither a quantity nor {{quantity, price}}: {e}"))?;
    }
    Ok(())
}

/// What the portfolio held and was worth.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PortfolioSnapshot {
    /// When.
    #[serde(deserialize_with = "super::time::deserialize")]
    pub taken_at: DateTime<Utc>,
    /// The snapshot's own id.
    #[serde(default)]
    pub snapshot_id: String,
    /// asset -> quantity, or asset -> {quantity, price}.
    pub positions: Json,
    /// Cash, in the portfolio's currency.
    pub cash_balance: Decimal,
    /// Cash and positions, in the portfolio's currency.
    pub total_value: Decimal,
    /// Value at risk, as the module computes it.
    pub portfolio_var: Option<f64>,
    /// Standard deviation of returns, as the module scales it, not negative.
    pub portfolio_volatility: Option<f64>,
    /// Largest position's share of the total, a fraction.
    pub max_position_concentration: Option<f64>,
    /// Mean correlation of the positions, as the module computes it.
    pub correlation_risk: Option<f64>,
    /// Why it was taken.
    pub reason: Option<String>,
    /// Whether the market was open.
    pub market_hours: Option<bool>,
}

impl PortfolioSnapshot {
    /// A snapshot taken now.
    pub fn new(positions: impl Into<Json>, cash_balance: Decimal, total_value: Decimal) -> Self {
        Self {
            taken_at: super::now(),
            snapshot_id: super::fresh_id(),
            positions: positions.into(),
            cash_balance,
            total_value,
            portfolio_var: None,
            portfolio_volatility: None,
            max_position_concentration: None,
            correlation_risk: None,
            reason: None,
            market_hours: None,
        }
    }

    /// When; cut to microseconds.
    #[must_use]
    pub fn at(mut self, time: DateTime<Utc>) -> Self {
        self.taken_at = super::micros(time);
        self
    }
}

super::setters!(PortfolioSnapshot {
    /// Value at risk, as the module computes it.
    portfolio_var: f64,
    /// Standard deviation of returns, as the module scales it, not negative.
    portfolio_volatility: f64,
    /// Largest position's share of the total, a fraction.
    max_position_concentration: f64,
    /// Mean correlation of the positions, as the module computes it.
    correlation_risk: f64,
    /// Why it was taken.
    reason: String,
    /// Whether the market was open.
    market_hours: bool,
});

impl Record for PortfolioSnapshot {
    const TABLE: &'static str = "portfolio_snapshot";
    const COLUMNS: &'static [Column] = &[
        Column::new("taken_at", Kind::Timestamptz),
        Column::new("snapshot_id", Kind::Text),
        Column::new("positions", Kind::Jsonb),
        Column::new("cash_balance", Kind::Numeric),
        Column::new("total_value", Kind::Numeric),
        Column::new("portfolio_var", Kind::Float8),
        Column::new("portfolio_volatility", Kind::Float8),
        Column::new("max_position_concentration", Kind::Float8),
        Column::new("correlation_risk", Kind::Float8),
        Column::new("reason", Kind::Text),
        Column::new("market_hours", Kind::Bool),
    ];

    fn time(&self) -> Option<DateTime<Utc>> {
        Some(self.taken_at)
    }

    fn module(&self) -> Option<&str> {
        None
    }

    fn id_mut(&mut self) -> Option<&mut String> {
        Some(&mut self.snapshot_id)
    }

    fn each_json(&mut self, _: &mut dyn FnMut(&mut Option<Json>)) {}

    fn fields(&self, _: i64, to: &mut impl Fields) {
        to.time(Some(self.taken_at));
        to.text(Some(&self.snapshot_id));
        to.json(Some(&self.positions));
        to.numeric(Some(self.cash_balance));
        to.numeric(Some(self.total_value));
        to.float8(self.portfolio_var);
        to.float8(self.portfolio_volatility);
        to.float8(self.max_position_concentration);
        to.float8(self.correlation_risk);
        to.text(self.reason.as_deref());
        to.bool(self.market_hours);
    }

    fn size(&self) -> usize {
        size_of::<Self>() + self.snapshot_id.len() + self.positions.as_str().len() + len(&self.reason)
    }

    fn check(&self, check: &Check<'_>) -> Result<(), Invalid> {
        check.time("taken_at", self.taken_at)?;
        check.name("snapshot_id", &self.snapshot_id)?;
        check.json_value("positions", &self.positions)?;
        if let Err(reason) = positions(self.positions.as_str()) {
            return check.rule(false, "positions", || reason);
        }
        check.finite("portfolio_var", self.portfolio_var)?;
        check.not_negative("portfolio_volatility", self.portfolio_volatility)?;
        check.finite("max_position_concentration", self.max_position_concentration)?;
        check.finite("correlation_risk", self.correlation_risk)?;
        check.text("reason", &self.reason)
    }
}

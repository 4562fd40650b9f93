//! What should not happen, made to happen: orders of a careless broker, on an instrument of their own, and a module that falls silent.

use chrono::{DateTime, TimeDelta, Utc};

use crate::records::{EventType, OrderEvent, Regime, RegimeState, Side};

/// The instrument: no bars, no proposals, no position of the account.
pub(super) const ASSET: &str = "TEST";
/// The regime that nobody but a person may put in force.
pub(super) const REGIME: &str = "demo-regime-provoked";
const BROKER: &str = "careless";
const PRICE: i64 = 100;

/// An order that was submitted, and what became of it a second a step later.
struct Order {
    id: String,
    events: Vec<OrderEvent>,
    at: DateTime<Utc>,
}

impl Order {
    fn new(what: &str, at: DateTime<Utc>) -> Self {
        let order = Self { id: format!("demo-provoked-{what}"), events: Vec::new(), at };
        order.then(EventType::Submitted, |e| e.asset(ASSET).side(Side::Buy).order_type("market").quantity(10))
    }

    fn then(mut self, event_type: EventType, with: impl FnOnce(OrderEvent) -> OrderEvent) -> Self {
        let sequence = self.events.len() as i64 + 1;
        let at = self.at + TimeDelta::seconds(sequence);
        let mut event = OrderEvent::new(&self.id, event_type).at(at).sequence(sequence).broker(BROKER).reason("provoked");
        event.event_id = format!("{}-{sequence}", self.id);
        self.events.push(with(event));
        self
    }

    fn fill(self, quantity: i64) -> Self {
        self.then(EventType::Fill, |e| e.last_quantity(quantity).last_price(PRICE))
    }
}

/// One order each: overfilled, filled after it was cancelled, with a fill corrected, with a fill voided
/// that never was, and with an event whose id comes again with another price.
pub(super) fn events(at: DateTime<Utc>) -> Vec<OrderEvent> {
    let about = |fill: &str| Some(fill.to_owned());
    let twice = Order::new("conflict", at).fill(10);
    let again = OrderEvent { last_price: Some((PRICE + 1).into()), ..twice.events[1].clone() };
    let orders = [
        Order::new("overfill", at).fill(6).fill(6),
        Order::new("late-fill", at).then(EventType::Cancelled, |e| e).fill(4),
        Order::new("correction", at).fill(10).then(EventType::FillCorrected, |e| OrderEvent {
            ref_event_id: about("demo-provoked-correction-2"),
            ..e.last_price(PRICE + 2)
        }),
        Order::new("void", at).fill(10).then(EventType::FillVoided, |e| OrderEvent { ref_event_id: about("a-fill-that-never-was"), ..e }),
        twice,
    ];
    orders.into_iter().flat_map(|order| order.events).chain([again]).collect()
}

/// Whether a module is passed over at this round of health checks: one of them falls silent for six rounds.
pub(super) fn is_silent(module: &str, round: usize) -> bool {
    module == "seasonality" && (40..46).contains(&round)
}

/// A crisis, of which the overseer is not sure: it changes nothing until a person confirms it.
pub(super) fn regime(at: DateTime<Utc>) -> RegimeState {
    let mut state = RegimeState::new(Regime::Crisis, 0.45, "overseer").at(at).reasoning("provoked: a crisis is for people to decide");
    state.regime_id = REGIME.to_owned();
    state
}

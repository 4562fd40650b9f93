//! A broker and an account: limit orders filled against the bars, money in exact decimals.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};

use super::bars::Bar;
use crate::records::{Decimal, EventType, OrderEvent, Side};

/// Share of a bar's volume that one order may take.
const PARTICIPATION: f64 = 0.001;
/// Bars after which what is left of an order is cancelled.
const PATIENCE: u32 = 6;
const BROKER: &str = "paper";

/// Cash and positions.
pub(super) struct Account {
    pub(super) cash: Decimal,
    pub(super) positions: BTreeMap<usize, i64>,
}

/// An order to be sent.
pub(super) struct Ticket {
    pub(super) proposal_id: String,
    pub(super) asset: usize,
    pub(super) side: Side,
    pub(super) quantity: i64,
    pub(super) limit: f64,
}

/// An order at the broker.
pub(super) struct Order {
    id: String,
    proposal_id: String,
    pub(super) asset: usize,
    side: Side,
    limit: Decimal,
    quantity: i64,
    filled: i64,
    age: u32,
    sequence: i64,
}

pub(super) struct Broker {
    pub(super) account: Account,
    pub(super) open: Vec<Order>,
    orders: u64,
}

fn money(value: f64) -> Decimal {
    Decimal::round_f64(value, 4).unwrap_or_default()
}

fn times(quantity: i64, price: Decimal) -> Decimal {
    Decimal::from(quantity).checked_mul_half_even(price).unwrap_or_default()
}

impl Broker {
    pub(super) fn new(cash: i64) -> Self {
        Self { account: Account { cash: cash.into(), positions: BTreeMap::new() }, open: Vec::new(), orders: 0 }
    }

    /// Takes an order in, or turns it down; gives what happened, all of it in one instant.
    pub(super) fn submit(&mut self, at: DateTime<Utc>, name: &str, ticket: &Ticket) -> Vec<OrderEvent> {
        let Ticket { asset, side, quantity, .. } = *ticket;
        self.orders += 1;
        let mut order = Order {
            id: format!("demo-order-{:05}", self.orders),
            proposal_id: ticket.proposal_id.clone(),
            asset,
            side,
            limit: money(ticket.limit),
            quantity,
            filled: 0,
            age: 0,
            sequence: 0,
        };
        let mut events = vec![
            order.event(at, EventType::Pending).asset(name).side(side).order_type("limit").quantity(quantity).price(order.limit),
            order.event(at, EventType::Submitted).quantity(quantity).price(order.limit),
        ];
        let needed = times(quantity, order.limit);
        let held = self.account.positions.get(&asset).copied().unwrap_or_default();
        let refused = match side {
            Side::Buy if needed > self.account.cash => Some("insufficient buying power"),
            Side::Sell if held < quantity => Some("short sale not permitted"),
            _ => None,
        };
        match refused {
            Some(reason) => events.push(order.event(at, EventType::Rejected).reason(reason)),
            None => {
                events.push(order.event(at, EventType::Accepted));
                self.open.push(order);
            }
        }
        events
    }

    /// Trades open orders of an asset against its next bar.
    pub(super) fn trade(&mut self, at: DateTime<Utc>, asset: usize, bar: &Bar) -> Vec<OrderEvent> {
        let mut events = Vec::new();
        for order in self.open.iter_mut().filter(|order| order.asset == asset) {
            order.age += 1;
            let (open, low, high) = (money(bar.open), money(bar.low), money(bar.high));
            let price = match order.side {
                Side::Buy if low <= order.limit => Some(open.min(order.limit)),
                Side::Sell if high >= order.limit => Some(open.max(order.limit)),
                _ => None,
            };
            let quantity = (order.quantity - order.filled).min((bar.volume * PARTICIPATION) as i64);
            if let Some(price) = price.filter(|_| quantity > 0) {
                let commission = money((quantity as f64 * 0.0035).max(0.35));
                let value = times(quantity, price);
                let signed = if order.side == Side::Buy { quantity } else { -quantity };
                let cash = match order.side {
                    Side::Buy => self.account.cash.checked_sub(value),
                    Side::Sell => self.account.cash.checked_add(value),
                };
                self.account.cash = cash.and_then(|c| c.checked_sub(commission)).unwrap_or(self.account.cash);
                let held = self.account.positions.entry(asset).or_default();
                *held += signed;
                if *held == 0 {
                    self.account.positions.remove(&asset);
                }
                order.filled += quantity;
                let seconds = TimeDelta::milliseconds(1_000 + (order.sequence * 777) % 200_000);
                events.push(order.event(at + seconds, EventType::Fill).last_quantity(quantity).last_price(price).commission(commission));
            }
            if order.filled < order.quantity && order.age >= PATIENCE {
                let end = at + TimeDelta::seconds(290);
                events.push(order.event(end, EventType::CancelRequested).reason("not filled in time"));
                events.push(order.event(end, EventType::Cancelled).reason("not filled in time"));
            }
        }
        self.open.retain(|order| order.filled < order.quantity && order.age < PATIENCE);
        events
    }

    /// Ends the day: orders are good for the day alone.
    pub(super) fn close_day(&mut self, at: DateTime<Utc>) -> Vec<OrderEvent> {
        self.open.drain(..).map(|mut order| order.event(at, EventType::Expired).reason("end of day")).collect()
    }
}

impl Order {
    fn event(&mut self, at: DateTime<Utc>, event_type: EventType) -> OrderEvent {
        self.sequence += 1;
        let mut event = OrderEvent::new(&self.id, event_type).at(at).sequence(self.sequence).proposal_id(&self.proposal_id).broker(BROKER);
        event.event_id = format!("{}-{}", self.id, self.sequence);
        event
    }
}

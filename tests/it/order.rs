//! Orders converge: the rules of `tests/order_lifecycle.md` in plain Rust, against the database's fold.

use std::collections::BTreeSet;

use chrono::{DateTime, TimeDelta, Utc};
use hitherto::Store;
use hitherto::records::{Decimal, EventType, OrderEvent, Side};
use hitherto::writer::Batch;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, TestRng, TestRunner};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};

use crate::harness;

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Report {
    texts: [Option<String>; 5],
    quantity: Option<Decimal>,
    status: String,
    filled: Decimal,
    leaves: Option<Decimal>,
    average: Option<Decimal>,
    commission: Decimal,
    times: [Option<DateTime<Utc>>; 5],
    anomalies: Vec<String>,
    pub(crate) events: i64,
}

const UNIT: i128 = 10i128.pow(18);

pub(crate) fn decimal(units: i128) -> Decimal {
    Decimal::from_units(units).unwrap()
}

/// The fold, by the book. Quantities and prices have six places at most, so that all fits 128 bits.
pub(crate) fn fold(events: &[OrderEvent]) -> Report {
    use EventType as E;
    let mut events: Vec<&OrderEvent> = events.iter().collect();
    let place = |kind: E| {
        [
            E::Pending,
            E::Submitted,
            E::Accepted,
            E::Replaced,
            E::Fill,
            E::FillCorrected,
            E::FillVoided,
            E::CancelRequested,
            E::Cancelled,
            E::Rejected,
            E::Expired,
        ]
        .iter()
        .position(|k| *k == kind)
    };
    events.sort_by_key(|e| (e.event_at, e.sequence.is_some(), e.sequence, place(e.event_type), e.event_id.clone()));
    let first = |of: fn(&OrderEvent) -> Option<String>| events.iter().find_map(|e| of(e));
    let first_at = |kind: E| events.iter().find(|e| e.event_type == kind).map(|e| e.event_at);
    let ordering = |e: &OrderEvent| matches!(e.event_type, E::Pending | E::Submitted | E::Replaced);
    let told = events.iter().rev().find(|e| ordering(e) && e.quantity.is_some());
    let quantity = told.and_then(|e| e.quantity);
    let is_fill = |id: &Option<String>| events.iter().any(|e| e.event_type == E::Fill && Some(&e.event_id) == id.as_ref());

    let (mut filled, mut commission, mut notional, mut priced) = (0i128, 0i128, 0i128, 0i128);
    let (mut first_fill, mut reached, mut last_fill) = (None, None, None);
    for (step, fill) in events.iter().enumerate().filter(|(_, e)| e.event_type == E::Fill) {
        let about = |kind: E| events.iter().rev().find(move |e| e.event_type == kind && e.ref_event_id.as_ref() == Some(&fill.event_id));
        let correction = about(E::FillCorrected);
        let last = |of: fn(&OrderEvent) -> Option<Decimal>| correction.and_then(|c| of(c)).or(of(fill)).map(Decimal::units);
        let counts = last(|e| e.last_quantity).filter(|q| *q > 0);
        let Some(q) = counts.filter(|_| about(E::FillVoided).is_none()) else { continue };
        filled += q;
        commission += last(|e| e.commission).unwrap_or(0);
        if let Some(price) = last(|e| e.last_price) {
            // Millionths times millionths.
            notional += (q / 10i128.pow(12)) * (price / 10i128.pow(12));
            priced += q / 10i128.pow(12);
        }
        first_fill = first_fill.into_iter().chain([fill.event_at]).min();
        last_fill = Some(step);
        if reached.is_none() && quantity.is_some_and(|quantity| filled >= quantity.units()) {
            reached = Some(fill.event_at);
        }
    }
    let average = (priced > 0).then(|| {
        let (n, d) = (notional * 10i128.pow(12), priced);
        let (q, r) = (n.div_euclid(d), n.rem_euclid(d));
        decimal(q + i128::from(2 * r > d || 2 * r == d && q % 2 != 0))
    });
    let has = |kind: E| events.iter().any(|e| e.event_type == kind);
    let whole = quantity.is_some_and(|quantity| quantity.units() > 0 && filled >= quantity.units());
    let status = match () {
        () if whole => "filled",
        () if has(E::Cancelled) => "cancelled",
        () if has(E::Expired) => "expired",
        () if filled > 0 => "partially_filled",
        () if has(E::Rejected) => "rejected",
        () if [E::Submitted, E::Accepted, E::Replaced, E::CancelRequested].into_iter().any(has) => "submitted",
        () => "pending",
    };
    let open = matches!(status, "pending" | "submitted" | "partially_filled");
    let filled_at = (status == "filled").then(|| reached.max(told.map(|e| e.event_at))).flatten();
    let closed_at = match status {
        "filled" => filled_at,
        "cancelled" => first_at(E::Cancelled),
        "expired" => first_at(E::Expired),
        "rejected" => first_at(E::Rejected),
        _ => None,
    };
    let differ = |of: fn(&OrderEvent) -> Option<String>| events.iter().filter_map(|e| of(e)).collect::<BTreeSet<_>>().len() > 1;
    let rejected = events.iter().position(|e| e.event_type == E::Rejected);
    let not_positive = |n: Option<Decimal>| n.is_some_and(|n| n <= Decimal::ZERO);
    let asset = |e: &OrderEvent| e.asset.clone();
    let side = |e: &OrderEvent| e.side.map(|s| s.to_string());
    let anomalies = [
        ("asset_changed", differ(asset)),
        ("correction_of_unknown_fill", events.iter().any(|e| e.event_type == E::FillCorrected && !is_fill(&e.ref_event_id))),
        ("fill_after_reject", last_fill.is_some_and(|fill| rejected.is_some_and(|rejected| fill > rejected))),
        (
            "non_positive_quantity",
            events.iter().any(|e| match e.event_type {
                E::Fill => e.last_quantity.is_none() || not_positive(e.last_quantity),
                E::FillCorrected => not_positive(e.last_quantity),
                _ => ordering(e) && not_positive(e.quantity),
            }),
        ),
        ("overfill", quantity.is_some_and(|quantity| quantity.units() > 0 && filled > quantity.units())),
        ("side_changed", differ(side)),
        ("void_of_unknown_fill", events.iter().any(|e| e.event_type == E::FillVoided && !is_fill(&e.ref_event_id))),
    ];
    Report {
        texts: [first(|e| e.proposal_id.clone()), first(asset), first(side), first(|e| e.order_type.clone()), first(|e| e.broker.clone())],
        quantity,
        status: status.to_owned(),
        filled: decimal(filled),
        leaves: if open { quantity.map(|quantity| decimal((quantity.units() - filled).max(0))) } else { Some(Decimal::ZERO) },
        average,
        commission: decimal(commission),
        times: [first_at(E::Submitted), first_fill, filled_at, closed_at, events.last().map(|e| e.event_at)],
        anomalies: anomalies.iter().filter(|(_, is)| *is).map(|(name, _)| (*name).to_owned()).collect(),
        events: events.len() as i64,
    }
}

pub(crate) async fn reported(store: &Store, order_id: &str) -> Report {
    let row = store
        .client()
        .await
        .unwrap()
        .query_one(
            "SELECT proposal_id::text, asset::text, side::text, order_type::text, broker, quantity, status, filled_quantity, leaves_quantity,
                    average_fill_price, total_commission, submitted_at, first_fill_at, filled_at, closed_at, last_event_at, anomalies, event_count
             FROM hitherto.execution_report WHERE order_id = $1",
            &[&order_id],
        )
        .await
        .unwrap();
    Report {
        texts: std::array::from_fn(|at| row.get(at)),
        quantity: row.get(5),
        status: row.get(6),
        filled: row.get(7),
        leaves: row.get(8),
        average: row.get(9),
        commission: row.get(10),
        times: std::array::from_fn(|at| row.get(11 + at)),
        anomalies: row.get(16),
        events: row.get(17),
    }
}

/// Up to a dozen events of one order, likely and unlikely ones.
fn events() -> impl Strategy<Value = Vec<OrderEvent>> {
    let number = |low: i64, high: i64| (low..high).prop_map(|n| decimal(i128::from(n) * UNIT / 1_000_000));
    let quantity =
        prop_oneof![1 => number(-5_000_000, 1), 6 => number(1, 400_000_000), 3 => (1i64..5).prop_map(|n| Decimal::from(n * 100))];
    let kind = prop_oneof![
        1 => prop::sample::select(EventType::ALL),
        2 => prop::sample::select(&[EventType::Pending, EventType::Submitted, EventType::Rejected][..]),
        2 => Just(EventType::Fill),
    ];
    let word = |words: &'static [&'static str]| prop::option::of(prop::sample::select(words)).prop_map(|w| w.map(str::to_owned));
    let texts = (
        word(&["p1", "p2"]),
        word(&["A", "A", "A", "B"]),
        prop::option::of(prop::sample::select(Side::ALL)),
        word(&["limit", "market"]),
        word(&["x"]),
    );
    let numbers = (
        prop::option::of(quantity.clone()),
        prop::option::weighted(0.9, quantity),
        prop::option::weighted(0.9, number(1, 900_000_000)),
        prop::option::of(number(-100, 5_000_000)),
    );
    let event = (kind, 0i64..4, prop::option::of(0i64..3), 0usize..12, texts, numbers);
    prop::collection::vec(event, 1..12).prop_map(|all| {
        let start = "2026-06-01T14:30:00Z".parse::<DateTime<Utc>>().unwrap();
        let id = |n: usize| format!("e{n}");
        let mut events = Vec::new();
        for (n, (kind, second, sequence, about, texts, numbers)) in all.into_iter().enumerate() {
            let mut e = OrderEvent::new("order", kind).at(start + TimeDelta::seconds(second));
            e.event_id = id(n);
            e.sequence = sequence;
            (e.proposal_id, e.asset, e.side, e.order_type, e.broker) = texts;
            if matches!(kind, EventType::Pending | EventType::Submitted | EventType::Replaced) {
                e.quantity = numbers.0;
            }
            if matches!(kind, EventType::Fill | EventType::FillCorrected) {
                (e.last_quantity, e.last_price, e.commission) = (numbers.1, numbers.2, numbers.3);
            }
            if matches!(kind, EventType::FillCorrected | EventType::FillVoided) {
                e.ref_event_id = Some(id(about));
            }
            events.push(e);
        }
        events
    })
}

/// The events under ids of their own, so that cases share a database.
fn renamed(events: &[OrderEvent], order_id: &str) -> Vec<OrderEvent> {
    let mut events = events.to_vec();
    for e in &mut events {
        e.order_id = order_id.to_owned();
        e.event_id = format!("{order_id}-{}", e.event_id);
        e.ref_event_id = e.ref_event_id.as_ref().map(|id| format!("{order_id}-{id}"));
    }
    events
}

/// Shuffled, some of them more than once, cut into batches.
fn scattered(events: &[OrderEvent], random: &mut StdRng) -> Vec<Vec<OrderEvent>> {
    let mut all = events.to_vec();
    for _ in 0..random.random_range(0..=events.len()) {
        all.push(events[random.random_range(0..events.len())].clone());
    }
    all.shuffle(random);
    let mut batches = Vec::new();
    while !all.is_empty() {
        batches.push(all.split_off(random.random_range(0..all.len())));
    }
    batches
}

#[tokio::test]
async fn any_arrival_of_any_events_ends_in_the_report_of_the_book() {
    for db in harness::all().await {
        let cases = if db.name == "embedded" { 120 } else { 250 };
        let mut runner = TestRunner::new_with_rng(Config::default(), TestRng::deterministic_rng(Default::default()));
        let mut random = StdRng::seed_from_u64(3);
        let mut statuses = BTreeSet::new();
        let mut anomalies = BTreeSet::new();
        for case in 0..cases {
            let events = events().new_tree(&mut runner).unwrap().current();
            for arrival in 0..2 {
                let order_id = format!("{case}-{arrival}");
                let events = renamed(&events, &order_id);
                for batch in scattered(&events, &mut random) {
                    db.store.batch_store(&Batch::new("test", batch).unwrap()).await.unwrap();
                }
                let (found, expected) = (reported(&db.store, &order_id).await, fold(&events));
                assert_eq!(found, expected, "{}: {events:#?}", db.name);
                statuses.insert(found.status);
                anomalies.extend(found.anomalies);
            }
        }
        assert_eq!((statuses.len(), anomalies.len()), (7, 7), "{}: the cases reach everything: {statuses:?} {anomalies:?}", db.name);
    }
}

#[tokio::test]
async fn two_writers_on_the_same_orders_converge() {
    let mut dbs = vec![harness::native().await];
    dbs.extend(harness::native_timescaledb().await);
    for db in dbs {
        let mut runner = TestRunner::new_with_rng(Config::default(), TestRng::deterministic_rng(Default::default()));
        let mut random = StdRng::seed_from_u64(4);
        for round in 0..10 {
            let orders: Vec<Vec<OrderEvent>> =
                (0..8).map(|n| renamed(&events().new_tree(&mut runner).unwrap().current(), &format!("{round}-{n}"))).collect();
            let all: Vec<OrderEvent> = orders.iter().flatten().cloned().collect();
            let (one, two) = (scattered(&all, &mut random), scattered(&all, &mut random));
            let write = async |batches: Vec<Vec<OrderEvent>>| {
                for batch in batches {
                    db.store.batch_store(&Batch::new("test", batch).unwrap()).await.unwrap();
                }
            };
            tokio::join!(write(one), write(two));
            for events in orders {
                assert_eq!(reported(&db.store, &events[0].order_id).await, fold(&events), "{}: {events:#?}", db.name);
            }
        }
    }
}

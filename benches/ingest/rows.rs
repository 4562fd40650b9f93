//! Rows as modules write them, and how they are written and thrown away again.

use std::time::Instant;

use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use hitherto::records::{Decimal, EventType, HealthCheck, ModuleExecution, OrderEvent, Record, Side};
use hitherto::{Store, WriterConfig};

pub(crate) fn start() -> DateTime<Utc> {
    (Utc::now() - TimeDelta::days(6)).trunc_subsecs(0)
}

pub(crate) fn check(n: usize, at: DateTime<Utc>) -> HealthCheck {
    let mut check = HealthCheck::new(format!("module-{}", n % 16), "healthy").at(at);
    check.response_time_ms = Some((n % 977) as f64 / 10.0);
    check.error_count = (n % 3) as i32;
    check.memory_usage_mb = Some(100.0 + (n % 50) as f64);
    check.cpu_usage_percent = Some((n % 100) as f64);
    check
}

fn times(count: usize) -> impl Iterator<Item = (usize, DateTime<Utc>)> {
    let start = start();
    (0..count).map(move |n| (n, start + TimeDelta::milliseconds(n as i64 * 400)))
}

pub(crate) fn checks(count: usize) -> Vec<HealthCheck> {
    times(count).map(|(n, at)| check(n, at)).collect()
}

pub(crate) fn executions(count: usize) -> Vec<ModuleExecution> {
    times(count).map(|(n, at)| ModuleExecution::new(format!("module-{}", n % 16), (n % 977) as f64 / 10.0).at(at)).collect()
}

/// Four events an order: made, sent, two fills.
pub(crate) fn events(count: usize) -> Vec<OrderEvent> {
    let (quantity, price): (Decimal, Decimal) = (100.into(), "10.5".parse().unwrap());
    let (half, commission): (Decimal, Decimal) = (50.into(), "0.35".parse().unwrap());
    times(count)
        .map(|(n, at)| {
            let (order, step) = (n / 4, n % 4);
            let kind = [EventType::Pending, EventType::Submitted, EventType::Fill, EventType::Fill][step];
            let mut event = OrderEvent::new(format!("order-{order}"), kind).at(at).sequence(step as i64);
            event.event_id = format!("order-{order}-{step}");
            event = event.asset(format!("A{}", order % 20)).side(Side::Buy).order_type("limit").broker("paper").price(price);
            if step < 2 { event.quantity(quantity) } else { event.last_quantity(half).last_price(price).commission(commission) }
        })
        .collect()
}

/// Empties what the records' table and what hangs on it hold.
pub(crate) async fn truncate(store: &Store, table: &str) {
    let others = if table == "order_event" { ", hitherto.order_event_key, hitherto.execution_report" } else { "" };
    let statement =
        format!("SET session_replication_role = replica; TRUNCATE hitherto.{table}{others}; RESET session_replication_role; CHECKPOINT");
    store.client().await.unwrap().batch_execute(&statement).await.unwrap();
}

/// Seconds from the first `write` to the last COMMIT.
pub(crate) async fn write<R: Record>(store: &Store, config: WriterConfig, records: Vec<R>) -> f64 {
    let count = records.len() as u64;
    let began = Instant::now();
    let writer = store.writer(config);
    for record in records {
        writer.write(record).await.unwrap();
    }
    let stats = writer.close().await.unwrap();
    assert_eq!((stats.stored, stats.retries), (count, 0), "{} are stored at the first try", R::TABLE);
    began.elapsed().as_secs_f64()
}

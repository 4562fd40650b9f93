//! Connections that are cut at every message of a batch.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use futures_util::future::join_all;
use hitherto::records::{EventType, HealthCheck, Module, OrderEvent, Record, Side};
use hitherto::{Config, Store, Writer, WriterConfig};
use rand::seq::SliceRandom;
use tokio::sync::Mutex;

use super::proxy::{Fault, From, Plan, Proxy};
use super::tally::{Tally, close};
use super::{Seed, long, say};
use crate::harness::{self, Db};

/// A batch of some kind, no two alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    HealthCheck,
    OrderEvent,
    Module,
}

impl What {
    pub(super) const ALL: [Self; 3] = [Self::HealthCheck, Self::OrderEvent, Self::Module];

    pub(super) async fn write(self, writer: &Writer, tally: &Tally, rows: i32) {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Relaxed);
        match self {
            Self::HealthCheck => {
                let rows: Vec<_> = (0..rows).map(|n| HealthCheck::new(format!("m{number}"), "healthy").error_count(n)).collect();
                take(writer, &rows).await;
                tally.health_checks(&rows);
            }
            Self::OrderEvent => {
                let order = |n: i32| format!("order {number} {}", n % 3);
                let fill = |n: i32| {
                    OrderEvent::new(order(n), EventType::Fill).sequence(i64::from(n)).last_quantity(i64::from(n) + 1).last_price(2)
                };
                let rows: Vec<_> = (0..3)
                    .map(|n| OrderEvent::new(order(n), EventType::Submitted).sequence(-1).quantity(1000).asset("A").side(Side::Buy))
                    .chain((0..rows).map(fill))
                    .collect();
                take(writer, &rows).await;
                tally.order_events(&rows);
            }
            Self::Module => {
                // The last one of a name wins.
                let rows: Vec<_> = (0..4).map(|n| Module::new(format!("r{number} {}", n % 2), n.to_string())).collect();
                take(writer, &rows).await;
                tally.modules(&rows);
            }
        }
    }
}

async fn take<R: Record>(writer: &Writer, rows: &[R]) {
    for row in rows {
        writer.write(row.clone()).await.unwrap();
    }
}

/// A writer that makes one batch of all it is given until it is flushed.
pub(super) async fn patient(config: &Config, deadline: Duration) -> Writer {
    let mut writer = WriterConfig::new("cut");
    writer.max_age = Duration::from_secs(600);
    writer.deadline = deadline;
    Store::connect(config.clone()).await.unwrap().writer(writer)
}

/// One batch through the proxy; what went by is in the proxy's list.
async fn batch(proxy: &Proxy, db: &Db, tally: &Tally, what: What, warm: bool, plan: Option<Plan>) {
    let told = format!("{what:?}, {plan:?}, on a connection that {}", if warm { "was used before" } else { "is new" });
    let writer = patient(&proxy.config(&db.config), Duration::from_secs(20)).await;
    if warm {
        what.write(&writer, tally, 50).await;
        writer.flush().await.unwrap();
    }
    proxy.arm(plan);
    what.write(&writer, tally, 50).await;
    let stats = close(&[writer], &told).await;
    assert_eq!(stats.accepted, stats.stored + stats.duplicates, "{told}: {stats:?}");
    assert_eq!(proxy.fired(), plan.is_some(), "{told}: the message came");
}

/// Every message of a batch, cut before and after, of every kind of batch and on new and used connections.
async fn plans(proxy: &Proxy, db: &Db, tally: &Tally, seed: &Seed) -> Vec<(What, bool, Plan)> {
    let mut plans = Vec::new();
    for what in What::ALL {
        for warm in [false, true] {
            batch(proxy, db, tally, what, warm, None).await;
            for from in [From::Client, From::Server] {
                for message in 0..proxy.seen(from) {
                    for fault in [Fault::CutAfter, Fault::CutBefore] {
                        plans.push((what, warm, Plan { from, message, fault }));
                    }
                }
            }
        }
    }
    plans.shuffle(&mut seed.random());
    plans
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_cut_at_any_message_loses_and_doubles_nothing() {
    let seed = Seed::new("cuts");
    let db = Arc::new(harness::native().await);
    let tally = Tally::default();
    let first = Proxy::start(harness::server().port).await;
    let plans = plans(&first, &db, &tally, &seed).await;
    let count = plans.len();
    let plans = Arc::new(Mutex::new(plans));
    // Most of the time is spent in pauses before the next try.
    let lanes = (0..8).map(|_| {
        let (plans, db, tally) = (plans.clone(), db.clone(), tally.clone());
        tokio::spawn(async move {
            let proxy = Proxy::start(harness::server().port).await;
            while let Some((what, warm, plan)) = { plans.lock().await.pop() } {
                batch(&proxy, &db, &tally, what, warm, Some(plan)).await;
            }
        })
    });
    for lane in join_all(lanes).await {
        lane.unwrap();
    }
    let found = tally.check(&db.store, "cuts").await;
    if long() {
        say(&format!("seed {}: {count} cuts, {} rows, lost {}, twice {}", seed.value, found.rows, found.lost, found.twice));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_gives_a_byte_at_a_time_is_slow_and_no_more() {
    let db = harness::native().await;
    let tally = Tally::default();
    let proxy = Proxy::start(harness::server().port).await;
    proxy.drip(true);
    for what in What::ALL {
        batch(&proxy, &db, &tally, what, false, None).await;
    }
    tally.check(&db.store, "drip").await;
}

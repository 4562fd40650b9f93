//! How long one proposal's trail takes among 10,000,000 order events: `make bench`.
#![allow(clippy::print_stdout, reason = "printing is what it is for")]

#[path = "../tests/it/decisions.rs"]
mod decisions;
#[path = "../tests/it/harness.rs"]
#[allow(dead_code, reason = "the tests use the rest of it")]
mod harness;

use std::time::Instant;

const EVENTS: u32 = 10_000_000;
const ASKED: u32 = 101;

#[tokio::main]
async fn main() {
    // Cargo hands flags to every bench.
    if std::env::args().any(|a| a == "--test") {
        return;
    }
    for db in harness::private().await {
        let client = db.store.client().await.unwrap();
        client.batch_execute(&decisions::fill(EVENTS)).await.unwrap();
        if db.name == "timescaledb" {
            client.batch_execute(decisions::COMPRESS).await.unwrap();
        }
        drop(client);
        let mut times = Vec::new();
        for n in 0..ASKED {
            let id = format!("proposal-{}", u64::from(n) * 7919 % u64::from(EVENTS / 4));
            let began = Instant::now();
            assert_eq!(db.store.decision_trail(&id).await.unwrap().len(), 9);
            times.push(began.elapsed().as_secs_f64() * 1000.0);
        }
        times.sort_by(f64::total_cmp);
        let of = |percent: usize| times[times.len() * percent / 100];
        println!("{}: a trail among {EVENTS} order events takes {:.1} ms (median), {:.1} ms (99th percentile)", db.name, of(50), of(99));
    }
}

//! From `write` to committed at a steady rate, and what idle writers cost.

use std::time::{Duration, Instant};

use hitherto::WriterConfig;

use crate::harness::Db;
use crate::rows::{check, truncate};

const RATE: usize = 10_000;
const SECONDS: usize = 10;
const WRITERS: usize = 1_000;

/// Records of one table are stored in the order they were written, so that the n-th is committed once
/// n are stored: that is looked at every millisecond.
pub(crate) async fn run(db: &Db) {
    let writer = db.store.writer(WriterConfig::new("bench"));
    let total = RATE * SECONDS;
    let watching = tokio::spawn({
        let writer = writer.clone();
        async move {
            let mut committed: Vec<Instant> = Vec::with_capacity(total);
            while committed.len() < total {
                tokio::time::sleep(Duration::from_millis(1)).await;
                committed.resize(writer.stats().stored as usize, Instant::now());
            }
            committed
        }
    });
    let mut written = Vec::with_capacity(total);
    let mut tick = tokio::time::interval(Duration::from_millis(1));
    while written.len() < total {
        tick.tick().await;
        for _ in 0..RATE / 1000 {
            written.push(Instant::now());
            writer.write(check(written.len(), chrono::Utc::now())).await.unwrap();
        }
    }
    let committed = watching.await.unwrap();
    let batches = writer.close().await.unwrap().batches;
    let mut times: Vec<f64> = written.iter().zip(&committed).map(|(from, to)| to.duration_since(*from).as_secs_f64() * 1e3).collect();
    times.sort_by(f64::total_cmp);
    let at = |share: f64| times[((total - 1) as f64 * share) as usize];
    println!(
        "  write to committed at {RATE} records/s for {SECONDS} s: p50 {:.0} ms, p99 {:.0} ms (aim 250), most {:.0} ms; {batches} batches",
        at(0.5),
        at(0.99),
        at(1.0)
    );
    truncate(&db.store, "health_check").await;
}

/// Writers that have written, and have nothing to do.
pub(crate) async fn idle(db: &Db) {
    let writers: Vec<_> = (0..WRITERS).map(|n| db.store.writer(WriterConfig::new(format!("idle-{n}")))).collect();
    for writer in &writers {
        writer.write(check(0, chrono::Utc::now())).await.unwrap();
    }
    for writer in &writers {
        writer.flush().await.unwrap();
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    let before = cpu_milliseconds();
    tokio::time::sleep(Duration::from_secs(3)).await;
    println!("  {WRITERS} idle writers: {} ms of CPU in 3 s (aim 0)", cpu_milliseconds() - before);
    for writer in &writers {
        writer.close().await.unwrap();
    }
    truncate(&db.store, "health_check").await;
}

/// What this process has used, in steps of 10 ms.
fn cpu_milliseconds() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("the bench runs on Linux");
    let after_name = stat.rsplit_once(") ").unwrap().1;
    after_name.split(' ').skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap() * 10).sum()
}

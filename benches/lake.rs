//! An export after one new row against the full export of a year, in one run, as a user runs them: `make bench`.
#![allow(clippy::print_stdout, reason = "printing is what it is for")]

#[path = "../tests/it/harness.rs"]
#[allow(dead_code, reason = "the tests use the rest of it")]
mod harness;

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use chrono::{TimeDelta, Utc};
use hitherto::WriterConfig;
use hitherto::records::HealthCheck;

const DAYS: i64 = 365;
const ROWS_A_DAY: i64 = 5_000;
const ROUNDS: usize = 5;

#[tokio::main]
async fn main() {
    // Cargo hands flags to every bench.
    if std::env::args().any(|a| a == "--test") {
        return;
    }
    let mut dbs = harness::private().await;
    dbs.extend(harness::named().await);
    for db in dbs {
        println!("{} (PostgreSQL {})", db.name, db.store.capabilities().server_version);
        bench(&db, &db.any_url()).await;
    }
}

fn check(age: TimeDelta, n: i64) -> HealthCheck {
    let mut check = HealthCheck::new(format!("module-{}", n % 16), "healthy").at(Utc::now() - age);
    check.response_time_ms = Some((n % 977) as f64 / 10.0);
    check.memory_usage_mb = Some(100.0 + (n % 50) as f64);
    check
}

async fn bench(db: &harness::Db, url: &str) {
    let writer = db.store.writer(WriterConfig::new("bench"));
    for n in 0..DAYS * ROWS_A_DAY {
        writer.write(check(TimeDelta::seconds((DAYS * ROWS_A_DAY - n) * 86_400 / ROWS_A_DAY), n)).await.unwrap();
    }
    assert_eq!(writer.close().await.unwrap().stored, (DAYS * ROWS_A_DAY) as u64);
    db.store.client().await.unwrap().batch_execute("ANALYZE").await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let full = export(url, folder.path());
    let (mut one, mut late) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        // Today; then a day half a year ago.
        for (age, times) in [(TimeDelta::zero(), &mut one), (TimeDelta::days(180 + round as i64), &mut late)] {
            let writer = db.store.writer(WriterConfig::new("bench"));
            writer.write(check(age, 0)).await.unwrap();
            writer.close().await.unwrap();
            times.push(export(url, folder.path()));
        }
    }
    let nothing = export(url, folder.path());
    for (what, time) in [("one new row of today", median(one)), ("one late row", median(late)), ("nothing new", nothing)] {
        println!(
            "  {what:<24} {:>8.3} s  1/{:.0} of the full export (aim 1/50)",
            time.as_secs_f64(),
            full.as_secs_f64() / time.as_secs_f64()
        );
    }
    println!("  {:<24} {:>8.3} s  {} rows, {DAYS} days", "full", full.as_secs_f64(), DAYS * ROWS_A_DAY);
}

fn export(url: &str, folder: &Path) -> Duration {
    let began = Instant::now();
    let mut command = Command::new(env!("CARGO_BIN_EXE_hitherto"));
    let output = command.args(["export", "--lake", "lake"]).env("DATABASE_URL", url).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    began.elapsed()
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

//! The writer against whatever else brings rows in, on one server in one run: `make bench`.
//!
//! Ratios are what counts; machines differ and are shared. The server syncs its log to disk (fsync on).
//! `HITHERTO_TEST_DATABASE_URL` names another server than the bench's own; words after `--` pick parts
//! and tables: `cargo bench --bench ingest -- encode psql order_event`. `HITHERTO_BENCH_LONG=1` adds the run to 50,000,000 rows.
#![allow(clippy::print_stdout, reason = "printing is what it is for")]

#[path = "../../tests/it/harness.rs"]
#[allow(dead_code, reason = "the tests use the rest of it")]
mod harness;

mod encode;
mod latency;
mod long;
mod memory;
mod peers;
mod psql;
mod rows;

use harness::Db;
use hitherto::records::TABLES;

/// Rows of each table.
const ROWS: usize = 1_000_000;
/// Rounds of each side, taking turns; the median counts.
const ROUNDS: usize = 3;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    // Cargo hands flags to every bench.
    if std::env::args().any(|a| a == "--test") {
        return;
    }
    if let [child, rest @ ..] = &words[..]
        && child == memory::CHILD
    {
        return block_on(memory::child(rest));
    }
    let (tables, parts): (Vec<String>, Vec<String>) = words.into_iter().partition(|word| TABLES.contains(&word.as_str()));
    let named = |names: &[String], name: &str| names.is_empty() || names.iter().any(|word| word == name);
    let asked = |part: &str| named(&parts, part);
    let table = |name: &str| named(&tables, name);
    if asked("encode") {
        encode::run(&table);
    }
    harness::SERVER_OPTIONS.set("-c fsync=on -c shared_buffers=1GB -c max_wal_size=4GB").expect("nobody asked for the server yet");
    block_on(async {
        for db in databases().await {
            println!("{}, {}", db.name, db.store.capabilities().server_version);
            if asked("psql") {
                psql::run(&db, &table).await;
            }
            if asked("peers") {
                peers::run(&db, &table).await;
            }
            if asked("latency") {
                latency::run(&db).await;
            }
            if asked("idle") {
                latency::idle(&db).await;
            }
            if asked("memory") {
                memory::run(&db).await;
            }
            if asked("long") && std::env::var_os("HITHERTO_BENCH_LONG").is_some() {
                long::run(&db).await;
            }
        }
    });
}

fn block_on(work: impl Future<Output = ()>) {
    tokio::runtime::Runtime::new().unwrap().block_on(work);
}

async fn databases() -> Vec<Db> {
    match harness::named().await {
        Some(db) => vec![db],
        None => harness::private().await,
    }
}

fn median(mut seconds: Vec<f64>) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds[seconds.len() / 2]
}

fn line(what: &str, seconds: f64, rows: usize) {
    println!("  {what:<58} {seconds:>7.2} s  {:>9.0} rows/s", rows as f64 / seconds);
}

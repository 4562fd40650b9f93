//! The export against a raw COPY, DuckDB and ADBC, in one run: `make bench`.
//!
//! Ratios are what counts; machines differ and are shared. Every run is a process of its own, so that
//! its peak memory is its own too; each figure is the median of the rounds, the ways taking turns.
//! `HITHERTO_BENCH_ROWS` shortens it; `HITHERTO_TEST_DATABASE_URL` names a server with TimescaleDB.
#![allow(clippy::print_stdout, reason = "printing is what it is for")]

#[path = "../../tests/it/harness.rs"]
#[allow(dead_code, reason = "the tests use the rest of it")]
mod harness;
mod tables;

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use futures_util::StreamExt;
use hitherto::Config;
use hitherto_export::{Connector, Dataset, Options, export_file, export_lake};
use serde_json::{Value, json};

use tables::Table;

const ROUNDS: usize = 3;

/// The ways a table is read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    RawCopy,
    SortedCopy,
    File,
    Lake,
    DuckdbQuery,
    DuckdbAttached,
    Adbc,
}

const WAYS: [(Way, &str); 7] = [
    (Way::RawCopy, "COPY to nowhere, unsorted"),
    (Way::SortedCopy, "COPY to nowhere, ORDER BY"),
    (Way::File, "export --file"),
    (Way::Lake, "export --lake"),
    (Way::DuckdbQuery, "DuckDB postgres_query"),
    (Way::DuckdbAttached, "DuckDB attached"),
    (Way::Adbc, "ADBC and pyarrow"),
];

/// What a run took.
struct Run {
    seconds: f64,
    bytes: u64,
    peak_kb: u64,
}

#[tokio::main]
async fn main() {
    // Cargo hands flags to every bench.
    let args: Vec<String> = std::env::args().collect();
    if args.iter().any(|a| a == "--test") {
        return;
    }
    if let Some(at) = args.iter().position(|a| a == "--one-run") {
        return one_run(&args[at + 1..]).await;
    }
    let peers = peers();
    let db = match harness::named().await {
        Some(db) => db,
        None => match harness::native_timescaledb().await {
            Some(db) => db,
            None => harness::native().await,
        },
    };
    println!("{:?} (PostgreSQL {})", db.store.capabilities().engine, db.store.capabilities().server_version);
    let url = db.any_url();
    for table in tables::all(&db).await {
        println!("\n{}: {} rows x {} columns", table.name, table.rows, table.columns);
        compare(&table, &url, peers).await;
    }
}

/// Installs the peers, or says why they are left out.
fn peers() -> bool {
    let ready = Command::new("scripts/setup.sh").arg("bench").status().is_ok_and(|s| s.success());
    if !ready {
        println!("the other ways can't be installed (scripts/setup.sh bench); they are left out");
    }
    ready
}

async fn compare(table: &Table, url: &str, peers: bool) {
    let folder = tempfile::tempdir().unwrap();
    let mut runs: Vec<Vec<Run>> = WAYS.iter().map(|_| Vec::new()).collect();
    for _ in 0..ROUNDS {
        for ((way, _), runs) in WAYS.iter().zip(&mut runs) {
            runs.extend(run(*way, table, url, folder.path(), peers));
        }
    }
    let medians: Vec<Option<Run>> = runs.into_iter().map(median).collect();
    let seconds = |way: Way| WAYS.iter().zip(&medians).find(|((w, _), _)| *w == way).and_then(|(_, m)| m.as_ref()).map(|m| m.seconds);
    let raw = seconds(Way::RawCopy).unwrap();
    let duckdb = [Way::DuckdbQuery, Way::DuckdbAttached].into_iter().filter_map(seconds).reduce(f64::min);
    println!("  {:<27} {:>8} {:>10} {:>8} {:>9} {:>9} {:>9}", "", "seconds", "rows/s", "MB", "peak MB", "x COPY", "x DuckDB");
    for ((_, name), median) in WAYS.iter().zip(&medians) {
        let Some(m) = median else { continue };
        let against = duckdb.map_or_else(String::new, |duckdb| format!("{:.2}", duckdb / m.seconds));
        println!(
            "  {name:<27} {:>8.2} {:>10.0} {:>8.1} {:>9.0} {:>9.2} {against:>9}",
            m.seconds,
            table.rows as f64 / m.seconds,
            m.bytes as f64 / 1e6,
            m.peak_kb as f64 / 1e3,
            raw / m.seconds,
        );
    }
}

fn median(mut runs: Vec<Run>) -> Option<Run> {
    runs.sort_by(|a, b| a.seconds.total_cmp(&b.seconds));
    let at = runs.len() / 2;
    runs.into_iter().nth(at)
}

/// One run in a process of its own.
fn run(way: Way, table: &Table, url: &str, folder: &Path, peers: bool) -> Option<Run> {
    let target = folder.join("out.parquet");
    let _ = std::fs::remove_file(&target);
    let _ = std::fs::remove_dir_all(&target);
    let mut command = match way {
        Way::DuckdbQuery | Way::DuckdbAttached | Way::Adbc if !peers => return None,
        Way::DuckdbQuery | Way::DuckdbAttached | Way::Adbc => {
            let name = match way {
                Way::DuckdbQuery => "duckdb_query",
                Way::DuckdbAttached => "duckdb_attached",
                _ => "adbc",
            };
            let mut command = Command::new(".venv-bench/bin/python");
            command.args(["benches/export/peer.py", name, url, &table.query]);
            command
        }
        own => {
            let mut command = Command::new(std::env::current_exe().unwrap());
            let number = WAYS.iter().position(|(w, _)| *w == own).unwrap();
            command.args(["--one-run", &number.to_string(), url, &serde_json::to_string(table).unwrap()]);
            command
        }
    };
    let output = command.arg(&target).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    let number = |name: &str| told[name].as_u64().unwrap();
    Some(Run { seconds: told["seconds"].as_f64().unwrap(), bytes: number("bytes"), peak_kb: number("peak_kb") })
}

/// The other side of [`run`]: tells what it took as JSON.
async fn one_run(args: &[String]) {
    let [way, url, table, target] = args else { panic!("{args:?}") };
    let way = WAYS[way.parse::<usize>().unwrap()].0;
    let table: Table = serde_json::from_str(table).unwrap();
    let dataset = table.dataset();
    let config = Config::from_url(url).unwrap();
    let began = Instant::now();
    let mut client = config.connect().await.unwrap();
    let options = Options {
        connect: Some(Connector::new(move || {
            let config = config.clone();
            async move { config.connect().await }
        })),
        ..Options::default()
    };
    let bytes = match way {
        Way::RawCopy => nowhere(&client, &dataset, "").await,
        Way::SortedCopy => nowhere(&client, &dataset, &format!(" ORDER BY {}, {}", dataset.sort[0], table.time)).await,
        Way::Lake => {
            let done = export_lake(&mut client, target, &[dataset], &options, &mut |_| ()).await.unwrap();
            done[0].bytes
        }
        _ => export_file(&mut client, &dataset, Path::new(target), &options, &mut |_| ()).await.unwrap().bytes,
    };
    let seconds = began.elapsed().as_secs_f64();
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).and_then(|l| l.split_whitespace().next()).unwrap();
    println!("{}", json!({"seconds": seconds, "bytes": bytes, "peak_kb": peak.parse::<u64>().unwrap()}));
}

async fn nowhere(client: &tokio_postgres::Client, dataset: &Dataset, order: &str) -> u64 {
    let stream = client.copy_out(&format!("COPY ({}{order}) TO STDOUT (FORMAT binary)", dataset.query)).await.unwrap();
    let mut stream = std::pin::pin!(stream);
    let mut total = 0;
    while let Some(chunk) = stream.next().await {
        total += chunk.unwrap().len();
    }
    assert!(total > 0);
    0
}

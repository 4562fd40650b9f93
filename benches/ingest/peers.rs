//! Against one INSERT and COMMIT a row, and against the binary COPY of Python's drivers.

use std::process::{Command, Stdio};
use std::time::Instant;

use hitherto::WriterConfig;
use hitherto::records::{HealthCheck, ModuleExecution, Record};

use crate::harness::Db;
use crate::psql::Psql;
use crate::rows::{check, checks, executions, start, truncate, write};
use crate::{ROUNDS, ROWS, line, median};

/// Rows for one INSERT and COMMIT each: a million would take all day.
const SAMPLE: usize = 2_000;

/// Python's drivers.
const DRIVERS: [&str; 2] = ["psycopg", "asyncpg"];

pub(crate) async fn run(db: &Db, asked: &dyn Fn(&str) -> bool) {
    let python = python();
    if asked(HealthCheck::TABLE) {
        let ours = race(db, checks(ROWS), python).await;
        let row_by_row = inserts(db).await;
        let fsync: String = db.store.client().await.unwrap().query_one("SHOW fsync", &[]).await.unwrap().get(0);
        line(&format!("health_check: an INSERT and COMMIT a row (fsync {fsync})"), row_by_row, SAMPLE);
        let times = (row_by_row / SAMPLE as f64) / (ours / ROWS as f64);
        println!("  health_check: writer / INSERT and COMMIT a row {times:.0} (aim 300)");
        truncate(&db.store, HealthCheck::TABLE).await;
    }
    // COPY into order_event fires its triggers, whoever sends it: see psql.
    if asked(ModuleExecution::TABLE) {
        race(db, executions(ROWS), python).await;
    }
}

/// Seconds that the writer takes, after telling how that compares with Python's drivers.
async fn race<R: Record>(db: &Db, records: Vec<R>, python: bool) -> f64 {
    let one = WriterConfig::new("bench");
    let two = WriterConfig { connections: 2, ..one.clone() };
    let (mut ours, mut both, mut theirs) = (Vec::new(), Vec::new(), DRIVERS.map(|_| Vec::new()));
    for _ in 0..ROUNDS {
        for (config, times) in [(&one, &mut ours), (&two, &mut both)] {
            truncate(&db.store, R::TABLE).await;
            times.push(write(&db.store, config.clone(), records.clone()).await);
        }
        for (driver, times) in DRIVERS.iter().zip(&mut theirs).filter(|_| python) {
            truncate(&db.store, R::TABLE).await;
            times.push(copied(db, driver, R::TABLE));
        }
    }
    truncate(&db.store, R::TABLE).await;
    let (ours, both) = (median(ours), median(both));
    line(&format!("{}: writer", R::TABLE), ours, ROWS);
    for (driver, times) in DRIVERS.iter().zip(theirs).filter(|_| python) {
        let theirs = median(times);
        line(&format!("{}: {driver}, binary COPY row by row", R::TABLE), theirs, ROWS);
        println!("  {}: writer / {driver} {:.2} (aim 1.3); with two connections {:.2}", R::TABLE, theirs / ours, theirs / both);
    }
    ours
}

/// Seconds that a driver's COPY took.
fn copied(db: &Db, driver: &str, table: &str) -> f64 {
    let mut command = Psql::new(db).command(".venv-bench/bin/python");
    command.args(["benches/ingest/python_copy.py", driver, table]).arg(ROWS.to_string());
    let output = command.stderr(Stdio::inherit()).output().unwrap();
    String::from_utf8_lossy(&output.stdout).trim().parse().expect("the script prints its seconds")
}

async fn inserts(db: &Db) -> f64 {
    let client = db.config.connect().await.unwrap();
    let insert = "INSERT INTO hitherto.health_check (checked_at, module_id, status, response_time_ms, error_count, memory_usage_mb, cpu_usage_percent, batch_id)
        VALUES ($1, 1, $2, $3, $4, $5, $6, '00000000-0000-0000-0000-000000000007')";
    let insert = client.prepare(insert).await.unwrap();
    let start = start();
    let began = Instant::now();
    for n in 0..SAMPLE {
        let row = check(n, start + chrono::TimeDelta::milliseconds(n as i64));
        client
            .execute(
                &insert,
                &[&row.checked_at, &row.status, &row.response_time_ms, &row.error_count, &row.memory_usage_mb, &row.cpu_usage_percent],
            )
            .await
            .unwrap();
    }
    began.elapsed().as_secs_f64()
}

/// Installs Python's drivers, or says why they are left out.
fn python() -> bool {
    let ready = Command::new("scripts/setup.sh").arg("bench").status().is_ok_and(|s| s.success());
    if !ready {
        println!("  Python's drivers can't be installed (scripts/setup.sh bench); they are left out");
    }
    ready
}

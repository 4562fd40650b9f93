//! Against one INSERT and COMMIT a row, and against psycopg's binary COPY.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use hitherto::WriterConfig;

use crate::harness::Db;
use crate::psql::Psql;
use crate::rows::{check, checks, start, truncate, write};
use crate::{ROUNDS, ROWS, line, median};

/// Rows for one INSERT and COMMIT each: a million would take all day.
const SAMPLE: usize = 2_000;

const PSYCOPG: &str = include_str!("psycopg_copy.py");

pub(crate) async fn run(db: &Db) {
    let records = checks(ROWS);
    let one = WriterConfig::new("bench");
    let two = WriterConfig { connections: 2, ..one.clone() };
    let python = psycopg();
    let (mut ours, mut both, mut theirs) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        for (config, times) in [(&one, &mut ours), (&two, &mut both)] {
            truncate(&db.store, "health_check").await;
            times.push(write(&db.store, config.clone(), records.clone()).await);
        }
        if let Some(python) = &python {
            truncate(&db.store, "health_check").await;
            theirs.push(copied(db, python));
        }
    }
    drop(records);
    let (ours, both) = (median(ours), median(both));
    line("health_check: writer", ours, ROWS);
    let row_by_row = inserts(db).await;
    let fsync: String = db.store.client().await.unwrap().query_one("SHOW fsync", &[]).await.unwrap().get(0);
    line(&format!("health_check: an INSERT and COMMIT a row (fsync {fsync})"), row_by_row, SAMPLE);
    let times = (row_by_row / SAMPLE as f64) / (ours / ROWS as f64);
    println!("  health_check: writer / INSERT and COMMIT a row {times:.0} (aim 300)");
    if python.is_some() {
        let theirs = median(theirs);
        line("health_check: psycopg 3, binary COPY row by row", theirs, ROWS);
        println!("  health_check: writer / psycopg 3 {:.2} (aim 1.3); with two connections {:.2}", theirs / ours, theirs / both);
    } else {
        println!("  psycopg 3 could not be installed by pip, so it is not compared");
    }
    truncate(&db.store, "health_check").await;
}

/// Seconds that psycopg's COPY took.
fn copied(db: &Db, python: &Path) -> f64 {
    let mut command = Psql::new(db).command(python);
    let output = command.args(["-c", PSYCOPG]).arg(ROWS.to_string()).stderr(Stdio::inherit()).output().unwrap();
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

/// A Python that has psycopg 3, kept in target/.
fn psycopg() -> Option<std::path::PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/bench-venv");
    let python = folder.join("bin/python");
    let has = || Command::new(&python).args(["-c", "import psycopg"]).stderr(Stdio::null()).status().is_ok_and(|s| s.success());
    if !has() {
        let quiet = |command: &mut Command| command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|s| s.success());
        let made = quiet(Command::new("python3").args(["-m", "venv"]).arg(&folder))
            && quiet(Command::new(&python).args(["-m", "pip", "install", "--quiet", "psycopg[binary]==3.*"]));
        if !made || !has() {
            return None;
        }
    }
    Some(python)
}

//! Other people's readers of the lake, against SQL's answers: deltalake for Python, Polars, DuckDB, pyarrow.

use chrono::{TimeDelta, Utc};
use serde_json::json;
use tokio::process::Command;

use crate::bucket::{Bucket, python};
use crate::harness;
use crate::shell::{self, Shell, code, words};

async fn read(lake: &str, url: &str, variables: Vec<(&'static str, String)>) {
    let script = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/readers/readers.py");
    let output = Command::new(python()).arg(script).args([lake, url]).envs(variables).output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", words(&output));
    assert_eq!(said.lines().filter(|line| line.contains("agree with SQL")).count(), 10, "{said}");
}

#[tokio::test]
async fn every_reader_sees_what_sql_sees() {
    let (db, bucket) = (harness::native().await, Bucket::start().await);
    let shell = Shell::new(&db);
    let folder = shell.path("lake");
    let lake = folder.to_str().unwrap();
    let run = async |args: &[&str]| {
        let output = bucket.run(&shell.url, args).await;
        assert_eq!(code(&output), 0, "{args:?}: {}", words(&output));
    };
    // A trading day through the whole pipe: every dataset has rows.
    run(&["demo", "--lake", lake]).await;
    // A second export, of late rows on a day of their own, and of a day that retention has dropped: two files.
    let ingest = async |days_ago: i64, rows: i64| {
        let at = Utc::now() - TimeDelta::days(days_ago);
        let line = |n: i64| {
            json!({"module": "late", "checked_at": (at + TimeDelta::microseconds(n)).to_rfc3339_opts(chrono::SecondsFormat::Micros, true), "status": "healthy", "error_count": n})
                .to_string()
        };
        let text: Vec<String> = (0..rows).map(line).collect();
        let output = shell::run(&shell.url, shell.folder.path(), &["ingest", "health-check"], Some(text.join("\n").as_bytes())).await;
        assert_eq!(code(&output), 0, "{}", words(&output));
    };
    ingest(40, 300).await;
    run(&["export", "--lake", lake]).await;
    let client = db.store.client().await.unwrap();
    let horizon = "INSERT INTO hitherto.retention_horizon (table_name, dropped_before) VALUES ('health_check', now() - interval '30 days')
                   ON CONFLICT (table_name) DO UPDATE SET dropped_before = excluded.dropped_before";
    client.execute(horizon, &[]).await.unwrap();
    ingest(40, 301).await;
    run(&["export", "--lake", lake]).await;
    read(lake, &shell.url, Vec::new()).await;
    run(&["lake", "compact", lake, "--json"]).await;
    run(&["lake", "verify", lake, "--deep"]).await;
    read(lake, &shell.url, Vec::new()).await;
    run(&["export", "--lake", "s3://lakes/lake"]).await;
    read("s3://lakes/lake", &shell.url, bucket.variables()).await;
}

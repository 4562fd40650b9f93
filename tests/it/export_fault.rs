//! Exports that fail or are killed: whatever happens, readers see whole versions, and the next export ends
//! where the one before would have.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use arrow::array::AsArray;
use chrono::NaiveDate;
use hitherto::records::{HealthCheck, ModuleExecution, Record};
use hitherto::writer::Batch;
use hitherto_export::fault::Fault;
use hitherto_export::{Dataset, ExportErrorKind, export_lake};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::process::Command;

use crate::export::{files, live_files, read};
use crate::harness;
use crate::lab::{Lab, dataset, noon, shown};
use crate::shell::{Shell, code, words};

fn two() -> [Dataset; 2] {
    ["first", "second"].map(|name| Dataset { name: name.to_owned(), ..dataset() })
}

async fn export(lab: &mut Lab) -> Result<(), hitherto_export::ExportError> {
    let (lake, options) = (lab.lake(), lab.options.clone());
    export_lake(&mut lab.client, &lake, &two(), &options, &mut |_| ()).await.map(drop)
}

type Shown = Vec<Option<BTreeMap<NaiveDate, Vec<i32>>>>;

fn tables(lab: &Lab) -> Shown {
    ["first", "second"]
        .map(|name| lab.folder.path().join(name))
        .map(|table| table.join("_delta_log/00000000000000000000.json").exists().then(|| shown(&table)))
        .into()
}

/// Data files that no version of any table has ever named, and whatever else is not there for long.
fn leftovers(lake: &Path) -> Vec<String> {
    let mut named = BTreeSet::new();
    for log in files(lake).iter().filter(|f| f.contains("_delta_log") && f.ends_with(".json")) {
        let table = Path::new(log).ancestors().nth(2).unwrap();
        for line in std::fs::read_to_string(log).unwrap().lines() {
            let action: serde_json::Value = serde_json::from_str(line).unwrap();
            if let Some(path) = action["add"]["path"].as_str() {
                named.insert(table.join(path).display().to_string());
            }
        }
    }
    let passing = |f: &&String| {
        f.ends_with(".parquet") && !f.contains("_delta_log") && !named.contains(*f) || f.contains('#') || f.ends_with("_unfinished")
    };
    files(lake).iter().filter(passing).cloned().collect()
}

#[tokio::test]
async fn a_step_that_fails_or_is_the_last_leaves_whole_versions_and_the_next_export_ends_it() {
    for dies in [false, true] {
        for fresh in [true, false] {
            let mut lab = Lab::new().await;
            lab.store(&[noon(0), noon(1)]).await;
            let mut failures = 0;
            for at in 0.. {
                if fresh {
                    lab.folder = tempfile::tempdir().unwrap();
                } else {
                    export(&mut lab).await.unwrap();
                }
                let before = tables(&lab);
                lab.store(&[noon(1), noon(at as u64 % 4)]).await;
                let fault = Fault::new(lab.folder.path(), at, dies);
                let outcome = export(&mut lab).await;
                let taken = fault.taken();
                drop(fault);
                let context = format!("step {at} of {taken}, dies: {dies}, fresh: {fresh}");
                let midway = tables(&lab);
                if let Err(error) = &outcome {
                    failures += 1;
                    let told = error.to_string();
                    assert!(error.kind() == ExportErrorKind::Lake && told.contains(&lab.lake()), "{context}: {told}");
                    if !dies {
                        assert_eq!(leftovers(lab.folder.path()), [""; 0], "{context}: {told}");
                    }
                }
                export(&mut lab).await.unwrap_or_else(|e| panic!("{context}: the next export failed: {e}"));
                let after = tables(&lab);
                for (at, table) in midway.iter().enumerate() {
                    assert!(*table == before[at] || *table == after[at], "{context}: half a version of table {at}: {table:?}");
                }
                assert_eq!(after[0], after[1], "{context}");
                assert_eq!(leftovers(lab.folder.path()), [""; 0], "{context}");
                if taken <= at {
                    outcome.unwrap();
                    break;
                }
            }
            assert!(failures > 20, "only {failures} steps failed, dies: {dies}, fresh: {fresh}");
        }
    }
}

/// By batch, how many rows of it a table shows.
fn by_batch(table: &Path) -> BTreeMap<String, i64> {
    let mut rows = BTreeMap::new();
    if table.join("_delta_log/00000000000000000000.json").exists() {
        for file in live_files(table) {
            let batch = read(&table.join(file));
            for id in batch.column_by_name("batch_id").unwrap().as_string::<i32>().iter().flatten() {
                *rows.entry(id.to_owned()).or_default() += 1;
            }
        }
    }
    rows
}

async fn store<R: Record>(db: &harness::Db, rows: Vec<R>) {
    db.store.batch_store(&Batch::new("test", rows).unwrap()).await.unwrap();
}

#[tokio::test]
async fn exports_that_are_killed_at_any_moment_show_whole_batches_alone() {
    let db = harness::native().await;
    let shell = Shell::new(&db);
    let mut random = StdRng::seed_from_u64(5);
    let lake = shell.path("lake");
    let began = Instant::now();
    let (mut killed, mut usual) = (0, Duration::from_millis(800));
    for round in 0..20 {
        let ages: Vec<i64> = (0..50).map(|_| random.random_range(1..20)).collect();
        let at = |age: i64| chrono::Utc::now() - chrono::TimeDelta::days(age);
        store(&db, ages.iter().map(|age| HealthCheck::new("m", "healthy").at(at(*age))).collect()).await;
        store(&db, ages.iter().map(|age| ModuleExecution::new("m", 1.0).at(at(*age))).collect()).await;
        let mut child = Command::new(env!("CARGO_BIN_EXE_hitherto"))
            .args(["export", "--lake", "lake"])
            .env("DATABASE_URL", &shell.url)
            .current_dir(shell.folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let started = Instant::now();
        let patience = usual.mul_f64(random.random_range(0.0..1.0));
        match tokio::time::timeout(patience, child.wait()).await {
            Ok(status) => {
                assert!(status.unwrap().success(), "round {round}");
                usual = started.elapsed();
            }
            Err(_) => {
                child.kill().await.unwrap();
                killed += 1;
            }
        }
        for (dataset, table) in [("health_check", lake.join("health_check")), ("module_execution", lake.join("module_execution"))] {
            let client = db.store.client().await.unwrap();
            let query = "SELECT batch_id::text, row_count FROM hitherto.ingest_batch WHERE table_name = $1";
            let owed: BTreeMap<String, i64> =
                client.query(query, &[&dataset]).await.unwrap().iter().map(|r| (r.get(0), r.get(1))).collect();
            for (batch, rows) in by_batch(&table) {
                assert_eq!(Some(&rows), owed.get(&batch), "round {round}: a part of a batch shows in {dataset}");
            }
        }
    }
    assert!(killed >= 5, "only {killed} of 20 were killed");
    let last = shell.run(&["export", "--lake", "lake"]).await;
    assert_eq!(code(&last), 0, "{}", words(&last));
    assert_eq!(leftovers(&lake), [""; 0]);
    for dataset in ["health_check", "module_execution"] {
        assert_eq!(by_batch(&lake.join(dataset)).values().sum::<i64>(), 1_000, "{dataset}");
    }
    assert!(began.elapsed() < Duration::from_secs(240), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_folder_that_cannot_be_written_to_is_named() {
    let mut lab = Lab::new().await;
    lab.store(&[noon(0)]).await;
    lab.export().await.unwrap();
    // Root may write anywhere, but for what is marked so.
    let chattr = |flag: &str| std::process::Command::new("chattr").arg(flag).arg(lab.folder.path()).status().is_ok_and(|s| s.success());
    if !chattr("+i") {
        #[allow(clippy::print_stderr, reason = "whoever runs the tests must know what did not run")]
        {
            eprintln!("skipped: chattr +i does not work here (it needs root, and a file system that knows it)");
        }
        return;
    }
    lab.store(&[noon(1)]).await;
    let outcome = lab.export().await;
    assert!(std::process::Command::new("chattr").arg("-i").arg(lab.folder.path()).status().unwrap().success());
    let error = outcome.unwrap_err();
    assert!(error.kind() == ExportErrorKind::Lake && error.to_string().contains(&lab.lake()), "{error}");
    assert_eq!(shown(&lab.table()).len(), 1);
    assert_eq!(leftovers(lab.folder.path()), [""; 0]);
    lab.export().await.unwrap();
    assert_eq!(shown(&lab.table()).len(), 2);
}

//! Files of refused lines, and who writes to them.

use std::path::Path;
use std::time::Duration;

use hitherto::{ErrorKind, Store};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::harness;
use crate::pipe::{Pipe, until};
use crate::shell::{CHECKS, Shell, check, code, document, run, words};

/// What a file of refused lines holds: numbers and texts.
fn refused(path: &Path) -> Vec<(u64, String)> {
    let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let line = |line: &str| {
        let reject: Value = serde_json::from_str(line).unwrap();
        (reject["line"].as_u64().unwrap(), reject["text"].as_str().unwrap().to_owned())
    };
    text.lines().map(line).collect()
}

fn names(shell: &Shell) -> Vec<String> {
    let mut names: Vec<String> =
        std::fs::read_dir(shell.folder.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn two_tables_from_standard_input_in_one_folder_keep_their_refused_lines_apart() {
    let db = harness::native().await;
    let shell = Shell::new(&db);
    let signal = json!({"module": "m", "emitted_at": "2026-10-01T00:00:00Z", "kind": "k"}).to_string();
    let mut checks = Pipe::open(&shell, &shell.url, &["health-check", "--max-age", "10ms"]);
    let mut signals = Pipe::open(&shell, &shell.url, &["signal", "--max-age", "10ms"]);
    checks.feed(&format!("bad check\n{}\n", check(0))).await;
    signals.feed(&format!("{signal}\nbad signal\n")).await;
    until(&db, CHECKS, 1).await;
    until(&db, "SELECT count(*) FROM hitherto.signal", 1).await;
    for mut pipe in [checks, signals] {
        pipe.close();
        let output = pipe.end().await;
        assert_eq!(code(&output), 1, "{}", words(&output));
    }
    assert_eq!(names(&shell), ["stdin.health_check.rejected.ndjson", "stdin.signal.rejected.ndjson"]);
    assert_eq!(refused(&shell.path("stdin.health_check.rejected.ndjson")), [(1, "bad check".to_owned())]);
    assert_eq!(refused(&shell.path("stdin.signal.rejected.ndjson")), [(2, "bad signal".to_owned())]);
}

#[tokio::test]
async fn a_second_run_on_a_file_of_refused_lines_is_told_before_it_reads() {
    let db = harness::native().await;
    let shell = Shell::new(&db);
    let mut first = Pipe::open(&shell, &shell.url, &["health-check", "--max-age", "10ms"]);
    first.feed(&format!("bad\n{}\n", check(0))).await;
    until(&db, CHECKS, 1).await;
    for spool in [&[][..], &["--spool", "spool"]] {
        let mut args = vec!["ingest", "health-check"];
        args.extend_from_slice(spool);
        let output = run(&shell.url, shell.folder.path(), &args, Some(b"worse\n")).await;
        let told = words(&output);
        assert_eq!(code(&output), 4, "{told}");
        assert!(told.contains("stdin.health_check.rejected.ndjson is in use by the program with process id "), "{told}");
        assert!(told.contains("--rejects"), "{told}");
        assert!(!shell.path("spool").exists());
    }
    // By another name it may.
    let args = ["ingest", "health-check", "--json", "--rejects", "./other.ndjson"];
    let output = run(&shell.url, shell.folder.path(), &args, Some(format!("{}\nother\n", check(1)).as_bytes())).await;
    assert_eq!((code(&output), document(&output)["stored"].as_i64()), (1, Some(1)), "{}", words(&output));
    assert!(first.runs());
    first.close();
    assert_eq!(code(&first.end().await), 1);
    assert_eq!(refused(&shell.path("stdin.health_check.rejected.ndjson")), [(1, "bad".to_owned())]);
    assert_eq!(names(&shell), ["other.ndjson", "stdin.health_check.rejected.ndjson"], "nothing else stays behind");
    // The next run keeps what the one before refused.
    let output = run(&shell.url, shell.folder.path(), &["ingest", "health-check"], Some(b"\nworse\n")).await;
    assert_eq!(code(&output), 1, "{}", words(&output));
    let both = refused(&shell.path("stdin.health_check.rejected.ndjson"));
    assert_eq!(both.len(), 2, "{both:?}");
}

#[tokio::test]
async fn a_run_that_was_killed_keeps_no_file_of_refused_lines_from_the_next() {
    let db = harness::native().await;
    let shell = Shell::new(&db);
    let mut killed = Pipe::open(&shell, &shell.url, &["health-check", "--max-age", "10ms"]);
    killed.feed(&format!("{}\n", check(0))).await;
    until(&db, CHECKS, 1).await;
    killed.signal("-KILL").await;
    killed.end().await;
    let output = run(&shell.url, shell.folder.path(), &["ingest", "health-check"], Some(b"bad\n")).await;
    assert_eq!(code(&output), 1, "{}", words(&output));
    assert_eq!(names(&shell), ["stdin.health_check.rejected.ndjson"]);
}

#[tokio::test]
async fn a_look_into_the_ledger_that_took_too_long_leaves_no_connection_amid_a_query() {
    let db = harness::native().await;
    let mut config = db.config.clone();
    (config.pool_size, config.statement_timeout) = (1, Duration::from_millis(500));
    let store = Store::connect(config).await.unwrap();
    let session = async || {
        let client = store.client().await.unwrap();
        let asked = client.query_one("SELECT pg_backend_pid()", &[]);
        tokio::time::timeout(Duration::from_secs(5), asked).await.expect("nothing waits before it").unwrap().get::<_, i32>(0)
    };
    let known = async || store.batches_known((Uuid::nil(), Uuid::max()), &[]).await;
    assert!(known().await.unwrap().is_empty());
    let before = session().await;
    assert!(known().await.unwrap().is_empty());
    assert_eq!(session().await, before, "what was answered goes back to the pool");
    let mut locker = db.config.connect().await.unwrap();
    let lock = locker.transaction().await.unwrap();
    lock.batch_execute("LOCK TABLE hitherto.ingest_batch IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let error = known().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    assert!(error.to_string().contains("ledger"), "{error}");
    assert_ne!(session().await, before);
    lock.rollback().await.unwrap();
    assert!(known().await.unwrap().is_empty());
}

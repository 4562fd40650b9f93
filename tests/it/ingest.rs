//! Newline-delimited JSON in.

use serde_json::{Value, json};

use crate::harness;
use crate::shell::{CHECKS, Shell, check, code, count, document, run, words};

#[tokio::test]
async fn bad_lines_are_set_apart_with_number_and_reason_and_good_ones_stored() {
    let db = harness::native().await;
    let shell = Shell::new(&db);
    let good = check(1);
    let at = "2026-10-01T00:00:00Z";
    let mut file = Vec::new();
    let mut bad: Vec<(usize, &str)> = Vec::new();
    let mut line = |bytes: &[u8], reason: Option<&'static str>| {
        let number = file.iter().filter(|b| **b == b'\n').count() + 1;
        file.extend_from_slice(bytes);
        file.push(b'\n');
        bad.extend(reason.map(|reason| (number, reason)));
    };
    line(good.as_bytes(), None);
    line(b"{\"module\": \"m\", ", Some("EOF while parsing"));
    line(format!(r#"{{"module":"m","checked_at":"{at}","status":"healthy","colour":1}}"#).as_bytes(), Some("unknown field `colour`"));
    line(format!(r#"{{"module":"m","checked_at":"{at}","status":7}}"#).as_bytes(), Some("invalid type: integer `7`, expected a string"));
    line(format!(r#"{{"module":"m","checked_at":"{at}","status":"healthy","response_time_ms":NaN}}"#).as_bytes(), Some("expected value"));
    line(
        br#"{"module":"m","checked_at":"9999-01-01T00:00:00Z","status":"healthy"}"#,
        Some("health_check.checked_at: 9999-01-01T00:00:00+00:00 is more than 60 minutes ahead"),
    );
    line(br#"{"module":"m","checked_at":"2026-10-01T00:00:00","status":"healthy"}"#, Some("premature end of input"));
    line(b"", None);
    line(&vec![b'x'; 10 << 20], Some("the line is longer than 1048576 bytes"));
    line(
        format!(r#"{{"module":"m\u0000","checked_at":"{at}","status":"healthy"}}"#).as_bytes(),
        Some("health_check.module: holds a NUL character"),
    );
    line(b"{\"module\":\"\xff\"}", Some("not UTF-8"));
    line(
        format!(r#"{{"module":"m","checked_at":"{at}","status":"healthy","response_time_ms":-1}}"#).as_bytes(),
        Some("health_check.response_time_ms: -1 is negative"),
    );
    line(
        format!(r#"{{"module":"m","checked_at":"{at}","status":"healthy","details":"{}"}}"#, "y".repeat(300_000)).as_bytes(),
        Some("bytes of JSON, more than 262144"),
    );
    line(b"null", Some("invalid type: null"));
    line(check(2).as_bytes(), None);
    let end = file.len();
    file.extend_from_slice(b"{\"module\": \"m\", \"checked");
    bad.push((file[..end].iter().filter(|b| **b == b'\n').count() + 1, "the file ends amid this line"));
    let path = shell.write("checks.ndjson", &file);

    let output = shell.run(&["ingest", "health-check", path.to_str().unwrap(), "--json"]).await;
    assert_eq!(code(&output), 1, "{}", words(&output));
    let summary = document(&output);
    assert_eq!((summary["stored"].as_i64(), summary["rejected"].as_u64()), (Some(2), Some(bad.len() as u64)), "{summary}");
    assert_eq!(count(&db, CHECKS).await, 2);
    let rejects = std::fs::read_to_string(shell.path("checks.ndjson.rejected.ndjson")).unwrap();
    for (reject, (number, reason)) in rejects.lines().zip(&bad) {
        let reject: Value = serde_json::from_str(reject).unwrap();
        assert_eq!(reject["line"], *number);
        assert!(reject["reason"].as_str().unwrap().contains(reason), "{reason}: {}", reject["reason"]);
    }
    assert_eq!(rejects.lines().count(), bad.len());
}

#[tokio::test]
async fn a_file_adds_its_rows_once_and_what_it_grows_by_once() {
    let db = harness::native().await;
    let shell = Shell::new(&db);
    let mut lines: Vec<String> = (0..12_345).map(check).collect();
    // Two equal lines are two rows.
    lines.push(lines[0].clone());
    let ingest = async |lines: &[String]| {
        let path = shell.write("grows.ndjson", lines.join("\n"));
        let output = shell.run(&["ingest", "health-check", path.to_str().unwrap(), "--json"]).await;
        assert_eq!(code(&output), 0, "{}", words(&output));
        let summary = document(&output);
        (summary["stored"].as_i64().unwrap(), summary["already"].as_i64().unwrap())
    };
    assert_eq!(ingest(&lines).await, (12_346, 0));
    assert_eq!(ingest(&lines).await, (0, 12_346));
    lines.extend((20_000..23_000).map(check));
    assert_eq!(ingest(&lines).await, (3000, 12_346));
    assert_eq!(ingest(&lines).await, (0, 15_346));
    assert_eq!(count(&db, CHECKS).await, 15_346);
    assert_eq!(count(&db, "SELECT sum(row_count)::bigint FROM hitherto.ingest_batch").await, 15_346);
}

#[tokio::test]
async fn a_file_that_ended_amid_a_line_adds_the_line_once_it_is_whole() {
    let db = harness::native().await;
    let shell = Shell::new(&db);
    let lines: Vec<String> = (0..4).map(check).collect();
    let whole = lines.join("\n") + "\n";
    let half = whole.len() - 20;
    let ingest = async |text: &str| {
        let path = shell.write("half.ndjson", text);
        let output = shell.run(&["ingest", "health-check", path.to_str().unwrap(), "--json"]).await;
        (code(&output), document(&output)["stored"].as_i64().unwrap(), document(&output)["rejected"].as_i64().unwrap())
    };
    assert_eq!(ingest(&whole[..half]).await, (1, 3, 1));
    assert_eq!(ingest(&whole[..half]).await, (1, 0, 1));
    assert_eq!(ingest(&whole).await, (0, 1, 0));
    assert_eq!(count(&db, CHECKS).await, 4);
    assert!(!shell.path("half.ndjson.rejected.ndjson").exists(), "nothing is refused any more");
}

/// How long an early line stays early: longer than a busy machine takes to read it.
const EARLY: std::time::Duration = std::time::Duration::from_secs(15);

/// A line that is refused for its time now, and would not be later.
fn early() -> String {
    let soon = chrono::Utc::now() + chrono::TimeDelta::hours(1) + EARLY;
    json!({"module": "m", "checked_at": soon.to_rfc3339_opts(chrono::SecondsFormat::Micros, true), "status": "healthy"}).to_string()
}

#[tokio::test]
async fn a_run_that_is_killed_is_finished_by_the_next() {
    let db = harness::native().await;
    let shell = Shell::new(&db);
    let mut lines = vec![early()];
    lines.extend((0..40_000).map(check));
    let path = shell.write("killed.ndjson", lines.join("\n"));
    for kill in 1..=2 {
        let mut ingest = tokio::process::Command::new(env!("CARGO_BIN_EXE_hitherto"))
            .args(["ingest", "health-check", path.to_str().unwrap()])
            .env("DATABASE_URL", &shell.url)
            .spawn()
            .unwrap();
        let began = std::time::Instant::now();
        while count(&db, "SELECT count(*) FROM hitherto.ingest_batch").await < kill {
            assert!(began.elapsed() < std::time::Duration::from_secs(60), "it stores nothing");
        }
        ingest.kill().await.unwrap();
    }
    let rejects = shell.path("killed.ndjson.rejected.ndjson");
    // As a run leaves it that is killed while it writes a refused line down.
    let torn = std::fs::read_to_string(&rejects).unwrap() + r#"{"line":12,"reas"#;
    std::fs::write(&rejects, torn).unwrap();
    tokio::time::sleep(EARLY).await;
    let output = shell.run(&["ingest", "health-check", path.to_str().unwrap(), "--json"]).await;
    assert_eq!((code(&output), document(&output)["rejected"].as_i64()), (1, Some(1)), "{}", words(&output));
    assert_eq!(count(&db, CHECKS).await, 40_000);
    assert_eq!(count(&db, "SELECT count(DISTINCT error_count) FROM hitherto.health_check").await, 40_000);
    assert_eq!(count(&db, "SELECT sum(row_count)::bigint FROM hitherto.ingest_batch").await, 40_000);
    let output = shell.run(&["ingest", "health-check", rejects.to_str().unwrap()]).await;
    assert_eq!((code(&output), count(&db, CHECKS).await), (0, 40_001), "{}", words(&output));
}

#[tokio::test]
async fn a_line_that_was_refused_stays_told_until_it_is_stored() {
    let db = harness::native().await;
    let shell = Shell::new(&db);
    let early = early();
    let path = shell.write("early.ndjson", format!("{}\n{early}\n{}\n", check(0), check(1)));
    let ingest = async |path: &std::path::Path| {
        let output = shell.run(&["ingest", "health-check", path.to_str().unwrap(), "--json"]).await;
        (code(&output), document(&output)["stored"].as_i64().unwrap(), document(&output)["rejected"].as_i64().unwrap())
    };
    assert_eq!(ingest(&path).await, (1, 2, 1));
    tokio::time::sleep(EARLY).await;
    assert_eq!(ingest(&path).await, (1, 0, 1), "the part is passed over, the line stays refused");
    // The file of refused lines is what is ingested next.
    assert_eq!(ingest(&shell.path("early.ndjson.rejected.ndjson")).await, (0, 1, 0));
    assert_eq!(count(&db, CHECKS).await, 3);
}

#[tokio::test]
async fn rejects_replace_no_other_file() {
    let db = harness::native().await;
    let shell = Shell::new(&db);
    let path = shell.write("c.ndjson", check(0) + "\nnonsense\n");
    let precious = shell.write("precious.txt", "my thesis\n");
    for rejects in [precious.to_str().unwrap(), &format!("{}/./c.ndjson", shell.folder.path().display())] {
        let output = shell.run(&["ingest", "health-check", path.to_str().unwrap(), "--rejects", rejects]).await;
        assert_eq!(code(&output), 2, "{}", words(&output));
    }
    assert_eq!(std::fs::read_to_string(precious).unwrap(), "my thesis\n");
    assert_eq!(count(&db, CHECKS).await, 0);
    let output = shell.run(&["ingest", "health-check", path.to_str().unwrap(), "--rejects", "/dev/null"]).await;
    assert_eq!(code(&output), 1, "{}", words(&output));
    assert!(!std::fs::metadata("/dev/null").unwrap().is_file());
}

#[tokio::test]
async fn decimals_are_kept_to_the_last_digit_and_missing_ids_are_derived() {
    let db = harness::native().await;
    let shell = Shell::new(&db);
    let line = r#"{"event_at":"2026-10-01T09:30:00.123456-04:00","order_id":"o","event_type":"fill","asset":"A","last_quantity":0.123456789012345678,"last_price":"12345678901234567890.000000000000000001"}"#;
    for stored in [1, 0] {
        let output = run(&shell.url, shell.folder.path(), &["ingest", "order-event", "--json"], Some(line.as_bytes())).await;
        assert_eq!((code(&output), document(&output)["stored"].as_i64()), (0, Some(stored)), "{}", words(&output));
    }
    // The same line in another file: the event's derived id is what finds it.
    let path = shell.write("other.ndjson", format!("{line}\n{}\n", line.replace("09:30", "09:31")));
    let output = shell.run(&["ingest", "order-event", path.to_str().unwrap(), "--json"]).await;
    assert_eq!((document(&output)["stored"].as_i64(), document(&output)["already"].as_i64()), (Some(1), Some(1)));
    let row = db
        .store
        .client()
        .await
        .unwrap()
        .query_one("SELECT last_quantity::text, last_price::text, event_at::text FROM hitherto.order_event ORDER BY event_at LIMIT 1", &[])
        .await
        .unwrap();
    assert_eq!(row.get::<_, &str>(0), "0.123456789012345678");
    assert_eq!(row.get::<_, &str>(1), "12345678901234567890.000000000000000001");
    assert!(row.get::<_, &str>(2).contains(":30:00.123456"));
}

#[tokio::test]
async fn every_record_can_be_ingested() {
    let db = harness::native().await;
    let shell = Shell::new(&db);
    for (record, line) in [
        ("module", json!({"name": "m", "version": "2"})),
        ("module-execution", json!({"module": "m", "started_at": "2026-10-01T00:00:00Z", "duration_ms": 1, "success": true})),
        ("signal", json!({"module": "m", "emitted_at": "2026-10-01T00:00:00Z", "kind": "k"})),
        ("proposal", json!({"proposal_id": "p", "module": "m", "proposed_at": "2026-10-01T00:00:00Z"})),
        (
            "risk-evaluation",
            json!({"proposal_id": "p", "module": "m", "evaluated_at": "2026-10-01T00:00:00Z", "risk_level": "low", "verdict": "approved"}),
        ),
        ("portfolio-snapshot", json!({"taken_at": "2026-10-01T00:00:00Z", "positions": {"A": 1}, "cash_balance": "1", "total_value": 2})),
        ("regime-state", json!({"regime": "bull", "confidence": 0.5, "classified_by": "m", "proposed_at": "2026-10-01T00:00:00Z"})),
    ] {
        let output = run(&shell.url, shell.folder.path(), &["ingest", record, "-", "--json"], Some(line.to_string().as_bytes())).await;
        assert_eq!((code(&output), document(&output)["stored"].as_i64()), (0, Some(1)), "{record}: {}", words(&output));
    }
    let output = run(
        &shell.url,
        shell.folder.path(),
        &["ingest", "risk-evaluation"],
        Some(br#"{"proposal_id":"p","module":"m","evaluated_at":"2026-10-01T00:00:00Z","risk_level":"tiny","verdict":"approved"}"#),
    )
    .await;
    assert_eq!(code(&output), 1);
    assert!(words(&output).contains("unknown variant `tiny`, expected one of `low`, `medium`, `high`, `critical`"), "{}", words(&output));
    assert!(shell.path("stdin.risk_evaluation.rejected.ndjson").exists());
}

#[tokio::test]
async fn rows_that_the_database_refuses_end_with_a_finding() {
    let db = harness::native().await;
    let shell = Shell::new(&db);
    db.store
        .client()
        .await
        .unwrap()
        .batch_execute("ALTER TABLE hitherto.health_check ADD CONSTRAINT small CHECK (error_count < 5)")
        .await
        .unwrap();
    let path = shell.write("c.ndjson", (0..10).map(check).collect::<Vec<_>>().join("\n"));
    let output = shell.run(&["ingest", "health-check", path.to_str().unwrap(), "--json"]).await;
    assert_eq!((code(&output), document(&output)["quarantined"].as_i64(), count(&db, CHECKS).await), (1, Some(5), 5));
    let output = shell.run(&["doctor", "--json"]).await;
    assert_eq!(code(&output), 1);
    assert!(document(&output)["findings"][0].as_str().unwrap().contains("5 rows wait in quarantine"));
}

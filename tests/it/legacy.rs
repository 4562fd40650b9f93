//! The old system's code, in Python, on its tables' names.

use std::path::{Path, PathBuf};

use chrono::{TimeDelta, Utc};
use hitherto::records::{Decimal, HealthCheck, Json, PortfolioSnapshot, RiskEvaluation, RiskLevel, Verdict};
use hitherto::{Store, WriterConfig};
use tokio::process::Command;

use crate::harness::{self, Db};
use crate::shell;

/// The interpreter that `make setup` fills.
fn python() -> PathBuf {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join(".venv/bin/python");
    assert!(python.exists(), "{} is missing; run: make setup", python.display());
    python
}

async fn run(script: &str, envs: &[(&str, &str)]) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/legacy");
    let output = Command::new(python())
        .args(["-W", "ignore::DeprecationWarning", script])
        .current_dir(folder)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .envs(envs.iter().copied())
        .output()
        .await
        .unwrap();
    assert!(output.status.success(), "{script} {envs:?}:\n{}", String::from_utf8_lossy(&output.stderr));
}

/// The old code changes its connection string, and nothing else.
fn legacy_url(db: &Db) -> Option<String> {
    let url = db.url()?.replace("postgresql://", "postgresql+psycopg2://");
    let sign = if url.contains('?') { '&' } else { '?' };
    Some(format!("{url}{sign}options=-csearch_path%3Dlegacy"))
}

#[tokio::test]
async fn old_code_runs_unchanged() {
    for db in harness::all().await {
        let Some(url) = legacy_url(&db) else { continue };
        let connections = if db.store.capabilities().embedded { "1" } else { "8" };
        // The embedded engine lets one in at a time.
        drop(db.store);
        run("test_legacy.py", &[("LEGACY_URL", &url), ("LEGACY_CONNECTIONS", connections)]).await;
    }
}

async fn import(url: &str, from: &str) -> (i32, serde_json::Value, String) {
    let folder = tempfile::tempdir().unwrap();
    let output = shell::run(url, folder.path(), &["--json", "import-legacy", "--from", from], None).await;
    (shell::code(&output), shell::document(&output), shell::words(&output))
}

#[tokio::test]
async fn an_old_database_is_copied_over_and_again_adds_nothing() {
    let old = harness::empty_database().await;
    let from = format!("postgresql://postgres@127.0.0.1:{}/{}", harness::server().port, old.database().unwrap());
    let start = (Utc::now() - TimeDelta::days(20)).format("%Y-%m-%dT%H:30:00").to_string();
    let old_code = from.replace("postgresql://", "postgresql+psycopg2://");
    run("old_database.py", &[("LEGACY_URL", &old_code), ("LEGACY_START", &start)]).await;
    for db in harness::all().await {
        let Some(url) = db.url() else { continue };
        // The embedded engine lets one in at a time.
        drop(db.store);
        let counts = |document: &serde_json::Value| -> Vec<(String, i64, i64, i64, i64)> {
            let number = |row: &serde_json::Value, name: &str| row[name].as_i64().unwrap();
            let rows = document.as_array().unwrap_or_else(|| panic!("{document}")).iter();
            rows.map(|r| {
                let name = r["table_name"].as_str().unwrap().to_owned();
                (name, number(r, "old_rows"), number(r, "stored_now"), number(r, "stored"), number(r, "refused"))
            })
            .collect()
        };
        let (code, document, words) = import(&url, &from).await;
        assert_eq!(code, 1, "{}: rows were refused: {words}", db.name);
        let expected = [
            ("module_registry", 3, 2, 1),
            ("module_health_checks", 5002, 5000, 2),
            ("regime_states", 4, 4, 0),
            ("risk_evaluations", 2, 1, 1),
            ("execution_reports", 2, 2, 0),
            ("portfolio_snapshots", 2, 1, 1),
        ];
        let first: Vec<_> =
            expected.iter().map(|(name, old, stored, refused)| ((*name).to_owned(), *old, *stored, *stored, *refused)).collect();
        assert_eq!(counts(&document), first, "{}", db.name);
        let (_, document, _) = import(&url, &from).await;
        let again: Vec<_> = expected.iter().map(|(name, old, stored, refused)| ((*name).to_owned(), *old, 0, *stored, *refused)).collect();
        assert_eq!(counts(&document), again, "{}: a second run adds nothing", db.name);

        let store = Store::connect(db.config.clone()).await.unwrap();
        let client = store.client().await.unwrap();
        let text = async |query: &str| client.query_one(query, &[]).await.unwrap().get::<_, String>(0);
        for (query, answer) in [
            (
                "SELECT format('%s %s %s', count(*), count(DISTINCT legacy_id), count(DISTINCT batch_id)) FROM hitherto.health_check",
                "5000 5000 1002",
            ),
            (
                "SELECT string_agg(format('%s %s %s', name, execution_count, avg_execution_time_ms), ', ' ORDER BY name) FROM legacy.module_registry",
                "overseer 10 5.5, risk_management 0 ",
            ),
            (
                "SELECT string_agg(format('%s %s %s', regime, status, confirmed), ', ' ORDER BY effective_from) FROM hitherto.regime_state",
                "bull superseded f, bear superseded f, crisis active t, sideways expired f",
            ),
            (
                "SELECT count(*)::text FROM hitherto.regime_timeline a JOIN hitherto.regime_timeline b ON a.effective_until = b.effective_from",
                "2",
            ),
            (
                "SELECT string_agg(format('%s %s %s %s', order_id, event_type, trim_scale(last_quantity), trim_scale(last_price)), ', ' ORDER BY order_id, event_at, sequence) FROM hitherto.order_event",
                "o-1 submitted  , o-1 fill 10 100.1, o-2 submitted  , o-2 cancelled  ",
            ),
            ("SELECT format('%s %s', trim_scale(cash_balance), trim_scale(total_value)) FROM hitherto.portfolio_snapshot", "0.1 1001.1"),
            ("SELECT count(*)::text FROM hitherto.quarantine WHERE producer = 'import-legacy' AND reason <> ''", "5"),
        ] {
            assert_eq!(text(query).await, answer, "{}: {query}", db.name);
        }
    }
}

#[tokio::test]
async fn what_changed_in_the_old_database_is_taken_over_by_the_next_run() {
    for db in harness::all().await {
        let Some(url) = db.url() else { continue };
        drop(db.store);
        let old = harness::empty_database().await;
        let from = format!("postgresql://postgres@127.0.0.1:{}/{}", harness::server().port, old.database().unwrap());
        let start = (Utc::now() - TimeDelta::days(3)).format("%Y-%m-%dT%H:30:00").to_string();
        let old_code = from.replace("postgresql://", "postgresql+psycopg2://");
        run("old_database.py", &[("LEGACY_URL", &old_code), ("LEGACY_START", &start), ("LEGACY_CHECKS", "2100")]).await;
        let old = old.connect().await.unwrap();
        old.batch_execute(
            "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET extra_float_digits = -5', current_database()); END $$;
             DELETE FROM regime_states WHERE regime_type <> 'bear';
             DELETE FROM risk_evaluations;
             -- Written earlier, committed later.
             CREATE TABLE late AS SELECT * FROM module_health_checks WHERE id IN (17, 2050);
             DELETE FROM module_health_checks WHERE id IN (17, 2050);
             INSERT INTO risk_evaluations (proposal_id, risk_level, verdict, var_99) VALUES ('f', 'low', 'approved', 0.1 + 0.2::float8)",
        )
        .await
        .unwrap();
        let words = import(&url, &from).await.2;
        old.batch_execute(
            "INSERT INTO module_health_checks SELECT * FROM late;
             UPDATE module_registry SET status = 'active' WHERE name = 'broken';
             DELETE FROM portfolio_snapshots;
             UPDATE regime_states SET is_active = false, effective_until = now() AT TIME ZONE 'UTC' - INTERVAL '2 days';
             INSERT INTO regime_states (regime_type, confidence, is_active, effective_from, effective_until)
                 SELECT 'recovery', 0.5, false, effective_until, effective_until + INTERVAL '1 day' FROM regime_states WHERE regime_type = 'bear';
             INSERT INTO regime_states (regime_type, confidence, is_active, effective_from)
                 SELECT 'crisis', 0.5, true, effective_until FROM regime_states WHERE regime_type = 'recovery'",
        )
        .await
        .unwrap();
        let (_, again, more) = import(&url, &from).await;
        let found = |name: &str| {
            let table = again.as_array().unwrap().iter().find(|t| t["table_name"] == name).unwrap();
            ["old_rows", "stored_now", "stored", "refused", "gone"].map(|key| table[key].as_i64().unwrap())
        };
        // The check of the module that was refused comes, too; the one with NaN is refused as before.
        assert_eq!(found("module_health_checks"), [2102, 3, 2101, 1, 0], "{}: {words}{more}", db.name);
        assert_eq!(found("module_registry"), [3, 1, 3, 0, 0], "{}: {more}", db.name);
        assert_eq!(found("portfolio_snapshots"), [0, 0, 1, 1, 2], "{}: {more}", db.name);
        assert_eq!(found("regime_states"), [3, 2, 3, 0, 0], "{}: {more}", db.name);

        let store = Store::connect(db.config.clone()).await.unwrap();
        let client = store.client().await.unwrap();
        for (query, answer) in [
            ("SELECT var_99::text FROM hitherto.risk_evaluation", "0.30000000000000004"),
            (
                "SELECT string_agg(format('%s %s %s', regime, status, effective_until IS NULL), ', ' ORDER BY effective_from)
                 FROM hitherto.regime_state",
                "bear superseded f, recovery superseded f, crisis active t",
            ),
            (
                "SELECT count(*)::text FROM hitherto.regime_state a JOIN hitherto.regime_state b ON a.effective_until = b.effective_from",
                "2",
            ),
            ("SELECT count(*)::text FROM hitherto.health_check WHERE details ->> 'n' IN ('16', '2049')", "2"),
            (
                "SELECT string_agg(format('%s %s', table_name, substr(reason, 1, 66)), ', ' ORDER BY quarantine_id) FROM hitherto.quarantine WHERE reason LIKE '%module%3%'",
                "module_health_checks module_health_checks.module_id: its module 3 was refused; why is i",
            ),
            ("SELECT count(*)::text FROM hitherto.quarantine", "4"),
        ] {
            let row = client.query_one(query, &[]).await.unwrap();
            assert_eq!(row.get::<_, Option<String>>(0).as_deref(), Some(answer), "{}: {query}", db.name);
        }
    }
}

#[tokio::test]
async fn what_two_old_databases_counted_of_one_module_adds_up() {
    let db = harness::native().await;
    let url = db.url().unwrap();
    let mut olds = Vec::new();
    for count in [10, 7] {
        let old = harness::empty_database().await;
        let from = format!("postgresql://postgres@127.0.0.1:{}/{}", harness::server().port, old.database().unwrap());
        let old = old.connect().await.unwrap();
        old.batch_execute(&format!(
            "CREATE TABLE module_registry AS SELECT 1 AS id, 'm' AS name, '1' AS version, 'active' AS status, {count} AS execution_count, 2.0::float8 AS avg_execution_time_ms"
        ))
        .await
        .unwrap();
        olds.push(from);
    }
    for from in olds.iter().chain(&olds) {
        let (code, _, words) = import(&url, from).await;
        assert_eq!(code, 0, "{words}");
    }
    let client = db.store.client().await.unwrap();
    let row = client.query_one("SELECT execution_count, avg_execution_time_ms FROM legacy.module_registry", &[]).await.unwrap();
    assert_eq!((row.get::<_, i64>(0), row.get::<_, f64>(1)), (17, 2.0));
}

#[tokio::test]
async fn rows_of_new_writers_have_ids_in_the_old_tables() {
    for db in harness::all().await {
        let writer = db.store.writer(WriterConfig::new("m"));
        for n in 0..100 {
            writer.write(HealthCheck::new("m", "healthy").response_time_ms(f64::from(n))).await.unwrap();
        }
        writer.write(RiskEvaluation::new("m", "p", RiskLevel::Low, Verdict::Approved)).await.unwrap();
        writer.write(PortfolioSnapshot::new(Json::parse("{}").unwrap(), Decimal::ZERO, "0.1".parse().unwrap())).await.unwrap();
        writer.close().await.unwrap();
        let client = db.store.client().await.unwrap();
        for (table, rows) in [("module_health_checks", 100), ("risk_evaluations", 1), ("portfolio_snapshots", 1), ("module_registry", 1)] {
            let row = client.query_one(&format!("SELECT count(DISTINCT id) FROM legacy.{table} WHERE id > 0"), &[]).await.unwrap();
            assert_eq!(row.get::<_, i64>(0), rows, "{}: {table}", db.name);
        }
    }
}

#[tokio::test]
async fn tombstones_go_once_retention_has_dropped_their_rows() {
    let db = harness::native().await;
    let client = db.store.client().await.unwrap();
    client
        .batch_execute(
            "INSERT INTO legacy.module_registry (name) VALUES ('m');
             INSERT INTO legacy.module_health_checks (module_id, status, created_at) SELECT 1, 'healthy', now() AT TIME ZONE 'UTC' - n * INTERVAL '40 days' FROM generate_series(1, 3) n;
             DELETE FROM legacy.module_health_checks",
        )
        .await
        .unwrap();
    drop(client);
    db.store.maintain().await.unwrap();
    let client = db.store.client().await.unwrap();
    let row = client.query_one("SELECT hitherto.legacy_tombstone_clean(), (SELECT count(*) FROM hitherto.legacy_tombstone), (SELECT count(*) FROM hitherto.health_check)", &[]).await.unwrap();
    // One of three was past 90 days: upkeep has dropped it, and its tombstone.
    assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1), row.get::<_, i64>(2)), (0, 2, 2));
    assert_eq!(client.query_one("SELECT count(*) FROM legacy.module_health_checks", &[]).await.unwrap().get::<_, i64>(0), 0);
}

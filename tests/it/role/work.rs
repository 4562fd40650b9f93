//! What each role is for works, and with nothing but the role.

use chrono::{TimeDelta, Utc};
use futures_util::future::join_all;
use hitherto::records::{
    EventType, HealthCheck, Json, Module, ModuleExecution, OrderEvent, PortfolioSnapshot, Proposal, Regime, RegimeState, RiskEvaluation,
    RiskLevel, Side, Signal, Verdict,
};
use hitherto::writer::Batch;
use hitherto::{ErrorKind, Store, WriterConfig};

use super::{RECORDS, as_login, login};
use crate::harness::{self, Db};
use crate::shell::{self, code, count, document, words};

async fn servers() -> Vec<Db> {
    let mut dbs = vec![harness::native().await];
    dbs.extend(harness::native_timescaledb().await);
    dbs.extend(harness::named().await);
    dbs
}

/// One of each record.
async fn write_all(store: &Store) {
    let writer = store.writer(WriterConfig::new("role"));
    let old = Utc::now() - TimeDelta::days(60);
    writer.write(Module::new("m", "1").config(Json::parse("{}").unwrap())).await.unwrap();
    writer.write(ModuleExecution::new("m", 1.0)).await.unwrap();
    writer.write(HealthCheck::new("n", "healthy").at(old)).await.unwrap();
    writer.write(Signal::new("m", "trend")).await.unwrap();
    writer.write(Proposal { proposal_id: "p".into(), ..Proposal::new("m").asset("A") }).await.unwrap();
    writer.write(RiskEvaluation::new("m", "p", RiskLevel::Low, Verdict::Approved)).await.unwrap();
    let mut event = OrderEvent::new("o", EventType::Submitted).asset("A").side(Side::Buy).quantity(10);
    event.event_id = "e1".into();
    event.proposal_id = Some("p".into());
    writer.write(event).await.unwrap();
    writer.write(OrderEvent::new("o", EventType::Fill).last_quantity(10).last_price(2)).await.unwrap();
    writer.write(PortfolioSnapshot::new(serde_json::json!({"A": "1"}), 1.into(), 2.into())).await.unwrap();
    writer.write(RegimeState::new(Regime::Bull, 0.9, "overseer")).await.unwrap();
    let stats = writer.close().await.unwrap();
    assert_eq!((stats.accepted, stats.stored, stats.quarantined), (10, 10, 0));
}

#[tokio::test]
async fn a_writer_writes_everything_and_reads_nothing() {
    for db in servers().await {
        let owner = db.config.connect().await.unwrap();
        let user = login(&owner, "hitherto_writer").await;
        let store = Store::connect(as_login(&db, &user).unwrap()).await.unwrap();
        write_all(&store).await;
        // Into the columnstore, too.
        if db.name != "postgresql" {
            owner.batch_execute("SELECT compress_chunk(c) FROM show_chunks('hitherto.health_check') c; SELECT compress_chunk(c) FROM show_chunks('hitherto.order_event') c").await.unwrap();
        }
        let late = HealthCheck::new("n", "late").at(Utc::now() - TimeDelta::days(60));
        assert_eq!(store.batch_store(&Batch::new("role", vec![late]).unwrap()).await.unwrap().rows, 1);
        // A replay, the same id with other content, and the same batch again.
        let mut event = OrderEvent::new("o", EventType::Submitted).asset("A").side(Side::Buy).quantity(11);
        event.event_id = "e1".into();
        let batch = Batch::new("role", vec![event.clone(), OrderEvent::new("o2", EventType::Pending)]).unwrap();
        let stored = store.batch_store(&batch).await.unwrap();
        assert_eq!((stored.rows, stored.quarantined, stored.already), (1, 1, false), "{}", db.name);
        let again = store.batch_store(&batch).await.unwrap();
        assert_eq!((again.rows, again.quarantined, again.already), (1, 1, true), "{}", db.name);
        let batch = Batch::new("role", vec![event]).unwrap();
        assert_eq!(store.batch_store(&batch).await.unwrap().duplicates, 1, "{}: refused once", db.name);
        let other = Proposal { proposal_id: "p".into(), ..Proposal::new("m").asset("B") };
        assert_eq!(store.batch_store(&Batch::new("role", vec![other]).unwrap()).await.unwrap().quarantined, 1, "{}", db.name);
        // Rows that the database refuses, among good ones, in a COPY and in an INSERT.
        owner.batch_execute("ALTER TABLE hitherto.signal ADD CONSTRAINT no_bad CHECK (kind <> 'bad'); ALTER TABLE hitherto.order_event ADD CONSTRAINT no_bad CHECK (reason <> 'bad')").await.unwrap();
        let signals = (0..20).map(|n| Signal::new(format!("s{}", n % 3), if n == 7 { "bad" } else { "good" })).collect();
        let stored = store.batch_store(&Batch::new("role", signals).unwrap()).await.unwrap();
        assert_eq!((stored.rows, stored.quarantined), (19, 1), "{}", db.name);
        let events =
            (0..20).map(|n| OrderEvent::new(format!("x{n}"), EventType::Pending).reason(if n == 7 { "bad" } else { "good" })).collect();
        let stored = store.batch_store(&Batch::new("role", events).unwrap()).await.unwrap();
        assert_eq!((stored.rows, stored.quarantined), (19, 1), "{}", db.name);
        // One batch by eight at once.
        let batch = Batch::new("role", (0..50).map(|_| HealthCheck::new("m", "healthy")).collect()).unwrap();
        let all = join_all((0..8).map(|_| store.batch_store(&batch))).await;
        assert_eq!(all.iter().filter(|s| !s.as_ref().unwrap().already).count(), 1, "{}", db.name);
        assert_eq!(count(&db, "SELECT count(*) FROM hitherto.health_check").await, 52, "{}", db.name);
        assert_eq!(count(&db, "SELECT count(*) FROM hitherto.execution_report WHERE order_id = 'o' AND status = 'filled' AND 'event_id_conflict' = ANY (anomalies)").await, 1);
        // What it wrote it can't read.
        let client = store.client().await.unwrap();
        for table in RECORDS.iter().chain(&["execution_report", "ingest_batch", "quarantine", "order_event_key"]) {
            let error = client.batch_execute(&format!("SELECT FROM hitherto.{table}")).await.unwrap_err();
            assert_eq!(error.code().unwrap().code(), "42501", "{}: {table}", db.name);
        }
        drop(client);
        // Lines from a pipe, twice.
        if let Some(url) = db.url() {
            let (url, folder) = (url.replace("postgres@", &format!("{user}@")), tempfile::tempdir().unwrap());
            for already in [0, 1] {
                let ingested = shell::run(
                    &url,
                    folder.path(),
                    &["ingest", "health-check", "--json"],
                    Some(format!("{}\n", shell::check(1)).as_bytes()),
                )
                .await;
                assert_eq!((code(&ingested), &document(&ingested)["already"]), (0, &serde_json::json!(already)), "{}", words(&ingested));
            }
        }
        drop(store);
        owner.batch_execute(&format!("DROP OWNED BY {user}; DROP ROLE {user}")).await.unwrap();
    }
}

#[tokio::test]
async fn an_analyst_reads_every_view_and_writes_nothing() {
    for db in servers().await {
        write_all(&db.store).await;
        let owner = db.config.connect().await.unwrap();
        let user = login(&owner, "hitherto_analyst").await;
        let store = Store::connect(as_login(&db, &user).unwrap()).await.unwrap();
        let client = store.client().await.unwrap();
        let views = owner
            .query("SELECT format('%I.%I', schemaname, viewname) FROM pg_views WHERE schemaname IN ('hitherto', 'legacy')", &[])
            .await
            .unwrap();
        assert!(views.len() > 30, "{}", db.name);
        for view in views {
            let view: String = view.get(0);
            // Every column is computed.
            client
                .batch_execute(&format!("SELECT md5(v::text) FROM {view} v"))
                .await
                .unwrap_or_else(|e| panic!("{}: {view}: {e:?}", db.name));
        }
        client.batch_execute("SELECT hitherto.latency_percentile(0.5, 'm', now() - INTERVAL '3 days', now())").await.unwrap();
        drop(client);
        assert_eq!(store.execution_report("o").await.unwrap().unwrap().status, "filled");
        let error = store.batch_store(&Batch::new("role", vec![HealthCheck::new("m", "healthy")]).unwrap()).await.unwrap_err();
        assert_eq!((error.kind(), error.sqlstate()), (ErrorKind::Refused, Some("42501")), "{error}");
        if let Some(url) = db.url() {
            let (url, folder) = (url.replace("postgres@", &format!("{user}@")), tempfile::tempdir().unwrap());
            for args in [&["order", "o"][..], &["trail", "p"], &["regime", "show"]] {
                let output = shell::run(&url, folder.path(), args, None).await;
                assert_eq!(code(&output), 0, "{args:?}: {}", words(&output));
            }
            for args in [
                &["regime", "propose", "bull", "--confidence", "1", "--by", "me"][..],
                &["audit", "seal"],
                &["quarantine", "list"],
                &["migrate"],
            ] {
                let output = shell::run(&url, folder.path(), args, None).await;
                assert_eq!(code(&output), 4, "{args:?}: {}", words(&output));
            }
        }
        drop(store);
        owner.batch_execute(&format!("DROP OWNED BY {user}; DROP ROLE {user}")).await.unwrap();
    }
}

#[tokio::test]
async fn an_exporter_exports_and_verifies() {
    for db in servers().await {
        let Some(url) = db.url() else { continue };
        write_all(&db.store).await;
        db.store.audit_seal().await.unwrap();
        let owner = db.config.connect().await.unwrap();
        let user = login(&owner, "hitherto_exporter").await;
        let (url, folder) = (url.replace("postgres@", &format!("{user}@")), tempfile::tempdir().unwrap());
        let lake = shell::run(&url, folder.path(), &["export", "--lake", "lake", "--json"], None).await;
        assert_eq!(code(&lake), 0, "{}", words(&lake));
        for dataset in ["order_event", "execution_report"] {
            let file = format!("{dataset}.parquet");
            let output = shell::run(&url, folder.path(), &["export", "--file", &file, "--dataset", dataset], None).await;
            assert_eq!(code(&output), 0, "{}", words(&output));
        }
        let verified = shell::run(&url, folder.path(), &["audit", "verify", "--json"], None).await;
        assert_eq!((code(&verified), &document(&verified)["finding_count"]), (0, &serde_json::json!(0)), "{}", words(&verified));
        db.store.batch_store(&Batch::new("role", vec![HealthCheck::new("m", "healthy")]).unwrap()).await.unwrap();
        // Sealing too, but where another test's transaction is open there may be nothing yet to seal.
        let end = std::time::Instant::now() + std::time::Duration::from_secs(60);
        loop {
            let sealed = shell::run(&url, folder.path(), &["audit", "seal"], None).await;
            if code(&sealed) == 4 {
                break;
            }
            assert!(code(&sealed) == 0 && std::time::Instant::now() < end, "{}", words(&sealed));
        }
        for args in [&["regime", "propose", "bull", "--confidence", "1", "--by", "me"][..], &["retention", "set", "signal", "--keep", "9d"]]
        {
            let output = shell::run(&url, folder.path(), args, None).await;
            assert_eq!(code(&output), 4, "{args:?}: {}", words(&output));
        }
        owner.batch_execute(&format!("DROP OWNED BY {user}; DROP ROLE {user}")).await.unwrap();
    }
}

#[tokio::test]
async fn an_owner_runs_the_platform_and_old_code() {
    for db in servers().await {
        write_all(&db.store).await;
        let owner = db.config.connect().await.unwrap();
        let user = login(&owner, "hitherto_owner").await;
        let store = Store::connect(as_login(&db, &user).unwrap()).await.unwrap();
        let crisis = store.regime_propose(RegimeState::new(Regime::Crisis, 0.9, "overseer")).await.unwrap();
        store.regime_confirm(&crisis.regime_id, "ann", Some("yes")).await.unwrap();
        assert_eq!(store.regime_active().await.unwrap().unwrap().regime_id, crisis.regime_id, "{}", db.name);
        store.regime_rule_set(hitherto::store::RegimeRule { confirm_below: 0.4, confirm_crisis: true, crisis_deciders: 2 }).await.unwrap();
        store.module_set_status("m", hitherto::records::ModuleStatus::Maintenance, None).await.unwrap();
        store.audit_seal().await.unwrap();
        assert_eq!(store.audit_verify(&[]).await.unwrap().finding_count, 0, "{}", db.name);
        let client = store.client().await.unwrap();
        client
            .batch_execute(
                "SET search_path = legacy;
                 INSERT INTO module_registry (name, version, status) VALUES ('old', '1', 'active');
                 UPDATE module_registry SET execution_count = execution_count + 1, avg_execution_time_ms = 5, last_execution = now() AT TIME ZONE 'UTC' WHERE name = 'old';
                 INSERT INTO module_health_checks (module_id, status, response_time_ms) SELECT id, 'healthy', 1 FROM module_registry WHERE name = 'old' RETURNING id;
                 INSERT INTO risk_evaluations (proposal_id, risk_level, verdict) VALUES ('p9', 'low', 'approved');
                 INSERT INTO execution_reports (order_id, asset, side, quantity, status) VALUES ('old-1', 'A', 'buy', 5, 'pending');
                 UPDATE execution_reports SET status = 'filled', filled_quantity = 5, average_fill_price = 2 WHERE order_id = 'old-1';
                 INSERT INTO portfolio_snapshots (positions_json, cash_balance, total_value) VALUES ('{}', 1, 2);
                 INSERT INTO regime_states (regime_type, confidence, classified_by, is_active) VALUES ('bear', 0.7, 'old', true);
                 DELETE FROM module_health_checks;
                 RESET search_path",
            )
            .await
            .unwrap_or_else(|e| panic!("{}: {e:?}", db.name));
        for (query, expected) in [
            ("SELECT count(*) FROM hitherto.regime_state WHERE status = 'active' AND regime = 'bear'", 1),
            ("SELECT count(*) FROM hitherto.execution_report WHERE order_id = 'old-1' AND status = 'filled'", 1),
            ("SELECT count(*) FROM hitherto.module_execution e JOIN hitherto.module m USING (module_id) WHERE m.name = 'old'", 1),
            ("SELECT count(*) FROM legacy.module_health_checks", 0),
        ] {
            assert_eq!(count(&db, query).await, expected, "{}: {query}", db.name);
        }
        // The step that old code took ends with it.
        for statement in [
            "SET hitherto.regime_step = 'on'; UPDATE hitherto.regime_state SET status = 'superseded', effective_until = now() WHERE status = 'active'",
            "DELETE FROM hitherto.order_event",
            "UPDATE hitherto.upkeep_policy SET drop_after = '8 days'",
            "INSERT INTO hitherto.execution_report (order_id, status) VALUES ('x', 'filled')",
        ] {
            let error = client.batch_execute(statement).await.unwrap_err();
            assert_eq!(error.code().unwrap().code(), "42501", "{}: {statement}", db.name);
        }
        drop(client);
        if let Some(url) = db.url() {
            let (url, folder) = (url.replace("postgres@", &format!("{user}@")), tempfile::tempdir().unwrap());
            let doctor = shell::run(&url, folder.path(), &["doctor", "--json"], None).await;
            assert!([0, 1].contains(&code(&doctor)), "{}", words(&doctor));
        }
        drop(store);
        owner.batch_execute(&format!("DROP OWNED BY {user}; DROP ROLE {user}")).await.unwrap();
    }
}

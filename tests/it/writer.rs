//! Records in, once each.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use hitherto::records::{
    Decimal, EventType, HealthCheck, Json, Module, ModuleExecution, OrderEvent, PortfolioSnapshot, Proposal, Regime, RegimeState,
    RiskEvaluation, RiskLevel, Side, Signal, Verdict,
};
use hitherto::writer::Batch;
use hitherto::{ErrorKind, Store, WriterConfig};

use crate::harness;

async fn number(store: &Store, query: &str) -> i64 {
    store.client().await.unwrap().query_one(query, &[]).await.unwrap().get(0)
}

async fn ledger_rows(store: &Store, table: &str) -> i64 {
    let client = store.client().await.unwrap();
    client
        .query_one("SELECT coalesce(sum(row_count), 0)::bigint FROM hitherto.ingest_batch WHERE table_name = $1", &[&table])
        .await
        .unwrap()
        .get(0)
}

#[tokio::test]
async fn a_lone_record_is_there_within_its_age_limit() {
    for db in harness::all().await {
        let writer = db.store.writer(WriterConfig::new("test"));
        writer.write(HealthCheck::new("warm", "healthy")).await.unwrap();
        writer.flush().await.unwrap();
        let began = Instant::now();
        writer.write(HealthCheck::new("m", "healthy").response_time_ms(1.0)).await.unwrap();
        while writer.stats().stored < 2 {
            assert!(began.elapsed() < Duration::from_secs(5), "{}: not there after 5 s", db.name);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert!(began.elapsed() >= Duration::from_millis(90), "{}: it waits for others to fill its batch", db.name);
        assert_eq!(number(&db.store, "SELECT count(*) FROM hitherto.health_check").await, 2, "{}", db.name);
    }
}

#[tokio::test]
async fn every_record_arrives_as_it_was_written() {
    let edge: Decimal = "-99999999999999999999.999999999999999999".parse().unwrap();
    let fine: Decimal = "0.000000000000000001".parse().unwrap();
    let naughty = "'; DROP TABLE hitherto.module; -- \u{1F4A5} \\ \"";
    for db in harness::all().await {
        let writer = db.store.writer(WriterConfig::new(naughty));
        let json = Json::parse(r#"{"n": 0.1234567890123456789012345, "t": "\u00e9"}"#).unwrap();
        writer.write(Module::new("m", "1.2").config(json.clone())).await.unwrap();
        writer.write(ModuleExecution::new(naughty, 1e-300).failed(naughty).details(json.clone())).await.unwrap();
        writer.write(HealthCheck::new(naughty, "degraded").response_time_ms(1e15).error_count(i32::MAX)).await.unwrap();
        writer.write(Signal::new("m", "trend").asset(naughty).score(-0.5).confidence(1.0).payload(json.clone())).await.unwrap();
        writer.write(Proposal { proposal_id: "p".into(), ..Proposal::new("m").asset("A") }).await.unwrap();
        writer.write(RiskEvaluation::new("m", "p", RiskLevel::High, Verdict::Downgraded).var_99(0.02)).await.unwrap();
        writer
            .write(OrderEvent::new("o", EventType::Pending).side(Side::Sell).quantity(edge).price(fine).sequence(i64::MIN))
            .await
            .unwrap();
        writer
            .write(PortfolioSnapshot::new(serde_json::json!({"A": "1.5", "B": {"quantity": -2, "price": "3"}}), edge, fine))
            .await
            .unwrap();
        writer.write(RegimeState::new(Regime::Bull, 0.9, "overseer")).await.unwrap();
        let stats = writer.close().await.unwrap();
        assert_eq!((stats.accepted, stats.stored, stats.quarantined), (9, 9, 0), "{}", db.name);

        let client = db.store.client().await.unwrap();
        let row = client.query_one("SELECT quantity, price, sequence FROM hitherto.order_event", &[]).await.unwrap();
        assert_eq!((row.get::<_, Decimal>(0), row.get::<_, Decimal>(1), row.get::<_, i64>(2)), (edge, fine, i64::MIN), "{}", db.name);
        let row = client.query_one("SELECT details ->> 'n', duration_ms, error_message FROM hitherto.module_execution", &[]).await.unwrap();
        assert_eq!(row.get::<_, String>(0), "0.1234567890123456789012345", "{}", db.name);
        assert_eq!(row.get::<_, f64>(1), 1e-300, "{}", db.name);
        assert_eq!(row.get::<_, String>(2), naughty, "{}", db.name);
        let row = client
            .query_one("SELECT h.response_time_ms, m.name::text FROM hitherto.health_check h JOIN hitherto.module m USING (module_id)", &[])
            .await
            .unwrap();
        assert_eq!((row.get::<_, f64>(0), row.get::<_, String>(1)), (1e15, naughty.to_owned()), "{}", db.name);
        let rows = client.query("SELECT asset, quantity, price FROM hitherto.portfolio_position ORDER BY asset", &[]).await.unwrap();
        assert_eq!(rows[1].get::<_, Decimal>(1), Decimal::from(-2), "{}", db.name);
        assert_eq!(rows[0].get::<_, Option<Decimal>>(2), None, "{}", db.name);
        drop(client);
        assert_eq!(number(&db.store, "SELECT count(*) FROM hitherto.ingest_batch WHERE row_count = 1").await, 9, "{}", db.name);
    }
}

#[tokio::test]
async fn a_batch_sent_again_is_stored_once() {
    for db in harness::all().await {
        let batch = Batch::new("test", (0..100).map(|_| HealthCheck::new("m", "healthy")).collect()).unwrap();
        let first = db.store.batch_store(&batch).await.unwrap();
        assert_eq!((first.rows, first.already), (100, false), "{}", db.name);
        // As after a COMMIT whose answer was lost: the sender does not know and sends again.
        let again = db.store.batch_store(&batch).await.unwrap();
        assert_eq!((again.rows, again.already), (100, true), "{}", db.name);
        assert_eq!(number(&db.store, "SELECT count(*) FROM hitherto.health_check").await, 100, "{}", db.name);
    }
}

#[tokio::test]
async fn a_batch_without_rows_is_a_line_in_the_ledger() {
    for db in harness::all().await {
        let batch = Batch::new("test", Vec::<HealthCheck>::new()).unwrap();
        assert_eq!(db.store.batch_store(&batch).await.unwrap().rows, 0, "{}", db.name);
        assert!(db.store.batch_store(&batch).await.unwrap().already, "{}", db.name);
    }
}

#[tokio::test]
async fn a_batch_sent_by_eight_at_once_is_stored_once() {
    let mut dbs = vec![harness::native().await];
    dbs.extend(harness::native_timescaledb().await);
    for db in dbs {
        for _ in 0..10 {
            let batch = Batch::new("test", (0..500).map(|_| HealthCheck::new("m", "healthy")).collect()).unwrap();
            let all = join_all((0..8).map(|_| db.store.batch_store(&batch))).await;
            assert_eq!(all.iter().filter(|s| !s.as_ref().unwrap().already).count(), 1, "{}: one stores it", db.name);
        }
        assert_eq!(number(&db.store, "SELECT count(*) FROM hitherto.health_check").await, 5000, "{}", db.name);
        assert_eq!(ledger_rows(&db.store, "health_check").await, 5000, "{}", db.name);
    }
}

#[tokio::test]
async fn replayed_order_events_change_nothing() {
    for db in harness::all().await {
        let events = vec![
            OrderEvent::new("o", EventType::Submitted).asset("A").side(Side::Buy).quantity(10),
            OrderEvent::new("o", EventType::Fill).last_quantity(4).last_price(2),
            OrderEvent::new("o", EventType::Fill).last_quantity(6).last_price(3),
        ];
        let mut before = None;
        for _ in 0..3 {
            // Another batch, the same events: a producer that replays its own log.
            let stored = db.store.batch_store(&Batch::new("test", events.clone()).unwrap()).await.unwrap();
            let report = db.store.execution_report("o").await.unwrap().unwrap();
            assert_eq!(report.status, "filled");
            assert_eq!(report.average_fill_price, Some("2.6".parse().unwrap()));
            if let Some(before) = &before {
                assert_eq!((stored.rows, stored.duplicates), (0, 3), "{}", db.name);
                assert_eq!(&report, before, "{}", db.name);
            }
            before = Some(report);
        }
        assert_eq!(ledger_rows(&db.store, "order_event").await, 3, "{}", db.name);
    }
}

#[tokio::test]
async fn rows_that_the_database_refuses_are_quarantined_and_their_neighbours_stored() {
    for db in harness::all().await {
        db.store
            .client()
            .await
            .unwrap()
            .batch_execute("ALTER TABLE hitherto.health_check ADD CONSTRAINT no_thirteen CHECK (error_count % 100 <> 13)")
            .await
            .unwrap();
        let rows = (0..1000).map(|n| HealthCheck::new("m", "healthy").error_count(n)).collect();
        let batch = Batch::new("test", rows).unwrap();
        let stored = db.store.batch_store(&batch).await.unwrap();
        assert_eq!((stored.rows, stored.quarantined), (990, 10), "{}", db.name);
        assert_eq!(number(&db.store, "SELECT count(DISTINCT error_count) FROM hitherto.health_check").await, 990, "{}", db.name);
        assert_eq!(ledger_rows(&db.store, "health_check").await, 990, "{}", db.name);
        let client = db.store.client().await.unwrap();
        let row =
            client.query_one("SELECT record, sqlstate, reason FROM hitherto.quarantine ORDER BY quarantine_id LIMIT 1", &[]).await.unwrap();
        let record: HealthCheck = serde_json::from_str(row.get(0)).unwrap();
        assert_eq!(record.error_count, 13);
        assert_eq!(row.get::<_, &str>(1), "23514");
        assert!(row.get::<_, &str>(2).contains("no_thirteen"));
    }
}

#[tokio::test]
async fn invalid_records_are_refused_by_name_and_harm_nobody() {
    let db = harness::native().await;
    let writer = db.store.writer(WriterConfig::new("test"));
    for (record, words) in [
        (HealthCheck::new("m", "healthy").response_time_ms(f64::NAN), "health_check.response_time_ms: NaN is not a finite number"),
        (HealthCheck::new("m", "healthy").response_time_ms(1e308), "health_check.response_time_ms: 1e308 is past 1e15"),
        (HealthCheck::new("m", "healthy").response_time_ms(-1.0), "health_check.response_time_ms: -1 is negative"),
        (HealthCheck::new("  ", "healthy"), "health_check.module: is empty"),
        (HealthCheck::new("a\0b", "healthy"), "health_check.module: holds a NUL character at byte 1"),
        (
            HealthCheck::new("m", "healthy").at("9999-01-01T00:00:00Z".parse().unwrap()),
            "health_check.checked_at: 9999-01-01T00:00:00+00:00 is more than 60 minutes ahead",
        ),
        (HealthCheck::new("m", "healthy").details(Json::parse(r#""\u0000""#).unwrap()), "health_check.details: holds"),
    ] {
        let error = writer.write(record).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().starts_with(words), "{error}");
    }
    writer.write(HealthCheck::new("m", "healthy")).await.unwrap();
    assert_eq!(writer.close().await.unwrap().stored, 1);
    assert_eq!(writer.write(HealthCheck::new("m", "healthy")).await.unwrap_err().kind(), ErrorKind::Closed);
}

#[tokio::test]
async fn a_full_queue_makes_writers_wait_and_loses_nothing() {
    let db = harness::native().await;
    let mut config = WriterConfig::new("test");
    config.queue_bytes = 64 * 1024;
    let writer = db.store.writer(config);
    let blocker = db.config.connect().await.unwrap();
    blocker.batch_execute("BEGIN; LOCK TABLE hitherto.health_check IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let filling = {
        let writer = writer.clone();
        tokio::spawn(async move {
            for _ in 0..5000 {
                writer.write(HealthCheck::new("m", "healthy")).await.unwrap();
            }
        })
    };
    tokio::time::sleep(Duration::from_millis(600)).await;
    let held = writer.stats();
    assert!(!filling.is_finished() && held.queued_bytes <= 64 * 1024 && held.stored == 0, "{held:?}");
    // A write that is given up while it waits has taken nothing.
    let given_up = tokio::time::timeout(Duration::from_millis(50), writer.write(HealthCheck::new("given-up", "healthy"))).await;
    assert!(given_up.is_err());
    blocker.batch_execute("COMMIT").await.unwrap();
    filling.await.unwrap();
    assert_eq!(writer.close().await.unwrap().stored, 5000);
    assert_eq!(number(&db.store, "SELECT count(*) FROM hitherto.health_check").await, 5000);
}

#[tokio::test]
async fn backends_killed_while_writing_lose_and_double_nothing() {
    let mut dbs = vec![harness::native().await];
    dbs.extend(harness::native_timescaledb().await);
    for db in dbs {
        let mut config = WriterConfig::new("test");
        config.max_batch_rows = 200;
        let writer = db.store.writer(config);
        let killer = db.config.clone().with_application_name("killer").connect().await.unwrap();
        let killing = tokio::spawn(async move {
            for round in 0..40u64 {
                tokio::time::sleep(Duration::from_millis(3 + (round * 7) % 23)).await;
                killer
                    .execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'hitherto' AND datname = current_database()", &[])
                    .await
                    .unwrap();
            }
        });
        for n in 0..20_000 {
            writer.write(HealthCheck::new("m", "healthy").error_count(n)).await.unwrap();
            if n % 3 == 0 {
                writer.write(OrderEvent::new(format!("o{}", n % 50), EventType::Fill).last_quantity(1).last_price(1)).await.unwrap();
            }
        }
        killing.await.unwrap();
        let stats = writer.close().await.unwrap();
        assert!(stats.retries > 0, "{}: the kills were felt", db.name);
        let distinct = "SELECT count(DISTINCT error_count) FROM hitherto.health_check";
        for (query, expected) in [
            ("SELECT count(*) FROM hitherto.health_check", 20_000),
            (distinct, 20_000),
            ("SELECT count(*) FROM hitherto.order_event", 6667),
        ] {
            assert_eq!(number(&db.store, query).await, expected, "{}: {query}", db.name);
        }
        assert_eq!(
            (ledger_rows(&db.store, "health_check").await, ledger_rows(&db.store, "order_event").await),
            (20_000, 6667),
            "{}",
            db.name
        );
        assert_eq!(
            number(&db.store, "SELECT sum(filled_quantity)::bigint FROM hitherto.execution_report").await,
            6667,
            "{}: every fill is in a report",
            db.name
        );
    }
}

#[tokio::test]
async fn a_stuck_table_answers_every_question_and_holds_up_no_other() {
    let db = harness::native().await;
    let client = db.store.client().await.unwrap();
    client.batch_execute("ALTER TABLE hitherto.health_check RENAME TO elsewhere").await.unwrap();
    let mut config = WriterConfig::new("test");
    config.queue_bytes = 64 * 1024;
    let writer = db.store.writer(config);
    writer.write(HealthCheck::new("m", "healthy")).await.unwrap();
    for _ in 0..3 {
        let error = tokio::time::timeout(Duration::from_secs(3), writer.flush()).await.expect("a flush is answered").unwrap_err();
        assert!(error.to_string().contains("health_check"), "{error}");
    }
    let full = tokio::time::timeout(Duration::from_secs(10), async {
        loop {
            if let Err(error) = writer.write(HealthCheck::new("m", "healthy")).await {
                return error;
            }
        }
    });
    assert!(full.await.expect("a full queue is told").to_string().contains("the queue is full"));
    writer.write(OrderEvent::new("o", EventType::Pending)).await.unwrap();
    let taken = writer.stats().accepted;
    client.batch_execute("ALTER TABLE hitherto.elsewhere RENAME TO health_check").await.unwrap();
    assert_eq!(writer.close().await.unwrap().stored, taken, "all that was taken is stored once the table is back");
}

#[tokio::test]
async fn sums_that_fit_no_column_stop_nobody() {
    for db in harness::all().await {
        db.store
            .client()
            .await
            .unwrap()
            .batch_execute("ALTER ROLE CURRENT_USER SET default_transaction_isolation = 'repeatable read'")
            .await
            .unwrap();
        let huge: Decimal = "-90000000000000000000".parse().unwrap();
        let fill = |order: &str, n: i64| OrderEvent::new(order, EventType::Fill).last_quantity(n).last_price(1);
        let mut rows: Vec<_> = (0..3).map(|_| fill("huge", 1).commission(huge)).collect();
        rows.extend((0..3).map(|_| {
            OrderEvent::new("large", EventType::Fill).last_quantity("90000000000000000000".parse::<Decimal>().unwrap()).last_price(2)
        }));
        rows.push(fill("good", 5));
        let stored = db.store.batch_store(&Batch::new("test", rows).unwrap()).await.unwrap();
        assert_eq!((stored.rows, stored.quarantined), (7, 0), "{}", db.name);
        for (order, anomalies) in [("huge", vec!["out_of_range"]), ("large", vec!["out_of_range"]), ("good", vec![])] {
            assert_eq!(db.store.execution_report(order).await.unwrap().unwrap().anomalies, anomalies, "{} {order}", db.name);
        }
        db.store.client().await.unwrap().batch_execute("ALTER ROLE CURRENT_USER RESET default_transaction_isolation").await.unwrap();
    }
}

#[tokio::test]
async fn two_writers_on_one_order_converge() {
    let db = harness::native().await;
    let writers: Vec<_> = (0..4)
        .map(|n| {
            let mut config = WriterConfig::new(format!("w{n}"));
            config.max_batch_rows = 5;
            db.store.writer(config)
        })
        .collect();
    join_all(writers.iter().map(|writer| async move {
        for n in 0..200 {
            writer.write(OrderEvent::new(format!("o{}", n % 3), EventType::Fill).last_quantity(1).last_price(1)).await.unwrap();
        }
        writer.close().await.unwrap();
    }))
    .await;
    assert_eq!(number(&db.store, "SELECT sum(filled_quantity)::bigint FROM hitherto.execution_report").await, 800);
    assert_eq!(number(&db.store, "SELECT sum(event_count)::bigint FROM hitherto.execution_report").await, 800);
}

#[tokio::test]
async fn a_missing_privilege_is_told_and_heals_when_it_is_granted() {
    let db = harness::native().await;
    let owner = db.config.connect().await.unwrap();
    owner
        .batch_execute(
            "CREATE ROLE poor LOGIN; GRANT USAGE ON SCHEMA hitherto TO poor; GRANT SELECT ON ALL TABLES IN SCHEMA hitherto TO poor",
        )
        .await
        .unwrap();
    let url = format!("postgresql://poor@127.0.0.1:{}/{}", harness::server().port, db.config.database().unwrap());
    let store = Store::connect(hitherto::Config::from_url(&url).unwrap()).await.unwrap();
    let writer = store.writer(WriterConfig::new("poor"));
    writer.write(HealthCheck::new("m", "healthy")).await.unwrap();
    let error = writer.flush().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
    owner
        .batch_execute(
            "GRANT INSERT, UPDATE ON ALL TABLES IN SCHEMA hitherto TO poor; GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA hitherto TO poor",
        )
        .await
        .unwrap();
    assert_eq!(writer.close().await.unwrap().stored, 1, "the record was kept");
    owner.batch_execute("DROP OWNED BY poor; DROP ROLE poor").await.unwrap();
}

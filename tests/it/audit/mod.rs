//! The audit: what was stored is what is there, and what is not is named.

mod attack;
mod sealing;
mod trimmed;

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::StreamExt;
use hitherto::records::{
    Decimal, EventType, HealthCheck, Json, Module, ModuleExecution, OrderEvent, PortfolioSnapshot, Proposal, Record, Regime, RegimeState,
    RiskEvaluation, RiskLevel, Side, Signal, Verdict,
};
use hitherto::store::{Anchor, Audit};
use hitherto::writer::{Batch, Stored};
use hitherto::{Engine, ErrorKind};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use sha2::{Digest, Sha256};

use self::trimmed::{fill, keep_order_events};
use crate::harness::{self, Db};
use crate::shell::{Shell, code, words};

async fn store<R: Record>(db: &Db, rows: Vec<R>) -> Stored {
    db.store.batch_store(&Batch::new("test", rows).unwrap()).await.unwrap()
}

async fn execute(db: &Db, sql: &str) {
    db.store.client().await.unwrap().batch_execute(sql).await.unwrap_or_else(|e| panic!("{}: {sql}: {:?}", db.name, e.as_db_error()));
}

/// What a superuser can do: triggers and foreign keys are off.
async fn attack(db: &Db, sql: &str) {
    execute(db, &format!("SET session_replication_role = replica; {sql}; RESET session_replication_role")).await;
}

/// Seals all there is: lines wait for transactions that run anywhere on the server, as other tests' do.
async fn seal(db: &Db) -> Anchor {
    let pending = "SELECT count(*) FROM hitherto.ingest_batch b WHERE b.xid >= pg_snapshot_xmin(pg_current_snapshot())";
    for _ in 0..600 {
        if crate::shell::count(db, pending).await == 0 {
            return db.store.audit_seal().await.unwrap().last.unwrap();
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    panic!("{}: a transaction stays open", db.name);
}

async fn verify(db: &Db) -> Audit {
    db.store.audit_verify(&[]).await.unwrap()
}

async fn assert_clean(db: &Db, when: &str) -> Audit {
    let audit = verify(db).await;
    assert_eq!(audit.findings, vec![], "{}: {when}", db.name);
    assert_eq!(audit.finding_count, 0, "{}: {when}", db.name);
    audit
}

async fn compress(db: &Db) {
    if db.store.capabilities().engine == Engine::Timescaledb {
        for table in ["module_execution", "health_check", "signal", "risk_evaluation", "order_event", "portfolio_snapshot"] {
            execute(db, &format!("SELECT compress_chunk(c, true) FROM show_chunks('hitherto.{table}') c")).await;
        }
    }
}

/// JSON as people may write it: spaces, escapes, keys twice, numbers in every form.
fn json() -> impl Strategy<Value = String> {
    let string = r#""([a-z é😀/\x7f]|\\n|\\t|\\b|\\f|\\r|\\u00e9|\\u001f|\\ud83d\\ude00|\\"|\\\\|\\/){0,6}""#;
    let leaf = prop_oneof![
        "-?(0|[1-9][0-9]{0,25})(\\.[0-9]{1,20})?([eE][+-]?[0-9]{1,2})?",
        string,
        Just("true".to_owned()),
        Just("false".to_owned()),
        Just("null".to_owned())
    ];
    let key = prop_oneof![string, Just("\"a\"".to_owned()), Just("\"\\u0061\"".to_owned()), Just("\"bb\"".to_owned())];
    leaf.prop_recursive(4, 40, 6, move |inner| {
        let space = "[ \\n\\t]{0,2}";
        prop_oneof![
            (prop::collection::vec(inner.clone(), 0..6), space).prop_map(|(v, s)| format!("[{s}{}{s}]", v.join(&format!("{s},{s}")))),
            (prop::collection::vec((key.clone(), inner), 0..6), space).prop_map(|(v, s)| {
                let members: Vec<String> = v.iter().map(|(k, v)| format!("{k}{s}:{s}{v}")).collect();
                format!("{{{s}{}{s}}}", members.join(&format!("{s},{s}")))
            }),
        ]
    })
}

#[tokio::test]
async fn json_is_printed_as_the_server_prints_it() {
    let mut runner = TestRunner::deterministic();
    let strategy = json();
    let mut texts: Vec<String> = (0..2_000).map(|_| strategy.new_tree(&mut runner).unwrap().current()).collect();
    texts.extend(
        ["1e5", "-0", "-0.0e7", "1.10", "1E-7", "{}", "[]", "\"\"", "0e-15000", "123.456e+3", r#"{"b":1,"a":{"b":1},"a":[]}"#]
            .map(str::to_owned),
    );
    texts.push(format!("[1e99999, 0.{}1]", "0".repeat(15_998)));
    for db in harness::all().await {
        let client = db.store.client().await.unwrap();
        for some in texts.chunks(200) {
            let query = "SELECT t::jsonb::text FROM unnest($1::text[]) WITH ORDINALITY AS u (t, n) ORDER BY n";
            for (text, row) in some.iter().zip(client.query(query, &[&some]).await.unwrap()) {
                assert_eq!(Json::parse(text).unwrap().printed(), row.get::<_, String>(0), "{}: {text}", db.name);
            }
        }
    }
}

/// Rows of every record table, at their extremes.
async fn extremes(db: &Db, at: DateTime<Utc>) {
    let (edge, fine): (Decimal, Decimal) =
        ("-99999999999999999999.999999999999999999".parse().unwrap(), "0.000000000000000001".parse().unwrap());
    let odd = "'; -- \u{1F4A5} \\ \" \t\u{7f}\r\n";
    let json = Json::parse(r#"{"n": 1.10e-3, "n": 0.1234567890123456789012345, "t": "\u00e9\/\u0001", "": [-0, 1e5, {}, []]}"#).unwrap();
    store(db, vec![Module::new("m", "1").config(json.clone())]).await;
    store(db, vec![RegimeState::new(Regime::Bull, 0.9, "overseer").at(at)]).await;
    store(
        db,
        vec![
            ModuleExecution::new(odd, 1e-300).failed(odd).details(json.clone()).at(at),
            ModuleExecution::new("m", -0.0).at(at),
            ModuleExecution::new("m", f64::MIN_POSITIVE / 4.0).at(at),
        ],
    )
    .await;
    store(
        db,
        vec![
            HealthCheck::new(odd, odd.trim())
                .response_time_ms(1e15)
                .error_count(i32::MAX)
                .memory_usage_mb(-0.0)
                .details(json.clone())
                .at(at),
            HealthCheck::new("m", "healthy").at(at),
        ],
    )
    .await;
    store(
        db,
        vec![
            Signal::new("m", "trend").asset(odd).score(-0.0).confidence(1.0).payload(Json::parse("null").unwrap()).at(at),
            Signal::new("m", "trend").score(0.1 + 0.2).payload(json.clone()).at(at),
        ],
    )
    .await;
    store(db, vec![Proposal::new("m").payload(json.clone()).at(at), Proposal::new("m").asset(odd).at(at)]).await;
    store(
        db,
        vec![
            RiskEvaluation::new("m", "p", RiskLevel::High, Verdict::Downgraded).var_99(-1e15).flags(json.clone()).method(odd).at(at),
            RiskEvaluation::new("m", "p", RiskLevel::Low, Verdict::Approved).recommendations(Json::parse("1E2").unwrap()).at(at),
        ],
    )
    .await;
    store(
        db,
        vec![
            OrderEvent::new("o", EventType::Pending)
                .side(Side::Sell)
                .quantity(edge)
                .price(fine)
                .sequence(i64::MIN)
                .details(json.clone())
                .at(at),
            OrderEvent::new("o", EventType::Fill).last_quantity(Decimal::ZERO).last_price(10_000).commission(fine).reason(odd).at(at),
            OrderEvent::new("o", EventType::Cancelled).at(at),
        ],
    )
    .await;
    store(
        db,
        vec![
            PortfolioSnapshot::new(serde_json::json!({"A": "1.5", "B": {"quantity": -2, "price": 3}}), edge, fine).at(at),
            PortfolioSnapshot::new(serde_json::json!({}), Decimal::ZERO, Decimal::from(-1)).at(at),
        ],
    )
    .await;
}

#[tokio::test]
async fn what_was_stored_verifies_whatever_it_holds_and_wherever_it_went() {
    for db in harness::all().await {
        assert_eq!(db.store.audit_seal().await.unwrap().entries, 0, "{}: an empty store", db.name);
        assert_clean(&db, "empty").await;
        extremes(&db, Utc::now() - TimeDelta::days(9)).await;
        assert_eq!(assert_clean(&db, "before it is sealed").await.unsealed_batches, 9, "{}", db.name);
        let first = seal(&db).await;
        assert_eq!(db.store.audit_seal().await.unwrap().added, vec![], "{}: nothing new, no block", db.name);
        compress(&db).await;
        extremes(&db, Utc::now() - TimeDelta::days(9)).await;
        store(&db, Vec::<HealthCheck>::new()).await;
        let last = seal(&db).await;
        compress(&db).await;
        let audit = db.store.audit_verify(&[first, last.clone()]).await.unwrap();
        assert_eq!(audit.findings, vec![], "{}", db.name);
        assert_eq!((audit.batches, audit.rows, audit.other_batches, audit.unsealed_batches), (15, 32, 4, 0), "{}", db.name);
        assert_eq!((audit.last, audit.anchors), (Some(last), 2), "{}", db.name);
        // The functions for SQL that stores rows by itself say the same.
        let client = db.store.client().await.unwrap();
        for table in ["module_execution", "health_check", "signal", "proposal", "risk_evaluation", "order_event", "portfolio_snapshot"] {
            let query = format!(
                "SELECT count(*) FROM hitherto.ingest_batch b WHERE table_name = '{table}' AND digest <> hitherto.canonical_digest(
                     ARRAY(SELECT hitherto.canonical_row(t) FROM hitherto.{table} t WHERE t.batch_id = b.batch_id))"
            );
            assert_eq!(client.query_one(&query, &[]).await.unwrap().get::<_, i64>(0), 0, "{}: {table}", db.name);
        }
    }
}

#[tokio::test]
async fn duplicates_replays_and_quarantined_rows_raise_no_alarm() {
    for db in harness::all().await {
        execute(&db, "ALTER TABLE hitherto.order_event ADD CONSTRAINT no_x CHECK (broker <> 'x')").await;
        execute(&db, "ALTER TABLE hitherto.health_check ADD CONSTRAINT no_thirteen CHECK (error_count % 100 <> 13)").await;
        let at = Utc::now() - TimeDelta::days(1);
        let event = |n: i64| OrderEvent::new(format!("o{}", n % 3), EventType::Fill).event_id_of(n).last_quantity(1).at(at);
        let events = |range: std::ops::Range<i64>| range.map(event).collect::<Vec<_>>();
        assert_eq!(store(&db, events(0..10)).await.rows, 10, "{}", db.name);
        assert_eq!(store(&db, events(0..10)).await.duplicates, 10, "{}: a replay", db.name);
        let stored = store(&db, events(5..15)).await;
        assert_eq!((stored.rows, stored.duplicates), (5, 5), "{}: some are new", db.name);
        let stored = store(&db, [events(20..22), events(20..22)].concat()).await;
        assert_eq!((stored.rows, stored.duplicates), (2, 2), "{}: twice in one batch", db.name);
        let stored = store(&db, [events(12..18), vec![event(99).broker("x")], events(16..19)].concat()).await;
        assert_eq!((stored.rows, stored.duplicates, stored.quarantined), (4, 5, 1), "{}: new, known and refused", db.name);
        let proposal = |n: i64| Proposal { proposal_id: format!("p{n}"), ..Proposal::new("m").at(at) };
        store(&db, (0..4).map(proposal).collect()).await;
        assert_eq!(store(&db, (2..6).map(proposal).collect()).await.rows, 2, "{}", db.name);
        let verdict = |n: i64| RiskEvaluation {
            evaluation_id: format!("e{n}"),
            ..RiskEvaluation::new("m", "p1", RiskLevel::Low, Verdict::Approved).at(at)
        };
        store(&db, (0..4).map(verdict).collect()).await;
        assert_eq!(store(&db, (2..6).map(verdict).collect()).await.rows, 2, "{}", db.name);
        let stored = store(&db, (0..1000).map(|n| HealthCheck::new("m", "healthy").error_count(n)).collect()).await;
        assert_eq!((stored.rows, stored.quarantined), (990, 10), "{}", db.name);
        assert_clean(&db, "not sealed").await;
        seal(&db).await;
        let audit = assert_clean(&db, "sealed").await;
        assert_eq!((audit.batches, audit.entries), (10, 10 + 11), "{}: ledger lines and quarantined rows", db.name);
    }
}

trait EventId {
    fn event_id_of(self, n: i64) -> Self;
}

impl EventId for OrderEvent {
    fn event_id_of(mut self, n: i64) -> Self {
        self.event_id = format!("e{n}");
        self
    }
}

#[tokio::test]
async fn lines_of_the_first_form_are_known_again_and_counted() {
    for db in harness::all().await {
        let batch = Batch::new("test", (0..3).map(|n| HealthCheck::new("m", "healthy").error_count(n)).collect()).unwrap();
        db.store.batch_store(&batch).await.unwrap();
        let client = db.store.client().await.unwrap();
        let copy = "COPY (SELECT checked_at, module_id, status, response_time_ms, error_count, memory_usage_mb, cpu_usage_percent, details, batch_id
                          FROM hitherto.health_check ORDER BY error_count) TO STDOUT (FORMAT binary)";
        let body: Vec<_> = client.copy_out(copy).await.unwrap().collect().await;
        let sha = body.iter().fold(Sha256::new(), |sha, piece| sha.chain_update(piece.as_ref().unwrap())).finalize().to_vec();
        // As the program before this one left it.
        client.batch_execute("SET session_replication_role = replica").await.unwrap();
        client.execute("UPDATE hitherto.ingest_batch SET digest_form = 1, digest = $1", &[&sha]).await.unwrap();
        client.batch_execute("RESET session_replication_role").await.unwrap();
        drop(client);
        assert!(db.store.batch_store(&batch).await.unwrap().already, "{}", db.name);
        seal(&db).await;
        assert_eq!(assert_clean(&db, "counted").await.counted_batches, 1, "{}", db.name);
        attack(&db, "DELETE FROM hitherto.health_check WHERE error_count = 1").await;
        assert_eq!(verify(&db).await.findings[0].what, "3 rows were stored and 2 are there", "{}", db.name);
        attack(&db, "UPDATE hitherto.ingest_batch SET digest = sha256('')").await;
        assert_eq!(db.store.batch_store(&batch).await.unwrap_err().kind(), ErrorKind::Conflict, "{}", db.name);
    }
}

#[tokio::test]
async fn events_that_came_under_a_taken_id_are_sealed() {
    for db in harness::all().await {
        store(&db, vec![fill(1, 1)]).await;
        assert_eq!(store(&db, vec![fill(1, 1).broker("other")]).await.quarantined, 1, "{}", db.name);
        seal(&db).await;
        assert_clean(&db, "sealed").await;
        attack(&db, "DELETE FROM hitherto.order_event_conflict").await;
        let audit = verify(&db).await;
        assert_eq!((audit.finding_count, audit.findings[0].table_name.as_str()), (1, "order_event_conflict"), "{}", db.name);
    }
}

#[tokio::test]
async fn a_row_by_hand_without_a_ledger_line_is_found_until_it_has_one() {
    for db in harness::all().await {
        store(&db, vec![Module::new("m", "1")]).await;
        let rows = |id: u32| {
            format!(
                "INSERT INTO hitherto.signal (emitted_at, module_id, signal_id, kind, batch_id) SELECT now(), module_id, 's{id}', 'trend', '00000000-0000-7000-8000-00000000000{id}' FROM hitherto.module RETURNING *"
            )
        };
        let line = |id: u32| {
            format!(
                "SELECT hitherto.ledger_add('00000000-0000-7000-8000-00000000000{id}', 'by hand', 'signal', array_agg(hitherto.canonical_row(stored::hitherto.signal)), min(emitted_at), max(emitted_at)) FROM stored"
            )
        };
        execute(&db, &format!("WITH stored AS ({}) {}", rows(1), line(1))).await;
        assert_eq!(assert_clean(&db, "with its line").await.batches, 1, "{}", db.name);
        execute(&db, &rows(2)).await;
        seal(&db).await;
        let audit = verify(&db).await;
        assert!(audit.finding_count == 1 && audit.findings[0].what.contains("not in the ledger"), "{}: {:?}", db.name, audit.findings);
        execute(&db, &format!("WITH stored AS (SELECT * FROM hitherto.signal WHERE signal_id = 's2') {}", line(2))).await;
        seal(&db).await;
        assert_eq!(assert_clean(&db, "with its line later").await.batches, 2, "{}", db.name);
    }
}

#[tokio::test]
async fn append_only_tables_refuse_everyone_but_retention() {
    for db in harness::all().await {
        extremes(&db, Utc::now() - TimeDelta::days(100)).await;
        keep_order_events(&db, Some(1_000)).await;
        seal(&db).await;
        execute(
            &db,
            "INSERT INTO hitherto.quarantine (batch_id, producer, table_name, record, sqlstate, reason) VALUES (gen_random_uuid(), 'p', 't', '{}', '23514', 'r')",
        )
        .await;
        let record_tables = ["module_execution", "health_check", "signal", "risk_evaluation", "order_event", "portfolio_snapshot"];
        let refused = async |sql: String| {
            let client = db.store.client().await.unwrap();
            let error = client.batch_execute(&sql).await.expect_err(&sql);
            let error = error.as_db_error().unwrap_or_else(|| panic!("{}: {sql}: {error}", db.name));
            assert!(error.code().code() == "42501" && error.message().contains("is append-only"), "{}: {sql}: {error}", db.name);
        };
        for compressed in [false, true] {
            for table in record_tables.iter().chain(&[
                "proposal",
                "ingest_batch",
                "quarantine",
                "regime_event",
                "audit_block",
                "audit_entry",
                "retention_event",
            ]) {
                let column = match *table {
                    "audit_block" => "sealed_at",
                    "audit_entry" => "key",
                    "retention_event" => "table_name",
                    "quarantine" => "reason",
                    "regime_event" => "notes",
                    _ => "batch_id",
                };
                refused(format!("UPDATE hitherto.{table} SET {column} = {column}")).await;
                refused(format!("DELETE FROM hitherto.{table}")).await;
                refused(format!("TRUNCATE hitherto.{table} CASCADE")).await;
            }
            if db.store.capabilities().engine == Engine::Postgresql {
                break;
            }
            refused("DELETE FROM hitherto.health_check WHERE module_id > 0".to_owned()).await;
            if compressed {
                // By its own name a chunk in the columnstore shows no rows that could be changed.
                break;
            }
            for table in record_tables {
                let client = db.store.client().await.unwrap();
                let chunk: String =
                    client.query_one(&format!("SELECT show_chunks('hitherto.{table}')::text LIMIT 1"), &[]).await.unwrap().get(0);
                drop(client);
                refused(format!("UPDATE {chunk} SET batch_id = batch_id")).await;
                refused(format!("DELETE FROM {chunk}")).await;
            }
            compress(&db).await;
        }
        // What retention has noted, and what is past its policy, may go.
        execute(&db, "INSERT INTO hitherto.retention_horizon VALUES ('health_check', now() - INTERVAL '101 days')").await;
        refused("DELETE FROM hitherto.health_check".to_owned()).await;
        execute(&db, "UPDATE hitherto.retention_horizon SET dropped_before = now()").await;
        execute(&db, "DELETE FROM hitherto.health_check").await;
        store(&db, vec![HealthCheck::new("m", "healthy").at(Utc::now() - TimeDelta::days(80))]).await;
        refused("DELETE FROM hitherto.health_check".to_owned()).await;
        db.store.retention_set("health_check", None).await.unwrap();
        refused("DELETE FROM hitherto.health_check".to_owned()).await;
        assert_eq!(db.store.execution_report("o").await.unwrap().unwrap().event_count, 3, "{}: a fold is updated", db.name);
        store(&db, vec![OrderEvent::new("o", EventType::Fill).last_quantity(1)]).await;
        assert_eq!(db.store.execution_report("o").await.unwrap().unwrap().event_count, 4, "{}", db.name);
    }
}

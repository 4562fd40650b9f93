//! The audit: what was stored is what is there, and what is not is named.

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

const KEPT: [&str; 6] = ["health_check", "order_event", "ingest_batch", "audit_entry", "audit_block", "retention_horizon"];

/// Remembers the tables, so that one history serves many attacks.
async fn remember(db: &Db) {
    for table in KEPT {
        execute(db, &format!("CREATE TABLE public.{table} AS SELECT * FROM hitherto.{table}")).await;
    }
}

async fn mend(db: &Db) {
    for table in KEPT {
        attack(db, &format!("DELETE FROM hitherto.{table}; INSERT INTO hitherto.{table} SELECT * FROM public.{table}")).await;
    }
    assert_clean(db, "mended").await;
}

#[tokio::test]
async fn every_attack_on_what_is_sealed_is_found_and_named() {
    for db in harness::all().await {
        let day = |days: i64| Utc::now() - TimeDelta::days(days);
        let check = |n: i32, days: i64| HealthCheck::new("m", "healthy").error_count(n).at(day(days));
        let fill = |n: i64| OrderEvent::new("o", EventType::Fill).event_id_of(n).last_quantity(n).at(day(3));
        let mut anchors = Vec::new();
        let mut batches = Vec::new();
        for block in 0..3 {
            let checks =
                Batch::new("test", (1..4).map(|n| check(10 * block + n, 30 - 10 * i64::from(block) - i64::from(n))).collect()).unwrap();
            let fills = Batch::new("test", (1..4).map(|n| fill(10 * i64::from(block) + n)).collect()).unwrap();
            db.store.batch_store(&checks).await.unwrap();
            db.store.batch_store(&fills).await.unwrap();
            batches.push((checks.id(), fills.id()));
            anchors.push(seal(&db).await);
        }
        compress(&db).await;
        remember(&db).await;
        let (a, b, d) = (batches[0].0, batches[0].1, batches[1].1);
        let (e, f) = batches[2];
        let attacks = [
            ("UPDATE hitherto.health_check SET response_time_ms = 9 WHERE error_count = 2".to_owned(), 1, a, "not those that were stored"),
            ("UPDATE hitherto.order_event SET last_quantity = 2.000000000000000001 WHERE event_id = 'e2'".to_owned(), 1, b, "not those that were stored"),
            ("DELETE FROM hitherto.health_check WHERE error_count = 2".to_owned(), 1, a, "3 rows were stored and 2 are there"),
            (
                format!("INSERT INTO hitherto.health_check (checked_at, module_id, status, batch_id) SELECT now(), module_id, 'healthy', '{a}' FROM hitherto.module"),
                1,
                a,
                "3 rows were stored and 4 are there",
            ),
            (
                format!("UPDATE hitherto.order_event SET batch_id = CASE event_id WHEN 'e1' THEN '{d}'::uuid ELSE '{b}' END WHERE event_id IN ('e1', 'e11')"),
                1,
                b,
                "not those that were stored",
            ),
            (format!("UPDATE hitherto.ingest_batch SET producer = 'x' WHERE batch_id = '{a}'"), 1, a, "changed after it was sealed"),
            (
                format!(
                    "UPDATE hitherto.health_check SET status = 'ill' WHERE batch_id = '{a}'; UPDATE hitherto.ingest_batch SET digest = hitherto.canonical_digest(
                     ARRAY(SELECT hitherto.canonical_row(h) FROM hitherto.health_check h WHERE batch_id = '{a}')) WHERE batch_id = '{a}'"
                ),
                1,
                a,
                "changed after it was sealed",
            ),
            (
                format!("DELETE FROM hitherto.order_event WHERE batch_id = '{d}'; DELETE FROM hitherto.ingest_batch WHERE batch_id = '{d}'"),
                2,
                d,
                "was sealed and is gone",
            ),
        ];
        for (sql, block, batch, words) in attacks {
            attack(&db, &sql).await;
            let audit = verify(&db).await;
            let first = audit.findings.first().unwrap_or_else(|| panic!("{}: not found: {sql}", db.name));
            assert_eq!((first.block_number, first.batch_id), (Some(block), Some(batch)), "{}: {sql}: {first:?}", db.name);
            assert!(first.what.contains(words), "{}: {sql}: {first:?}", db.name);
            mend(&db).await;
        }
        let attacks = [
            (format!("UPDATE hitherto.audit_entry SET block_number = CASE block_number WHEN 1 THEN 2 ELSE 1 END WHERE key IN ('{a}', '{d}')"), 1, "changed"),
            (format!("DELETE FROM hitherto.audit_entry WHERE key = '{d}'"), 2, "was sealed with 2 entries and has 1"),
            (format!("UPDATE hitherto.audit_entry SET hash = sha256('') WHERE key = '{d}'"), 2, "changed"),
            (
                "UPDATE hitherto.audit_block SET block_number = 9 WHERE block_number = 1; UPDATE hitherto.audit_block SET block_number = 1 WHERE block_number = 2;
                 UPDATE hitherto.audit_block SET block_number = 2 WHERE block_number = 9"
                    .to_owned(),
                1,
                "does not follow",
            ),
            ("DELETE FROM hitherto.audit_block WHERE block_number = 2".to_owned(), 2, "are missing"),
            ("UPDATE hitherto.audit_block SET retention = '{}' WHERE block_number = 2".to_owned(), 2, "not as it was sealed"),
        ];
        for (sql, block, words) in attacks {
            attack(&db, &sql).await;
            let audit = verify(&db).await;
            assert_eq!(audit.findings.first().map(|f| f.block_number), Some(Some(block)), "{}: {sql}: {:?}", db.name, audit.findings);
            assert!(
                audit.findings.iter().any(|f| f.block_number == Some(block) && f.what.contains(words)),
                "{}: {sql}: {:?}",
                db.name,
                audit.findings
            );
            mend(&db).await;
        }
        // Rows that nobody's ledger line speaks of.
        attack(&db, "INSERT INTO hitherto.health_check (checked_at, module_id, status, batch_id) SELECT now(), module_id, 'healthy', gen_random_uuid() FROM hitherto.module").await;
        assert!(verify(&db).await.findings[0].what.contains("not in the ledger"), "{}", db.name);
        mend(&db).await;

        // A dropped chunk, with and without the claim that retention did it.
        let drop = match db.store.capabilities().engine {
            Engine::Timescaledb => "SELECT drop_chunks('hitherto.health_check', older_than => now() - INTERVAL '25 days')",
            Engine::Postgresql => "DELETE FROM hitherto.health_check WHERE checked_at < now() - INTERVAL '25 days'",
        };
        let claim = "INSERT INTO hitherto.retention_horizon VALUES ('health_check', now() - INTERVAL '20 days'); SELECT hitherto.retention_set('health_check', INTERVAL '8 days')";
        for sql in [drop.to_owned(), format!("{drop}; {claim}")] {
            attack(&db, &sql).await;
            let first = verify(&db).await.findings.remove(0);
            assert_eq!(
                (first.block_number, first.batch_id, first.table_name.as_str()),
                (Some(1), Some(a), "health_check"),
                "{}: {sql}",
                db.name
            );
            execute(&db, "SELECT hitherto.retention_set('health_check', INTERVAL '90 days')").await;
            mend(&db).await;
        }

        // The end of the chain is cut off with all that it speaks of: only an anchor tells.
        attack(
            &db,
            &format!(
                "DELETE FROM hitherto.audit_block WHERE block_number = 3; DELETE FROM hitherto.audit_entry WHERE block_number = 3;
                 DELETE FROM hitherto.ingest_batch WHERE batch_id IN ('{e}', '{f}'); DELETE FROM hitherto.health_check WHERE batch_id = '{e}';
                 DELETE FROM hitherto.order_event WHERE batch_id = '{f}'"
            ),
        )
        .await;
        assert_clean(&db, "cut, and no anchor").await;
        let audit = db.store.audit_verify(&anchors).await.unwrap();
        assert_eq!(audit.finding_count, 1, "{}: {:?}", db.name, audit.findings);
        assert!(
            audit.findings[0].block_number == Some(3) && audit.findings[0].what.contains("cut off"),
            "{}: {:?}",
            db.name,
            audit.findings
        );
        // Sealing anew gives the block another hash.
        mend(&db).await;
        attack(&db, "DELETE FROM hitherto.audit_entry; DELETE FROM hitherto.audit_block").await;
        attack(
            &db,
            &format!("DELETE FROM hitherto.health_check WHERE batch_id = '{a}'; DELETE FROM hitherto.ingest_batch WHERE batch_id = '{a}'"),
        )
        .await;
        seal(&db).await;
        assert_clean(&db, "made anew, and no anchor").await;
        let audit = db.store.audit_verify(&anchors).await.unwrap();
        assert_eq!(audit.findings[0].block_number, Some(1), "{}", db.name);
        assert!(audit.findings[0].what.contains("made anew"), "{}: {:?}", db.name, audit.findings);
    }
}

#[tokio::test]
async fn a_history_that_retention_has_trimmed_raises_no_alarm() {
    for db in harness::all().await {
        let run =
            |days: &[i64]| days.iter().map(|d| ModuleExecution::new("m", 1.0).at(Utc::now() - TimeDelta::days(*d))).collect::<Vec<_>>();
        store(&db, run(&[200, 201])).await;
        db.store.maintain().await.unwrap();
        assert_eq!(assert_clean(&db, "trimmed before anything was sealed").await.trimmed_batches, 1, "{}", db.name);
        seal(&db).await;
        store(&db, run(&[120, 121])).await;
        store(&db, run(&[100, 1])).await;
        store(&db, run(&[40, 41])).await;
        store(&db, run(&[2, 3])).await;
        seal(&db).await;
        db.store.maintain().await.unwrap();
        let audit = assert_clean(&db, "trimmed since the last block").await;
        assert_eq!((audit.trimmed_batches, audit.partly_trimmed_batches, audit.batches), (2, 1, 2), "{}", db.name);
        seal(&db).await;
        assert_clean(&db, "trimmed and sealed").await;
        // Another policy: it is sealed, applied, and told.
        db.store.retention_set("module_execution", Some(TimeDelta::days(30))).await.unwrap();
        seal(&db).await;
        db.store.maintain().await.unwrap();
        let audit = assert_clean(&db, "under another policy").await;
        assert_eq!((audit.trimmed_batches, audit.batches), (3, 1), "{}", db.name);
        assert!(audit.notes.iter().any(|n| n.contains("module_execution is kept for 30 days since")), "{}: {:?}", db.name, audit.notes);
        db.store.retention_set("module_execution", None).await.unwrap();
        seal(&db).await;
        // Late rows of a time that was dropped are compared like any other.
        store(&db, run(&[150])).await;
        assert_eq!(assert_clean(&db, "late rows").await.batches, 2, "{}", db.name);
        // A claim that no policy was ever there for.
        store(&db, vec![OrderEvent::new("o", EventType::Fill).at(Utc::now() - TimeDelta::days(20))]).await;
        seal(&db).await;
        attack(&db, "DELETE FROM hitherto.order_event; INSERT INTO hitherto.retention_horizon VALUES ('order_event', now())").await;
        assert_eq!(verify(&db).await.findings[0].table_name, "order_event", "{}", db.name);
        seal(&db).await;
        let audit = verify(&db).await;
        assert!(audit.findings.iter().any(|f| f.what.contains("no sealed policy allows")), "{}: {:?}", db.name, audit.findings);
        assert!(audit.findings.iter().any(|f| f.table_name == "order_event"), "{}: {:?}", db.name, audit.findings);
    }
}

fn fill(n: i64, days: i64) -> OrderEvent {
    OrderEvent::new("o", EventType::Fill).event_id_of(n).last_quantity(n).at(Utc::now() - TimeDelta::days(days))
}

async fn keep_order_events(db: &Db, days: Option<i64>) {
    db.store.retention_set("order_event", days.map(TimeDelta::days)).await.unwrap();
}

#[tokio::test]
async fn rows_forged_into_a_batch_that_retention_has_trimmed_are_found() {
    for db in harness::all().await {
        let gone = Batch::new("test", (1..6).map(|n| fill(n, 200 + n)).collect()).unwrap();
        let part = Batch::new("test", vec![fill(6, 201), fill(7, 202), fill(8, 2)]).unwrap();
        db.store.batch_store(&gone).await.unwrap();
        db.store.batch_store(&part).await.unwrap();
        keep_order_events(&db, Some(40)).await;
        seal(&db).await;
        db.store.maintain().await.unwrap();
        seal(&db).await;
        let audit = assert_clean(&db, "trimmed").await;
        assert_eq!((audit.trimmed_batches, audit.partly_trimmed_batches), (1, 1), "{}", db.name);
        let places = [
            (gone.id(), "now()"),
            (gone.id(), "now() - INTERVAL '203 days'"),
            (gone.id(), "now() - INTERVAL '999 days'"),
            (part.id(), "now()"),
            (part.id(), "'infinity'"),
        ];
        for (batch, at) in places {
            attack(
                &db,
                &format!(
                    "INSERT INTO hitherto.order_event (event_at, order_id, event_id, event_type, last_quantity, batch_id)
                     VALUES ({at}, 'o', 'forged', 'fill', 1, '{batch}')"
                ),
            )
            .await;
            let audit = verify(&db).await;
            assert_eq!(audit.finding_count, 1, "{}: {at}", db.name);
            assert_eq!((audit.findings[0].block_number, audit.findings[0].batch_id), (Some(1), Some(batch)), "{}: {at}", db.name);
            assert!(audit.findings[0].what.contains("none of them was of"), "{}: {:?}", db.name, audit.findings);
            attack(&db, "DELETE FROM hitherto.order_event WHERE event_id = 'forged'").await;
        }
        assert_clean(&db, "as it was").await;
    }
}

#[tokio::test]
async fn a_ledger_line_has_the_times_of_what_was_stored_so_that_retention_excuses_no_more() {
    for db in harness::all().await {
        store(&db, vec![fill(1, 120)]).await;
        let known = Batch::new("test", vec![fill(1, 120)]).unwrap();
        let mut rows: Vec<OrderEvent> = (2..7).map(|n| fill(n, 1)).collect();
        rows.insert(2, known.rows()[0].clone());
        // Every fill(1, 120) is of another moment: the one that is stored comes again.
        let first = db.store.client().await.unwrap().query_one("SELECT event_at FROM hitherto.order_event", &[]).await.unwrap().get(0);
        rows[2].event_at = first;
        let (mixed, again) = (Batch::new("test", rows.clone()).unwrap(), Batch::new("test", vec![rows[2].clone()]).unwrap());
        assert_eq!(db.store.batch_store(&mixed).await.unwrap().duplicates, 1, "{}", db.name);
        assert_eq!(db.store.batch_store(&again).await.unwrap().duplicates, 1, "{}", db.name);
        let times = async |id: uuid::Uuid| {
            let row = db
                .store
                .client()
                .await
                .unwrap()
                .query_one("SELECT min_time, max_time FROM hitherto.ingest_batch WHERE batch_id = $1", &[&id])
                .await
                .unwrap();
            (row.get::<_, Option<DateTime<Utc>>>(0), row.get::<_, Option<DateTime<Utc>>>(1))
        };
        let (min, max) = times(mixed.id()).await;
        assert!(min.unwrap() > first + TimeDelta::days(100) && max.unwrap() >= min.unwrap(), "{}: {min:?} {max:?}", db.name);
        assert_eq!(times(again.id()).await, (None, None), "{}: nothing was stored", db.name);
        assert!(db.store.batch_store(&mixed).await.unwrap().rows == 5, "{}: a resend is known", db.name);
        keep_order_events(&db, Some(40)).await;
        seal(&db).await;
        db.store.maintain().await.unwrap();
        seal(&db).await;
        assert_eq!(assert_clean(&db, "trimmed").await.trimmed_batches, 1, "{}", db.name);
        attack(&db, "DELETE FROM hitherto.order_event").await;
        let audit = verify(&db).await;
        assert_eq!((audit.finding_count, audit.trimmed_batches), (1, 1), "{}", db.name);
        assert_eq!(audit.findings[0].batch_id, Some(mixed.id()), "{}: {:?}", db.name, audit.findings);
    }
}

#[tokio::test]
async fn a_policy_that_held_between_two_blocks_allows_what_it_allowed_then_and_is_told() {
    for db in harness::all().await {
        store(&db, vec![fill(1, 120)]).await;
        store(&db, vec![fill(2, 20)]).await;
        store(&db, vec![fill(3, 1)]).await;
        seal(&db).await;
        keep_order_events(&db, Some(40)).await;
        db.store.maintain().await.unwrap();
        keep_order_events(&db, None).await;
        seal(&db).await;
        let audit = assert_clean(&db, "kept for ever again").await;
        assert_eq!((audit.trimmed_batches, audit.batches), (1, 2), "{}", db.name);
        assert!(audit.notes.iter().any(|n| n.contains("order_event was kept for 40 days")), "{}: {:?}", db.name, audit.notes);
        seal(&db).await;
        // No more than that, however long it is kept for ever.
        let claim = "UPDATE hitherto.retention_horizon SET dropped_before = now() - INTERVAL '10 days' WHERE table_name = 'order_event'";
        attack(&db, &format!("DELETE FROM hitherto.order_event WHERE event_id = 'e2'; {claim}")).await;
        assert_eq!(verify(&db).await.finding_count, 1, "{}: the claim is not sealed", db.name);
        seal(&db).await;
        let audit = verify(&db).await;
        assert!(audit.findings.iter().any(|f| f.what.contains("no sealed policy allows")), "{}: {:?}", db.name, audit.findings);
        assert!(audit.findings.iter().any(|f| f.block_number == Some(1) && f.batch_id.is_some()), "{}: {:?}", db.name, audit.findings);
        // A policy that is noted afterwards does not change what an earlier block says.
        keep_order_events(&db, Some(8)).await;
        keep_order_events(&db, None).await;
        seal(&db).await;
        let audit = verify(&db).await;
        assert!(audit.findings.iter().any(|f| f.what.contains("no sealed policy allows")), "{}: {:?}", db.name, audit.findings);
        attack(&db, "DELETE FROM hitherto.retention_event").await;
        let audit = verify(&db).await;
        assert!(audit.findings.iter().any(|f| f.table_name == "retention_event"), "{}: {:?}", db.name, audit.findings);
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

#[tokio::test]
async fn lines_below_a_transaction_that_is_open_wait_for_the_next_block() {
    let db = harness::native().await;
    store(&db, vec![HealthCheck::new("m", "healthy")]).await;
    let slow = db.config.connect().await.unwrap();
    slow.batch_execute(
        "BEGIN; SELECT pg_current_xact_id(); SELECT hitherto.ledger_add(gen_random_uuid(), 'slow', 'signal', '{}', NULL, NULL)",
    )
    .await
    .unwrap();
    store(&db, vec![HealthCheck::new("m", "healthy")]).await;
    assert_eq!(db.store.audit_seal().await.unwrap().entries, 1, "what came after an open transaction is not sealed before it");
    assert_eq!(assert_clean(&db, "meanwhile").await.unsealed_batches, 1);
    slow.batch_execute("COMMIT").await.unwrap();
    assert_eq!(db.store.audit_seal().await.unwrap().entries, 2);
    assert_eq!(assert_clean(&db, "all").await.entries, 3);
    // A server restored from a backup counts its transactions anew.
    attack(&db, "UPDATE hitherto.ingest_batch SET xid = '4000000000'; DELETE FROM hitherto.audit_entry; DELETE FROM hitherto.audit_block")
        .await;
    assert_eq!(db.store.audit_seal().await.unwrap().entries, 3);
    store(&db, vec![HealthCheck::new("m", "healthy")]).await;
    assert_eq!(db.store.audit_seal().await.unwrap().entries, 1);
    assert_clean(&db, "restored").await;
}

#[tokio::test]
async fn writers_do_not_wait_for_a_seal_and_sealers_take_turns() {
    let db = harness::native().await;
    store(&db, vec![HealthCheck::new("m", "healthy")]).await;
    // A seal that has read the ledger and can't go on.
    let blocker = db.config.connect().await.unwrap();
    blocker.batch_execute("BEGIN; LOCK TABLE hitherto.audit_entry IN EXCLUSIVE MODE").await.unwrap();
    let sealing: Vec<_> = (0..3)
        .map(|_| {
            let store = db.store.clone();
            tokio::spawn(async move { store.audit_seal().await.unwrap().added.len() })
        })
        .collect();
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    // A transaction sees one picture of the activity: another session looks.
    let looking = db.config.connect().await.unwrap();
    while looking.query_one(waits, &[]).await.unwrap().get::<_, i64>(0) < 3 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let writing = async {
        extremes(&db, Utc::now()).await;
        store(&db, vec![HealthCheck::new("m", "healthy"); 2_000]).await;
    };
    tokio::time::timeout(Duration::from_secs(20), writing).await.expect("writers do not wait");
    blocker.batch_execute("COMMIT").await.unwrap();
    let mut added = 0;
    for sealing in sealing {
        added += sealing.await.unwrap();
    }
    assert!((1..=3).contains(&added), "{added} blocks");
    let audit = assert_clean(&db, "sealed by three at once").await;
    assert_eq!((audit.blocks as usize, audit.unsealed_batches), (added, if added == 1 { 10 } else { 0 }));
}

#[tokio::test]
async fn the_command_notes_blocks_in_the_anchor_file_and_ends_with_1_on_a_finding() {
    let db = harness::native().await;
    let shell = Shell::new(&db);
    let path = shell.path("anchors");
    let anchor = path.to_str().unwrap();
    let printed = |output: &std::process::Output| String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(printed(&shell.run(&["audit", "seal"]).await).contains("block 1 "), "retention's settings are sealed in an empty store");
    store(&db, vec![HealthCheck::new("m", "healthy")]).await;
    assert_eq!(code(&shell.run(&["audit", "verify", "--anchor", anchor]).await), 2, "there is no such file");
    for _ in 0..2 {
        assert_eq!(code(&shell.run(&["audit", "seal", "--anchor", anchor]).await), 0);
    }
    let noted = std::fs::read_to_string(&path).unwrap();
    assert_eq!(noted.lines().map(|line| line.split(' ').next().unwrap()).collect::<Vec<_>>(), ["2"]);
    let verified = shell.run(&["audit", "verify", "--anchor", anchor, "--json"]).await;
    assert_eq!(code(&verified), 0, "{}", words(&verified));
    let audit: serde_json::Value = serde_json::from_slice(&verified.stdout).unwrap();
    assert_eq!((&audit["batches"], &audit["anchors"], &audit["finding_count"]), (&1.into(), &1.into(), &0.into()));
    attack(&db, "UPDATE hitherto.health_check SET status = 'ill'").await;
    let verified = shell.run(&["audit", "verify"]).await;
    assert_eq!(code(&verified), 1);
    assert!(printed(&verified).contains("block 2, batch "), "{}", printed(&verified));
    shell.write("anchors", "2 abc\n");
    let verified = shell.run(&["audit", "verify", "--anchor", anchor]).await;
    assert!(code(&verified) == 2 && words(&verified).contains("line 1: '2 abc' is no anchor"), "{}", words(&verified));
}

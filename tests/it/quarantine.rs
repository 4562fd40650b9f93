//! What was refused is shown, tried again, or given up.

use futures_util::future::join_all;
use hitherto::records::{EventType, HealthCheck, OrderEvent, Side};
use hitherto::store::{QuarantineFilter, ResolveOutcome};
use hitherto::writer::Batch;
use serde_json::json;

use crate::harness::{self, Db};
use crate::shell::{CHECKS, Shell, code, count, document, words};

const ROWS: &str = "SELECT count(*) FROM hitherto.quarantine";
const LEDGER: &str = "SELECT coalesce(sum(row_count), 0)::bigint FROM hitherto.ingest_batch WHERE table_name = 'health_check'";

/// Checks of which three are refused while `no_thirteen` stands.
async fn refuse_three(db: &Db) {
    let client = db.store.client().await.unwrap();
    client.batch_execute("ALTER TABLE hitherto.health_check ADD CONSTRAINT no_thirteen CHECK (error_count % 100 <> 13)").await.unwrap();
    drop(client);
    let rows = (0..300).map(|n| HealthCheck::new("m", "healthy").error_count(n)).collect();
    let stored = db.store.batch_store(&Batch::new("test", rows).unwrap()).await.unwrap();
    assert_eq!((stored.rows, stored.quarantined), (297, 3));
}

async fn allow(db: &Db) {
    let client = db.store.client().await.unwrap();
    client.batch_execute("ALTER TABLE hitherto.health_check DROP CONSTRAINT no_thirteen").await.unwrap();
}

async fn waiting(db: &Db) -> Vec<i64> {
    db.store.quarantine_list(&QuarantineFilter::default()).await.unwrap().iter().map(|row| row.quarantine_id).collect()
}

#[tokio::test]
async fn a_row_is_stored_once_however_often_it_is_tried() {
    for db in harness::all().await {
        refuse_three(&db).await;
        let ids = waiting(&db).await;
        assert_eq!(ids.len(), 3, "{}", db.name);
        let batches = count(&db, "SELECT count(*) FROM hitherto.ingest_batch").await;
        for _ in 0..3 {
            let refused = db.store.quarantine_retry(ids[0], None, None).await.unwrap();
            assert_eq!(refused.outcome, ResolveOutcome::Refused, "{}", db.name);
            assert!(refused.reason.unwrap().contains("no_thirteen"), "{}", db.name);
        }
        // It leaves no trace.
        assert_eq!((count(&db, ROWS).await, count(&db, "SELECT count(*) FROM hitherto.ingest_batch").await), (3, batches), "{}", db.name);
        assert_eq!(waiting(&db).await, ids, "{}", db.name);
        allow(&db).await;
        let all = join_all((0..4).map(|_| db.store.quarantine_retry(ids[0], None, Some("ann")))).await;
        assert!(
            all.iter().all(|r| [ResolveOutcome::Stored, ResolveOutcome::Already].contains(&r.as_ref().unwrap().outcome)),
            "{}: {all:?}",
            db.name
        );
        assert_eq!((count(&db, CHECKS).await, count(&db, LEDGER).await), (298, 298), "{}", db.name);
        let row = db.store.quarantine_get(ids[0]).await.unwrap();
        assert_eq!(row.resolution.unwrap().resolved_by, "ann", "{}", db.name);
        let twice = db.store.quarantine_drop(ids[0], None, "no").await.unwrap();
        assert_eq!(twice.outcome, ResolveOutcome::Already, "{}", db.name);
        // Another text under the same number does not go in beside it.
        let other = serde_json::to_string(&HealthCheck::new("m", "other")).unwrap();
        assert_eq!(db.store.quarantine_retry(ids[0], Some(&other), None).await.unwrap().outcome, ResolveOutcome::Already, "{}", db.name);
        // Cut off between the row and what is noted of it: the next try mends that.
        let client = db.store.client().await.unwrap();
        client.batch_execute("ALTER TABLE hitherto.quarantine_resolution ADD CONSTRAINT cut_off CHECK (false) NOT VALID").await.unwrap();
        drop(client);
        db.store.quarantine_retry(ids[1], None, None).await.unwrap_err();
        assert_eq!((count(&db, CHECKS).await, waiting(&db).await.len()), (299, 2), "{}", db.name);
        db.store.client().await.unwrap().batch_execute("ALTER TABLE hitherto.quarantine_resolution DROP CONSTRAINT cut_off").await.unwrap();
        let healed = db.store.quarantine_drop(ids[1], None, "too late").await.unwrap();
        assert_eq!((healed.outcome, count(&db, CHECKS).await), (ResolveOutcome::Stored, 299), "{}", db.name);
        assert_eq!(waiting(&db).await, ids[2..], "{}", db.name);
        // What became of a row is sealed with the rest, and stays.
        db.store.audit_seal().await.unwrap();
        assert_eq!(db.store.audit_verify(&[]).await.unwrap().finding_count, 0, "{}", db.name);
        let error = db.store.client().await.unwrap().batch_execute("DELETE FROM hitherto.quarantine_resolution").await.unwrap_err();
        assert_eq!(error.code().unwrap().code(), "42501", "{}", db.name);
    }
}

#[tokio::test]
async fn an_id_that_is_taken_stays_refused_until_it_is_another() {
    for db in harness::all().await {
        let event = |quantity: i64| {
            let mut event = OrderEvent::new("o", EventType::Submitted).asset("A").side(Side::Buy).quantity(quantity);
            event.event_id = "e".into();
            event
        };
        for quantity in [1, 2] {
            db.store.batch_store(&Batch::new("test", vec![event(quantity)]).unwrap()).await.unwrap();
        }
        // By hand, as a trigger writes it.
        let by_hand = "INSERT INTO hitherto.order_event (event_at, order_id, event_id, event_type, last_quantity, details, batch_id)
                       VALUES (now(), 'o', 'e', 'fill', 1.50, '{\"n\": 1.00}', gen_random_uuid())";
        db.store.client().await.unwrap().batch_execute(by_hand).await.unwrap();
        let ids = waiting(&db).await;
        assert_eq!(ids.len(), 2, "{}", db.name);
        for id in &ids {
            let again = db.store.quarantine_retry(*id, None, None).await.unwrap();
            assert_eq!(again.outcome, ResolveOutcome::Refused, "{}", db.name);
            assert!(again.reason.unwrap().contains("its id stands with other content"), "{}", db.name);
        }
        let mut record: serde_json::Value = serde_json::from_str(&db.store.quarantine_get(ids[1]).await.unwrap().record).unwrap();
        record["event_id"] = json!("e2");
        let corrected = db.store.quarantine_retry(ids[1], Some(&record.to_string()), None).await.unwrap();
        assert_eq!(corrected.outcome, ResolveOutcome::Stored, "{}: {corrected:?}", db.name);
        assert_eq!(
            count(&db, "SELECT count(*) FROM hitherto.order_event WHERE event_id = 'e2' AND last_quantity = 1.5").await,
            1,
            "{}",
            db.name
        );
        assert_eq!((waiting(&db).await, count(&db, ROWS).await), (vec![ids[0]], 2), "{}", db.name);
    }
}

#[tokio::test]
async fn the_command_lists_retries_and_drops() {
    let db = harness::native().await;
    let shell = Shell::new(&db);
    let run = async |args: &[&str]| shell.run(args).await;
    assert!(String::from_utf8_lossy(&run(&["quarantine", "list"]).await.stdout).contains("nothing is in quarantine"));
    assert_eq!(code(&run(&["quarantine", "retry", "--all"]).await), 0);
    refuse_three(&db).await;
    let list = document(&run(&["quarantine", "list", "--table", "health-check", "--json"]).await);
    assert_eq!((list.as_array().unwrap().len(), &list[0]["sqlstate"], &list[0]["resolution"]), (3, &json!("23514"), &json!(null)));
    let text = run(&["quarantine", "list"]).await;
    assert!(String::from_utf8_lossy(&text.stdout).contains("no_thirteen"), "{text:?}");
    let id = list[0]["quarantine_id"].as_i64().unwrap().to_string();
    let shown = run(&["quarantine", "show", &id]).await;
    assert!(String::from_utf8_lossy(&shown.stdout).contains("\"error_count\":13"), "{shown:?}");
    let refused = run(&["quarantine", "retry", "--all", "--json"]).await;
    assert_eq!((code(&refused), &document(&refused)[2]["outcome"]), (1, &json!("refused")));
    let doctor = document(&run(&["doctor", "--json"]).await);
    assert!(doctor["findings"].to_string().contains("health_check: 3 rows wait in quarantine"), "{doctor}");
    // A corrected record, from a file; one that is none is refused.
    let mut record: serde_json::Value = serde_json::from_str(list[0]["record"].as_str().unwrap()).unwrap();
    record["error_count"] = json!(14);
    shell.write("good.json", record.to_string());
    shell.write("bad.json", "{\"error_count\": 14}");
    let bad = run(&["quarantine", "retry", &id, "--record", "bad.json"]).await;
    assert_eq!(code(&bad), 1);
    assert!(String::from_utf8_lossy(&bad.stdout).contains("is no health_check record"), "{bad:?}");
    let good = run(&["quarantine", "retry", &id, "--record", "good.json", "--by", "ann", "--json"]).await;
    assert_eq!((code(&good), &document(&good)[0]["outcome"]), (0, &json!("stored")), "{}", words(&good));
    let second = list[1]["quarantine_id"].to_string();
    assert_eq!(code(&run(&["quarantine", "drop", &second]).await), 2, "a reason is asked for");
    assert_eq!(code(&run(&["quarantine", "drop", &second, "--reason", " "]).await), 1);
    let dropped = run(&["quarantine", "drop", &second, "--reason", "a test's", "--json"]).await;
    assert_eq!(document(&dropped)[0]["outcome"], "dropped");
    allow(&db).await;
    assert_eq!(code(&run(&["quarantine", "retry", "--all"]).await), 0);
    assert_eq!((count(&db, CHECKS).await, count(&db, LEDGER).await), (299, 299));
    let all = document(&run(&["quarantine", "list", "--all", "--json"]).await);
    let words: Vec<&str> = all.as_array().unwrap().iter().map(|row| row["resolution"]["resolution"].as_str().unwrap()).collect();
    assert_eq!(words, ["stored", "dropped", "stored"]);
    assert_eq!(document(&run(&["quarantine", "list", "--json"]).await), json!([]));
    assert_eq!(code(&run(&["doctor"]).await), 0);
    assert_eq!(code(&run(&["quarantine", "show", "99"]).await), 1);
}

#[tokio::test]
async fn a_row_whose_turn_it_is_not_keeps_nothing_from_the_others() {
    let db = harness::native().await;
    let shell = Shell::new(&db);
    refuse_three(&db).await;
    allow(&db).await;
    let ids = waiting(&db).await;
    let outcomes = |output: &std::process::Output| -> Vec<String> {
        let rows = document(output).as_array().unwrap().clone();
        rows.iter().map(|row| row["outcome"].as_str().unwrap().to_owned()).collect()
    };
    let raise = async |count: i64, sqlstate: &str| {
        let client = db.store.client().await.unwrap();
        client
            .batch_execute(&format!(
                "CREATE OR REPLACE FUNCTION public.not_now() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                     IF NEW.error_count = {count} THEN RAISE EXCEPTION 'not now' USING ERRCODE = '{sqlstate}'; END IF; RETURN NEW; END $$;
                 CREATE OR REPLACE TRIGGER not_now BEFORE INSERT ON hitherto.health_check FOR EACH ROW EXECUTE FUNCTION public.not_now()"
            ))
            .await
            .unwrap();
    };
    // What nobody may do ends it; what was done before is told.
    raise(113, "42501").await;
    let ended = shell.run(&["quarantine", "retry", "--all", "--json"]).await;
    let message = document(&ended)["error"]["message"].as_str().unwrap().to_owned();
    assert_eq!(code(&ended), 4, "{}", words(&ended));
    assert!(message.ends_with(&format!("the other rows: {} stored", ids[0])), "{message}");
    raise(113, "55000").await;
    let refused = shell.run(&["quarantine", "retry", "--all", "--json"]).await;
    assert_eq!((code(&refused), outcomes(&refused)), (1, vec!["refused".to_owned(), "stored".to_owned()]), "{}", words(&refused));
    assert!(document(&refused)[0]["reason"].as_str().unwrap().contains("not now"), "{refused:?}");
    assert_eq!(waiting(&db).await, [ids[1]]);
    raise(0, "55000").await;
    let unknown = shell.run(&["quarantine", "retry", "4711", &ids[1].to_string(), "--json"]).await;
    assert_eq!(code(&unknown), 1, "{}", words(&unknown));
    let message = document(&unknown)["error"]["message"].as_str().unwrap().to_owned();
    assert!(message.contains("4711") && message.ends_with(&format!("the other rows: {} stored", ids[1])), "{message}");
    assert_eq!((count(&db, CHECKS).await, waiting(&db).await), (300, vec![]));
}

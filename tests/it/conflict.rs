//! An id is given once: the first record under it stays, another one goes to quarantine.

use chrono::{TimeDelta, Utc};
use hitherto::records::{EventType, OrderEvent, Proposal, Record, RiskEvaluation, RiskLevel, Side, Verdict};
use hitherto::writer::{Batch, Stored};

use crate::harness::{self, Db};
use crate::shell::count;

async fn store<R: Record>(db: &Db, rows: Vec<R>) -> Stored {
    db.store.batch_store(&Batch::new("test", rows).unwrap()).await.unwrap()
}

fn counts(stored: Stored) -> (u64, u64, u64) {
    (stored.rows, stored.duplicates, stored.quarantined)
}

fn event(order_id: &str, event_id: &str, kind: EventType) -> OrderEvent {
    let mut event = OrderEvent::new(order_id, kind).asset("A").side(Side::Buy);
    event.event_id = event_id.to_owned();
    event
}

async fn quarantine(db: &Db) -> Vec<(String, String, String)> {
    let query = "SELECT table_name, record, reason FROM hitherto.quarantine ORDER BY quarantine_id";
    let rows = db.store.client().await.unwrap().query(query, &[]).await.unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect()
}

#[tokio::test]
async fn an_event_id_that_comes_with_other_content_is_shown_beside_the_first_and_flagged() {
    for db in harness::all().await {
        let at = Utc::now() - TimeDelta::days(40);
        let first = event("o", "e1", EventType::Submitted).quantity(100).at(at);
        let fill = event("o", "e2", EventType::Fill).last_quantity(40).last_price(10).at(at);
        assert_eq!(counts(store(&db, vec![first.clone(), fill.clone()]).await), (2, 0, 0), "{}", db.name);
        // The same id at another time, in another chunk; with another quantity; on another order.
        let later = first.clone().at(at + TimeDelta::days(30));
        let more = fill.clone().last_quantity(60);
        let mut elsewhere = first.clone();
        elsewhere.order_id = "other".to_owned();
        let neighbour = event("o", "e3", EventType::Fill).last_quantity(10).last_price(11).at(at + TimeDelta::days(30));
        let rows = vec![later.clone(), first.clone(), more.clone(), elsewhere.clone(), neighbour];
        assert_eq!(counts(store(&db, rows).await), (1, 1, 3), "{}", db.name);
        let refused = quarantine(&db).await;
        assert_eq!(refused.len(), 3, "{}", db.name);
        for (table, record, reason) in &refused {
            assert_eq!(table, "order_event", "{}", db.name);
            let refused: OrderEvent = serde_json::from_str(record).unwrap();
            assert!([&later, &more, &elsewhere].contains(&&refused), "{}: {record}", db.name);
            assert!(reason.contains("stands with other content") && reason.contains(r#""order_id": "o""#), "{}: {reason}", db.name);
        }
        let report = db.store.execution_report("o").await.unwrap().unwrap();
        assert_eq!(report.filled_quantity, 50.into(), "{}: the first stays", db.name);
        assert_eq!(report.anomalies, ["event_id_conflict"], "{}", db.name);
        assert_eq!(db.store.execution_report("other").await.unwrap(), None, "{}: nothing was stored of it", db.name);
        // Once it has events, the order that lacks one says so, too.
        store(&db, vec![event("other", "e9", EventType::Submitted)]).await;
        assert_eq!(db.store.execution_report("other").await.unwrap().unwrap().anomalies, ["event_id_conflict"], "{}", db.name);
        // Again, in another batch: it is known.
        assert_eq!(counts(store(&db, vec![later, more]).await), (0, 2, 0), "{}", db.name);
        assert_eq!(quarantine(&db).await.len(), 3, "{}", db.name);
        let query = "SELECT count(*) FROM hitherto.order_anomaly WHERE order_id = 'o' AND anomaly = 'event_id_conflict' AND explanation IS NOT NULL";
        assert_eq!(count(&db, query).await, 1, "{}", db.name);
    }
}

#[tokio::test]
async fn of_two_contents_under_one_id_in_one_batch_the_first_stays() {
    for db in harness::all().await {
        let fill = event("o", "e", EventType::Fill).last_quantity(1).last_price(10);
        let rows = vec![fill.clone(), fill.clone().last_quantity(2), fill.clone(), fill.clone().last_quantity(2)];
        assert_eq!(counts(store(&db, rows).await), (1, 2, 1), "{}", db.name);
        let report = db.store.execution_report("o").await.unwrap().unwrap();
        assert_eq!((report.filled_quantity, report.event_count), (1.into(), 1), "{}", db.name);
    }
}

#[tokio::test]
async fn an_id_that_comes_again_takes_nothing_new_with_it() {
    /// More than goes into one statement.
    const NEW: i32 = 5_100;
    for db in harness::all().await {
        let at = Utc::now() - TimeDelta::hours(1);
        let fill = |id: String| event("o", &id, EventType::Fill).last_quantity(1).last_price(10).at(at);
        // In the order of ids it stands in the middle.
        let stands = fill("m".to_owned());
        assert_eq!(counts(store(&db, vec![stands.clone()]).await), (1, 0, 0), "{}", db.name);
        for (batch, place) in [0, 2_500, NEW].into_iter().enumerate() {
            let mut rows: Vec<OrderEvent> = (0..NEW).map(|n| fill(format!("{}{batch}-{n}", if n % 2 == 0 { 'a' } else { 'z' }))).collect();
            rows.insert(place as usize, stands.clone());
            assert_eq!(counts(store(&db, rows.clone()).await), (NEW as u64, 1, 0), "{}: at {place}", db.name);
            assert_eq!(counts(store(&db, rows).await), (0, NEW as u64 + 1, 0), "{}: again", db.name);
        }
        let events = i64::from(3 * NEW + 1);
        for table in ["order_event", "order_event_key"] {
            assert_eq!(count(&db, &format!("SELECT count(*) FROM hitherto.{table}")).await, events, "{}: {table}", db.name);
        }
        assert_eq!(db.store.execution_report("o").await.unwrap().unwrap().event_count, events, "{}", db.name);
    }
}

#[tokio::test]
async fn an_id_outlives_the_event_that_retention_dropped() {
    for db in harness::all().await {
        let old = Utc::now() - TimeDelta::days(60);
        let first = event("a", "e1", EventType::Submitted).quantity(9).at(old);
        store(&db, vec![first.clone()]).await;
        db.store.retention_set("order_event", Some(TimeDelta::days(30))).await.unwrap();
        db.store.maintain().await.unwrap();
        assert_eq!(count(&db, "SELECT count(*) FROM hitherto.order_event").await, 0, "{}", db.name);
        let mut other = event("b", "e1", EventType::Fill).last_quantity(9).last_price(5);
        other.event_at = chrono::SubsecRound::trunc_subsecs(Utc::now(), 6);
        let new = event("c", "e2", EventType::Submitted);
        // A replay changes nothing, not even the order's report; another event under the id is refused.
        assert_eq!(counts(store(&db, vec![first, other, new]).await), (1, 1, 1), "{}", db.name);
        let a = db.store.execution_report("a").await.unwrap().unwrap();
        assert!(!a.anomalies.contains(&"fill_after_reject".to_owned()) && a.event_count == 1, "{}: {a:?}", db.name);
        assert_eq!(quarantine(&db).await.len(), 1, "{}", db.name);
    }
}

#[tokio::test]
async fn rows_written_by_hand_are_held_to_the_same_rules() {
    for db in harness::all().await {
        store(&db, vec![event("o", "e1", EventType::Submitted).quantity(100)]).await;
        let insert = |id: &str, seconds: i64, quantity: i64| {
            format!(
                "INSERT INTO hitherto.order_event (event_at, order_id, event_id, event_type, last_quantity, last_price, batch_id)
                 VALUES (TIMESTAMPTZ '2026-06-01 00:00:00Z' + {seconds} * INTERVAL '1 second', 'o', '{id}', 'fill', {quantity}, 10, gen_random_uuid())"
            )
        };
        let client = db.store.client().await.unwrap();
        for (statement, inserted) in [
            (insert("e2", 0, 30), 1),
            (insert("e2", 0, 30), 0),
            (insert("e2", 60, 30), 0),
            (insert("e2", 0, 31), 0),
            (insert("e3", 60, 30), 1),
        ] {
            assert_eq!(client.execute(&statement, &[]).await.unwrap(), inserted, "{}: {statement}", db.name);
        }
        drop(client);
        let report = db.store.execution_report("o").await.unwrap().unwrap();
        assert_eq!((report.filled_quantity, report.event_count), (60.into(), 3), "{}: folded", db.name);
        assert_eq!(report.anomalies, ["event_id_conflict"], "{}", db.name);
        assert_eq!(quarantine(&db).await.len(), 2, "{}", db.name);
    }
}

#[tokio::test]
async fn other_decisions_under_an_id_that_is_taken_go_to_quarantine() {
    for db in harness::all().await {
        let at = Utc::now() - TimeDelta::hours(1);
        let mut proposal = Proposal::new("m").at(at).asset("A");
        proposal.proposal_id = "p".to_owned();
        let mut verdict = RiskEvaluation::new("m", "p", RiskLevel::Low, Verdict::Approved).at(at);
        verdict.evaluation_id = "r".to_owned();
        assert_eq!(counts(store(&db, vec![proposal.clone()]).await), (1, 0, 0));
        assert_eq!(counts(store(&db, vec![verdict.clone()]).await), (1, 0, 0));
        assert_eq!(counts(store(&db, vec![proposal.clone(), proposal.asset("B")]).await), (0, 1, 1), "{}", db.name);
        let mut other = verdict.clone();
        other.verdict = Verdict::Rejected;
        assert_eq!(counts(store(&db, vec![verdict, other]).await), (0, 1, 1), "{}", db.name);
        let tables: Vec<String> = quarantine(&db).await.into_iter().map(|(table, ..)| table).collect();
        assert_eq!(tables, ["proposal", "risk_evaluation"], "{}", db.name);
    }
}

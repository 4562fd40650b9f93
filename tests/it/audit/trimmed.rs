//! A history that retention has trimmed: no alarm for what retention did, and no excuse for more.

use super::*;

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

pub(super) fn fill(n: i64, days: i64) -> OrderEvent {
    OrderEvent::new("o", EventType::Fill).event_id_of(n).last_quantity(n).at(Utc::now() - TimeDelta::days(days))
}

pub(super) async fn keep_order_events(db: &Db, days: Option<i64>) {
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

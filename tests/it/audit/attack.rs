//! What somebody does who has switched the triggers off, and that it is found.

use super::*;

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

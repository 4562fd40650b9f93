//! Deletion on plain PostgreSQL: in short transactions, beside others who write.

use chrono::{TimeDelta, Utc};
use hitherto::records::{HealthCheck, ModuleExecution};

use super::{BY_DAY, RAW, count, levels, store};
use crate::harness;

/// Old rows by the hundred thousand, as fast as the server makes them.
async fn fill(db: &harness::Db, rows: i64) {
    let query = format!(
        "INSERT INTO hitherto.module_execution (started_at, module_id, execution_id, duration_ms, success, batch_id)
         SELECT date_trunc('day', now(), 'UTC') - INTERVAL '100 days' + n % 86400 * INTERVAL '1 second', 1, 'e' || n, n % 100, true, gen_random_uuid()
         FROM generate_series(1, {rows}) AS n"
    );
    db.store.client().await.unwrap().batch_execute(&query).await.unwrap();
}

#[tokio::test]
async fn a_large_deletion_is_made_of_short_transactions_that_nobody_waits_for() {
    let db = harness::native().await;
    store(&db.store, vec![ModuleExecution::new("m", 1.0)]).await;
    fill(&db, 300_000).await;
    let xid = "SELECT pg_current_xact_id()::text::bigint";
    let first = count(&db, xid).await;
    let busy = std::sync::atomic::AtomicBool::new(true);
    let deletion = async {
        let trimmed = db.store.maintain().await.unwrap();
        busy.store(false, std::sync::atomic::Ordering::Relaxed);
        trimmed
    };
    // Somebody writes all the time, and somebody wants what a reader of the whole table wants.
    let neighbours = async {
        let client = db.config.connect().await.unwrap();
        let (mut longest, mut rounds) = (std::time::Duration::ZERO, 0);
        while busy.load(std::sync::atomic::Ordering::Relaxed) {
            let began = std::time::Instant::now();
            store(&db.store, vec![ModuleExecution::new("m", 1.0)]).await;
            client.batch_execute("BEGIN; LOCK TABLE hitherto.module_execution IN ACCESS SHARE MODE; LOCK TABLE hitherto.module_execution IN ROW EXCLUSIVE MODE; COMMIT").await.unwrap();
            longest = longest.max(began.elapsed());
            rounds += 1;
        }
        (longest, rounds)
    };
    let (trimmed, (longest, rounds)) = tokio::join!(deletion, neighbours);
    assert_eq!(trimmed[0].count, 300_000);
    assert!(longest < std::time::Duration::from_secs(1), "a neighbour waited for {longest:?}");
    assert!(count(&db, xid).await - first - rounds >= 5, "a transaction has a thousand pages at most");
    assert_eq!((count(&db, RAW).await, count(&db, BY_DAY).await), (rounds + 1, 300_001 + rounds));
}

#[tokio::test]
async fn a_writer_that_comes_between_is_neither_lost_nor_half_counted() {
    let db = harness::native().await;
    let old = Utc::now().date_naive().and_hms_opt(10, 0, 0).unwrap().and_utc() - TimeDelta::days(120);
    store(&db.store, vec![ModuleExecution::new("m", 1.0).at(old)]).await;
    // A batch of the day that is about to go, in a transaction that is still open.
    let mut writer = db.config.connect().await.unwrap();
    let tx = writer.transaction().await.unwrap();
    tx.execute(
        "INSERT INTO hitherto.module_execution (started_at, module_id, execution_id, duration_ms, success, batch_id)
         VALUES ($1, 1, 'late', 3, true, '00000000-0000-0000-0000-000000000001')",
        &[&old],
    )
    .await
    .unwrap();
    tx.execute(
        "INSERT INTO hitherto.ingest_batch (batch_id, producer, table_name, row_count, min_time, max_time, digest)
         VALUES ('00000000-0000-0000-0000-000000000001', 'late', 'module_execution', 1, $1, $1, '')",
        &[&old],
    )
    .await
    .unwrap();
    let commit = async {
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        tx.commit().await.unwrap();
    };
    let (trimmed, ()) = tokio::join!(db.store.maintain(), commit);
    trimmed.unwrap();
    assert_eq!(count(&db, BY_DAY).await, 2, "one is kept, the other there still");
    db.store.maintain().await.unwrap();
    assert_eq!((count(&db, RAW).await, count(&db, BY_DAY).await), (0, 2), "both rows are in the day that went");
}

#[tokio::test]
async fn rows_that_come_while_their_days_go_count_once_at_every_level() {
    let db = harness::native().await;
    let old = Utc::now() - TimeDelta::days(120);
    let runs =
        |of: i64| (0..300).map(|n| ModuleExecution::new("m", n as f64).at(old + TimeDelta::minutes(17 * n + of))).collect::<Vec<_>>();
    store(&db.store, runs(0)).await;
    let late = async {
        for n in 1..=5 {
            store(&db.store, runs(n)).await;
            assert_eq!(levels(&db).await, [300 * (n + 1); 3], "while rows go");
        }
    };
    let (trimmed, ()) = tokio::join!(db.store.maintain(), late);
    trimmed.unwrap();
    while !db.store.maintain_preview().await.unwrap().is_empty() {
        db.store.maintain().await.unwrap();
    }
    assert_eq!((count(&db, RAW).await, levels(&db).await), (0, [1800; 3]));
    let sums = "SELECT count(DISTINCT s) FROM (SELECT sum(sum_ms) AS s FROM hitherto.module_execution_minute_aggregate
                UNION ALL SELECT sum(sum_ms) FROM hitherto.module_execution_day_aggregate UNION ALL VALUES (6 * 44850.0)) x";
    assert_eq!(count(&db, sums).await, 1);
    let classes = "SELECT sum(n)::bigint FROM hitherto.module_latency_hour_kept k, unnest(k.runs) AS n";
    assert_eq!(count(&db, classes).await, 1800);
}

#[tokio::test]
async fn rows_that_lie_scattered_go_and_a_table_that_fails_keeps_no_other_from_being_trimmed() {
    let db = harness::native().await;
    store(&db.store, vec![ModuleExecution::new("m", 1.0)]).await;
    let client = db.store.client().await.unwrap();
    client
        .batch_execute(
            "INSERT INTO hitherto.module_execution (started_at, module_id, execution_id, duration_ms, success, batch_id)
             SELECT now() - n * 7919 % 10000 * INTERVAL '30 minutes', 1, 'e' || n, n % 100, true, gen_random_uuid() FROM generate_series(1, 50000) AS n",
        )
        .await
        .unwrap();
    let due = count(&db, "SELECT sum(row_count)::bigint FROM hitherto.retention_due('module_execution')").await;
    store(&db.store, vec![HealthCheck::new("m", "healthy").at(Utc::now() - TimeDelta::days(120))]).await;
    // health_check comes first.
    client
        .batch_execute(
            "CREATE FUNCTION public.fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'not this one'; END $$;
             CREATE TRIGGER fail BEFORE DELETE ON hitherto.health_check FOR EACH ROW EXECUTE FUNCTION public.fail()",
        )
        .await
        .unwrap();
    let error = db.store.maintain().await.unwrap_err().to_string();
    assert!(error.contains("health_check") && error.contains("not this one"), "{error}");
    assert!(due > 20_000);
    assert_eq!((count(&db, RAW).await, levels(&db).await), (50_001 - due, [50_001; 3]));
    assert_eq!(count(&db, "SELECT sum(checks)::bigint FROM hitherto.health_check_day").await, 1, "what failed changed nothing");
}

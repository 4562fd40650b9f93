//! Futures that are dropped half-way: the pool stays whole.

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use hitherto::records::{EventType, HealthCheck, OrderEvent};
use hitherto::writer::Batch;
use hitherto::{Error, ErrorKind, Store, WriterConfig};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio_postgres::SimpleQueryMessage;

use crate::harness;

const USES: usize = 1_000;

async fn number(store: &Store, query: &str) -> i64 {
    store.client().await.unwrap().query_one(query, &[]).await.unwrap().get(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_uses_dropped_at_any_moment_leave_the_pool_whole() {
    let seed: u64 = std::env::var("HITHERTO_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(0x5eed);
    #[allow(clippy::print_stdout, reason = "shown when the test fails")]
    {
        println!("HITHERTO_SEED={seed}");
    }
    let mut random = StdRng::seed_from_u64(seed);
    let db = harness::native().await;
    let mut config = db.config.clone().with_application_name("cancelled");
    config.pool_size = 4;
    let store = Store::connect(config).await.unwrap();
    number(&store, "SELECT 1::bigint").await;
    store.client().await.unwrap().batch_execute("CREATE TABLE note (n bigint)").await.unwrap();
    let writer = store.writer(WriterConfig::new("writer"));
    let (store, writer) = (&store, &writer);

    let mut under_way = FuturesUnordered::new();
    let (mut ended, mut dropped) = (0, 0);
    for n in 0..USES {
        // Most would be over within some milliseconds, orders later than others.
        let limit = Duration::from_micros(random.random_range(0..if n % 5 == 1 { 400_000 } else { 40_000 }));
        let rows = random.random_range(1..2_000);
        let use_ = async move {
            match n % 5 {
                0 => {
                    let rows = (0..rows).map(|n| HealthCheck::new("m", "healthy").error_count(n)).collect();
                    store.batch_store(&Batch::new("cancelled", rows).unwrap()).await.map(drop)
                }
                1 => {
                    let rows = (0..rows / 20 + 1).map(|i| OrderEvent::new(format!("o{}", i % 7), EventType::Pending)).collect();
                    store.batch_store(&Batch::new("cancelled", rows).unwrap()).await.map(drop)
                }
                2 => {
                    let noted = store.run_tx("note", |tx| {
                        Box::pin(async move {
                            tx.execute("INSERT INTO note SELECT g FROM generate_series(1, 100) g, pg_sleep(0.005)", &[])
                                .await
                                .map_err(|e| Error::new(ErrorKind::Database, "noting").caused_by(e))
                        })
                    });
                    noted.await.map(drop)
                }
                3 => writer.write(HealthCheck::new("w", "healthy")).await,
                _ => {
                    let client = store.client().await?;
                    let _ = client.query_one("SELECT count(*), pg_sleep(0.005) FROM hitherto.health_check", &[]).await;
                    Ok(())
                }
            }
        };
        under_way.push(tokio::time::timeout(limit, use_));
        while under_way.len() >= 12 {
            match under_way.next().await {
                Some(Ok(result)) => {
                    result.unwrap();
                    ended += 1;
                }
                _ => dropped += 1,
            }
        }
    }
    while let Some(result) = under_way.next().await {
        if result.is_ok() { ended += 1 } else { dropped += 1 }
    }
    assert!(ended > USES / 20 && dropped > USES / 20, "{ended} ended, {dropped} were dropped: too one-sided");

    // Four at once are served, none of them amid somebody's transaction.
    let mut clients = Vec::new();
    for _ in 0..4 {
        let client = store.client().await.unwrap();
        let began = client.simple_query("SELECT now() = statement_timestamp()").await.unwrap();
        let began = began.iter().find_map(|m| if let SimpleQueryMessage::Row(row) = m { row.get(0) } else { None });
        assert_eq!(began, Some("t"), "a transaction is under way");
        clients.push(client);
    }
    drop(clients);
    writer.flush().await.unwrap();
    let busy = "SELECT string_agg(state || ': ' || query, E'\\n') FROM pg_stat_activity
                WHERE application_name = 'cancelled' AND datname = current_database() AND state <> 'idle'";
    let (watcher, began) = (db.config.connect().await.unwrap(), Instant::now());
    while let Some(sessions) = watcher.query_one(busy, &[]).await.unwrap().get::<_, Option<String>>(0) {
        assert!(began.elapsed() < Duration::from_secs(20), "still busy:\n{sessions}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let open = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'cancelled' AND datname = current_database()";
    assert!(watcher.query_one(open, &[]).await.unwrap().get::<_, i64>(0) <= 4);
    for table in ["health_check", "order_event"] {
        let rows = number(store, &format!("SELECT count(*) FROM hitherto.{table}")).await;
        let ledger = format!("SELECT coalesce(sum(row_count), 0)::bigint FROM hitherto.ingest_batch WHERE table_name = '{table}'");
        assert_eq!(rows, number(store, &ledger).await, "{table}");
        assert!(rows > 0, "{table}");
    }
    assert_eq!(number(store, "SELECT count(*) % 100 FROM note").await, 0, "a transaction is whole or not there");
}

#[tokio::test]
async fn a_pool_that_is_used_up_says_so_in_time() {
    let db = harness::native().await;
    let mut config = db.config.clone();
    (config.pool_size, config.connect_timeout, config.statement_timeout) = (2, Duration::from_secs(3), Duration::from_millis(300));
    config.max_attempts = 1;
    let store = Store::connect(config).await.unwrap();
    let held = (store.client().await.unwrap(), store.client().await.unwrap());
    let began = Instant::now();
    let error = store.client().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    assert!(error.to_string().contains("raise the pool's size"), "{error}");
    let batch = Batch::new("test", vec![HealthCheck::new("m", "healthy")]).unwrap();
    assert_eq!(store.batch_store(&batch).await.unwrap_err().kind(), ErrorKind::Timeout);
    assert!(began.elapsed() < Duration::from_secs(20));
    drop(held);
    assert_eq!(store.batch_store(&batch).await.unwrap().rows, 1);
}

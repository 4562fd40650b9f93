//! Another database in the place of the one that a writer began with.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use hitherto::records::{EventType, HealthCheck, OrderEvent};
use hitherto::writer::Batch;
use hitherto::{Config, ErrorKind, Store, Writer, WriterConfig};

use super::server::{SETTINGS, migrated};
use super::tally::{Tally, agrees, close, found};
use crate::harness::{self, Server};

const MODULES: [&str; 3] = ["alpha", "beta", "gamma"];

async fn write(writer: &Writer, tally: &Tally, numbers: std::ops::Range<i32>) {
    for n in numbers {
        let check = HealthCheck::new(MODULES[n as usize % 3], "healthy").error_count(n);
        writer.write(check.clone()).await.unwrap();
        tally.health_checks(&[check]);
        let event = OrderEvent::new(format!("o{}", n % 7), EventType::Fill).last_quantity(1).last_price(i64::from(n) + 1);
        writer.write(event.clone()).await.unwrap();
        tally.order_events(&[event]);
    }
}

async fn execute(config: &Config, sql: &str) {
    let client = config.connect().await.unwrap();
    for statement in sql.split(';') {
        client.batch_execute(statement).await.unwrap();
    }
}

/// The error that a writer names while it can't go on, once its words are these.
async fn told(writer: &Writer, kind: ErrorKind, words: &str) {
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        let flushed = tokio::time::timeout(Duration::from_secs(10), writer.flush()).await;
        if let Ok(Err(error)) = &flushed
            && error.kind() == kind
            && error.to_string().contains(words)
        {
            return;
        }
        assert!(Instant::now() < end, "'{words}' is not told but: {flushed:?}");
    }
}

/// Puts another data folder in the server's place.
fn swap(server: &Server, from: &Path, to: &Path) {
    server.kill();
    std::fs::rename(server.data(), from).unwrap();
    std::fs::rename(to, server.data()).unwrap();
    server.start_again();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_database_gets_whole_batches_under_its_own_modules_or_an_error_is_told() {
    let server = Server::lone(SETTINGS);
    let (old, new) = (server.folder.join("old"), server.folder.join("new"));
    server.make_data(&new, &[]);
    let config = server.config().with_database("place");
    execute(&server.config(), "CREATE DATABASE place").await;
    let store = migrated(&config).await;
    let mut writer_config = WriterConfig::new("identity");
    (writer_config.max_batch_rows, writer_config.max_age) = (100, Duration::from_millis(10));
    let writer = store.writer(writer_config);
    let tally = Tally::default();
    write(&writer, &tally, 0..2_000).await;
    writer.flush().await.unwrap();

    // Records are under way while the server goes and another takes its place, in which no such database is.
    write(&writer, &tally, 2_000..4_000).await;
    swap(&server, &old, &new);
    told(&writer, ErrorKind::Refused, "database \"place\" does not exist").await;
    // An empty one.
    execute(&server.config(), "CREATE DATABASE place").await;
    told(&writer, ErrorKind::Refused, "hitherto migrate").await;
    write(&writer, &tally, 4_000..4_100).await;
    // One with the schema, in which the modules go by other numbers.
    execute(&server.config(), "CREATE DATABASE another").await;
    let another = server.config().with_database("another");
    drop(migrated(&another).await);
    execute(
        &another,
        "SELECT hitherto.module_ensure('{x,gamma}'); SELECT hitherto.module_ensure('{alpha}'); SELECT hitherto.module_ensure('{y,beta}')",
    )
    .await;
    execute(
        &server.config(),
        "ALTER DATABASE place ALLOW_CONNECTIONS false;
         SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname IN ('place', 'another');
         ALTER DATABASE place RENAME TO empty; ALTER DATABASE another RENAME TO place",
    )
    .await;
    write(&writer, &tally, 4_100..5_000).await;
    close(&[writer], "the new database takes everything").await;

    let after = Store::connect(config.clone()).await.unwrap();
    let in_new = found(&after).await;
    let events = |found: &std::collections::HashMap<(&'static str, String), u64>| {
        let all = tally.events();
        all.into_iter().filter(|e| found.contains_key(&("order_event", format!("{} {}", e.order_id, e.event_id)))).collect::<Vec<_>>()
    };
    agrees(&after, &events(&in_new), "the new database").await;
    drop(after);
    swap(&server, &server.folder.join("unused"), &old);
    let before = Store::connect(config).await.unwrap();
    let in_old = found(&before).await;
    agrees(&before, &events(&in_old), "the old database").await;

    let written: BTreeSet<_> = tally.keys().into_iter().collect();
    for (place, found) in [("old", &in_old), ("new", &in_new)] {
        assert!(found.values().all(|n| *n == 1), "the {place} database has nothing twice");
        let strange: Vec<_> = found.keys().filter(|key| !written.contains(key)).take(10).collect();
        assert!(strange.is_empty(), "the {place} database has what nobody wrote: {strange:?}");
    }
    let lost: Vec<_> = written.iter().filter(|key| !in_old.contains_key(key) && !in_new.contains_key(key)).take(10).collect();
    assert!(lost.is_empty(), "lost: {lost:?}");
    assert!(in_new.len() >= 2 * 1_000 && in_old.len() >= 2 * 2_000, "{} in the old, {} in the new", in_old.len(), in_new.len());
}

/// Nothing need fail for the numbers to change: a connection is made anew while nobody writes.
#[tokio::test]
async fn a_number_that_went_to_another_module_is_not_used() {
    let db = harness::native().await;
    let check = |n| Batch::new("identity", vec![HealthCheck::new("m", "healthy").error_count(n)]).unwrap();
    db.store.batch_store(&check(1)).await.unwrap();
    db.store.client().await.unwrap().batch_execute("UPDATE hitherto.module SET name = 'other' WHERE name = 'm'").await.unwrap();
    db.store.batch_store(&check(2)).await.unwrap();
    let there = found(&db.store).await;
    let mut there: Vec<&str> = there.keys().map(|(_, key)| key.as_str()).collect();
    there.sort_unstable();
    assert_eq!(there, ["m 2", "other 1"]);
}

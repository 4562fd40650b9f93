//! What a record that was written survives, and batches that are under way together.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use hitherto::records::{EventType, HealthCheck, Json, Module, OrderEvent};
use hitherto::writer::Durability;
use hitherto::{Config, ErrorKind, Spool, SpoolConfig, Store, Writer, WriterConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::harness;

async fn number(store: &Store, query: &str) -> i64 {
    store.client().await.unwrap().query_one(query, &[]).await.unwrap().get(0)
}

fn commit_writer(store: &Store) -> Writer {
    let mut config = WriterConfig::new("test");
    config.durability = Durability::Commit;
    // Nobody waits for this long.
    config.max_age = Duration::from_secs(600);
    store.writer(config)
}

fn check(n: i32) -> HealthCheck {
    HealthCheck::new("m", "healthy").error_count(n)
}

#[tokio::test]
async fn a_write_that_returns_when_committed_is_there_and_waits_for_no_other() {
    for db in harness::all().await {
        let writer = commit_writer(&db.store);
        let began = Instant::now();
        for n in 1..=5 {
            writer.write(check(n as i32)).await.unwrap();
            assert_eq!(number(&db.store, "SELECT count(*) FROM hitherto.health_check").await, n, "{}", db.name);
        }
        assert!(began.elapsed() < Duration::from_secs(60), "{}: an idle lane sends at once", db.name);
        let stats = writer.close().await.unwrap();
        assert_eq!((stats.stored, stats.batches, stats.queued_rows), (5, 5, 0), "{}", db.name);
    }
}

#[tokio::test]
async fn records_that_come_while_a_commit_is_under_way_share_the_next_one() {
    let db = harness::native().await;
    let writer = commit_writer(&db.store);
    writer.write(check(0)).await.unwrap();
    let blocker = db.config.connect().await.unwrap();
    blocker.batch_execute("BEGIN; LOCK TABLE hitherto.health_check IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let first = tokio::spawn({
        let writer = writer.clone();
        async move { writer.write(check(1)).await }
    });
    waiting_backends(&db.store, 1).await;
    let others: Vec<_> = (2..=100)
        .map(|n| {
            let writer = writer.clone();
            tokio::spawn(async move { writer.write(check(n)).await })
        })
        .collect();
    while writer.stats().queued_rows < 100 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(!first.is_finished(), "what is not committed is not told so");
    blocker.batch_execute("COMMIT").await.unwrap();
    first.await.unwrap().unwrap();
    for other in others {
        other.await.unwrap().unwrap();
    }
    let stats = writer.close().await.unwrap();
    assert_eq!((stats.stored, stats.batches), (101, 3));
}

#[tokio::test]
async fn a_refused_record_is_told_to_who_wrote_it_and_to_nobody_else() {
    for db in harness::all().await {
        let client = db.store.client().await.unwrap();
        client.batch_execute("ALTER TABLE hitherto.health_check ADD CONSTRAINT no_thirteen CHECK (error_count % 100 <> 13)").await.unwrap();
        drop(client);
        let writer = commit_writer(&db.store);
        let fates = join_all((0..300).map(|n| writer.write(check(n)))).await;
        for (n, fate) in fates.iter().enumerate() {
            match fate {
                Err(error) if n % 100 == 13 => {
                    assert_eq!(error.kind(), ErrorKind::Invalid, "{}", db.name);
                    assert!(error.to_string().contains("no_thirteen") && error.to_string().contains("quarantine"), "{}: {error}", db.name);
                }
                fate => assert!(n % 100 != 13 && fate.is_ok(), "{}: record {n}: {fate:?}", db.name),
            }
        }
        let stats = writer.close().await.unwrap();
        assert_eq!((stats.stored, stats.quarantined), (297, 3), "{}", db.name);
    }
}

#[tokio::test]
async fn a_refused_record_is_told_even_if_the_commits_answer_was_lost() {
    let db = harness::native().await;
    let client = db.store.client().await.unwrap();
    client.batch_execute("ALTER TABLE hitherto.health_check ADD CONSTRAINT no_thirteen CHECK (error_count <> 13)").await.unwrap();
    let port = losing_the_first_answer_to_commit(harness::server().port).await;
    let url = format!("postgresql://postgres@127.0.0.1:{port}/{}", db.config.database().unwrap());
    let store = Store::connect(Config::from_url(&url).unwrap()).await.unwrap();
    let writer = commit_writer(&store);
    let fates = join_all((13..=15).map(|n| writer.write(check(n)))).await;
    let told: Vec<bool> = fates.iter().map(Result::is_ok).collect();
    assert_eq!(told, [false, true, true], "{fates:?}");
    let stats = writer.close().await.unwrap();
    assert!(stats.retries > 0, "the lost answer was felt");
    assert_eq!(number(&db.store, "SELECT count(*) FROM hitherto.health_check").await, 2);
    assert_eq!(number(&db.store, "SELECT count(*) FROM hitherto.quarantine").await, 1);
}

/// A way to the server on which the answer to the first COMMIT is lost, and the connection with it.
async fn losing_the_first_answer_to_commit(server: u16) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let lost = std::sync::Arc::new(AtomicBool::new(false));
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let lost = lost.clone();
            tokio::spawn(async move {
                let mut server = TcpStream::connect(("127.0.0.1", server)).await.unwrap();
                let (mut up, mut down) = (vec![0; 65536], vec![0; 65536]);
                let mut losing = false;
                loop {
                    tokio::select! {
                        n = client.read(&mut up) => {
                            let Ok(n @ 1..) = n else { return };
                            let commits = up[..n].windows(6).any(|w| w == b"COMMIT");
                            losing |= commits && !lost.swap(true, Ordering::SeqCst);
                            server.write_all(&up[..n]).await.unwrap();
                        }
                        n = server.read(&mut down) => {
                            let Ok(n @ 1..) = n else { return };
                            if losing {
                                return;
                            }
                            client.write_all(&down[..n]).await.unwrap();
                        }
                    }
                }
            });
        }
    });
    port
}

/// Waits until so many of the writer's backends wait for a lock; a moment later it is still so many.
async fn waiting_backends(store: &Store, count: i64) {
    let query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'hitherto' AND wait_event_type = 'Lock'";
    let began = Instant::now();
    while number(store, query).await < count {
        assert!(began.elapsed() < Duration::from_secs(20), "{count} batches are under way");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(number(store, query).await, count);
}

#[tokio::test]
async fn batches_of_a_table_are_under_way_together_as_many_as_were_allowed() {
    let db = harness::native().await;
    let mut config = WriterConfig::new("test");
    (config.connections, config.max_batch_rows) = (3, 10);
    let writer = db.store.writer(config);
    let blocker = db.config.clone().with_application_name("blocker").connect().await.unwrap();
    writer.write(check(0)).await.unwrap();
    writer.flush().await.unwrap();
    blocker.batch_execute("BEGIN; LOCK TABLE hitherto.health_check, hitherto.order_event IN ACCESS EXCLUSIVE MODE").await.unwrap();
    for n in 0..95 {
        writer.write(check(n)).await.unwrap();
    }
    waiting_backends(&db.store, 3).await;
    let mut flushed = tokio::spawn({
        let writer = writer.clone();
        async move { writer.flush().await }
    });
    assert!(tokio::time::timeout(Duration::from_millis(200), &mut flushed).await.is_err(), "a flush waits for all of them");
    blocker.batch_execute("COMMIT").await.unwrap();
    flushed.await.unwrap().unwrap();
    assert_eq!(number(&db.store, "SELECT count(*) FROM hitherto.health_check").await, 96);
    let stats = writer.close().await.unwrap();
    assert_eq!((stats.stored, stats.batches, stats.queued_bytes), (96, 11, 0));
}

#[tokio::test]
async fn where_the_last_one_wins_batches_go_one_by_one() {
    let db = harness::native().await;
    let mut config = WriterConfig::new("test");
    (config.connections, config.max_batch_rows) = (4, 1);
    let writer = db.store.writer(config);
    let blocker = db.config.clone().with_application_name("blocker").connect().await.unwrap();
    blocker.batch_execute("BEGIN; LOCK TABLE hitherto.module IN ACCESS EXCLUSIVE MODE").await.unwrap();
    for n in 1..=20 {
        writer.write(Module::new("m", format!("{n}"))).await.unwrap();
    }
    waiting_backends(&db.store, 1).await;
    blocker.batch_execute("COMMIT").await.unwrap();
    writer.close().await.unwrap();
    assert_eq!(number(&db.store, "SELECT version::bigint FROM hitherto.module WHERE name = 'm'").await, 20);
}

#[tokio::test]
async fn a_queue_smaller_than_a_batch_does_not_wait_for_age() {
    let db = harness::native().await;
    let mut config = WriterConfig::new("test");
    (config.queue_bytes, config.max_age) = (4096, Duration::from_secs(600));
    let writer = db.store.writer(config);
    let all = async {
        for n in 0..1000 {
            writer.write(check(n)).await.unwrap();
            writer.write(OrderEvent::new("o", hitherto::records::EventType::Pending)).await.unwrap();
        }
    };
    tokio::time::timeout(Duration::from_secs(120), all).await.expect("a batch that no record can join is sent");
    assert_eq!(writer.close().await.unwrap().stored, 2000);
}

#[tokio::test]
async fn null_is_a_value_with_every_durability() {
    for db in harness::all().await {
        let temp = tempfile::tempdir().unwrap();
        let spool = Spool::open(SpoolConfig::new(temp.path())).unwrap();
        let null = || Json::parse("null").unwrap();
        for (n, durability) in [Durability::Memory, Durability::Commit, Durability::Spool(spool)].into_iter().enumerate() {
            let mut config = WriterConfig::new("test");
            config.durability = durability;
            let writer = db.store.writer(config);
            writer.write(check(n as i32).details(null())).await.unwrap();
            writer.write(check(n as i32)).await.unwrap();
            writer.write(OrderEvent::new(format!("o{n}"), EventType::Pending).details(null())).await.unwrap();
            writer.close().await.unwrap();
        }
        for (query, expected) in [
            ("SELECT count(*) FROM hitherto.health_check WHERE details = 'null'", 3),
            ("SELECT count(*) FROM hitherto.health_check WHERE details IS NULL", 3),
            ("SELECT count(*) FROM hitherto.order_event WHERE details = 'null'", 3),
        ] {
            assert_eq!(number(&db.store, query).await, expected, "{}: {query}", db.name);
        }
    }
}

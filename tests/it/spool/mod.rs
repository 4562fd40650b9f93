//! Records that wait on disk.

mod command;
mod damage;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use hitherto::records::{Decimal, EventType, HealthCheck, Json, Module, OrderEvent, RegimeState};
use hitherto::records::{Regime, Side};
use hitherto::spool::survey;
use hitherto::writer::Durability;
use hitherto::{Config, ErrorKind, Spool, SpoolConfig, Store, WhenFull, Writer, WriterConfig};

use crate::harness::{self, Db};
use crate::shell::{CHECKS, count};

/// Nobody answers there.
fn away() -> Config {
    Config::from_url("postgresql://postgres@127.0.0.1:1/nowhere").unwrap()
}

/// The folder is free a moment after the last user has gone.
fn spool(folder: &Path) -> Spool {
    spool_with(SpoolConfig::new(folder))
}

fn spool_with(config: SpoolConfig) -> Spool {
    let began = Instant::now();
    loop {
        match Spool::open(config.clone()) {
            Ok(spool) => return spool,
            Err(error) if error.kind() == ErrorKind::Conflict && began.elapsed() < Duration::from_secs(10) => {
                std::thread::sleep(Duration::from_millis(10));
            }
            Err(error) => panic!("{error}"),
        }
    }
}

fn config(spool: Spool) -> WriterConfig {
    let mut config = WriterConfig::new("test");
    config.durability = Durability::Spool(spool);
    config
}

fn check(n: i32) -> HealthCheck {
    HealthCheck::new("m", "healthy").error_count(n)
}

async fn ledger_rows(store: &Store) -> i64 {
    let client = store.client().await.unwrap();
    client.query_one("SELECT coalesce(sum(row_count), 0)::bigint FROM hitherto.ingest_batch", &[]).await.unwrap().get(0)
}

/// Leaves records of a writer that never saw the database, and says how many wait.
async fn leave(folder: &Path, records: impl IntoIterator<Item = HealthCheck>) -> u64 {
    let mut config = config(spool(folder));
    // One batch, however slow the disk is.
    config.max_age = Duration::from_secs(600);
    let writer = Writer::open(away(), config).unwrap();
    for record in records {
        writer.write(record).await.unwrap();
    }
    writer.close_within(Duration::from_millis(50)).await.unwrap().spooled
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to.join(entry.file_name()));
        } else {
            std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

#[tokio::test]
async fn records_go_over_the_disk_and_arrive_as_they_were_written() {
    let edge: Decimal = "-99999999999999999999.999999999999999999".parse().unwrap();
    let naughty = "'; DROP TABLE hitherto.module; -- \u{1F4A5} \\ \" \n \r";
    for db in harness::all().await {
        let temp = tempfile::tempdir().unwrap();
        let writer = db.store.writer(config(spool(temp.path())));
        let json = Json::parse("{\r\n  \"n\": 0.1234567890123456789012345,\n  \"t\": \"\\u00e9\"\n}").unwrap();
        let written = HealthCheck::new(naughty, "degraded").response_time_ms(0.1 + 0.2).details(json);
        writer.write(written.clone()).await.unwrap();
        writer.write(OrderEvent::new("o", EventType::Pending).side(Side::Sell).quantity(edge).sequence(i64::MIN)).await.unwrap();
        writer.write(Module::new("m", "1.2")).await.unwrap();
        assert_eq!(writer.write(check(-1)).await.unwrap_err().kind(), ErrorKind::Invalid);
        writer.flush().await.unwrap();
        let stats = writer.stats();
        assert_eq!((stats.accepted, stats.stored, stats.spooled, stats.queued_rows, stats.dropped), (3, 3, 0, 0, 0), "{}", db.name);
        let client = db.store.client().await.unwrap();
        let row = client
            .query_one("SELECT m.name, h.response_time_ms, h.details ->> 'n', h.checked_at FROM hitherto.health_check h JOIN hitherto.module m USING (module_id)", &[])
            .await
            .unwrap();
        assert_eq!((row.get::<_, &str>(0), row.get::<_, f64>(1)), (naughty, 0.1 + 0.2), "{}", db.name);
        assert_eq!(row.get::<_, &str>(2), "0.1234567890123456789012345", "{}", db.name);
        assert_eq!(row.get::<_, chrono::DateTime<chrono::Utc>>(3), written.checked_at, "{}", db.name);
        let row = client.query_one("SELECT quantity, sequence FROM hitherto.order_event", &[]).await.unwrap();
        assert_eq!((row.get::<_, Decimal>(0), row.get::<_, i64>(1)), (edge, i64::MIN), "{}", db.name);
        drop(client);
        writer.close().await.unwrap();
        assert_eq!(writer.write(check(1)).await.unwrap_err().kind(), ErrorKind::Closed);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_was_written_while_the_database_was_away_is_stored_once_by_the_next_writer() {
    for db in harness::all().await {
        let temp = tempfile::tempdir().unwrap();
        let writer =
            Writer::open(away(), config(spool_with(SpoolConfig { segment_bytes: 8192, ..SpoolConfig::new(temp.path()) }))).unwrap();
        let writers = (0..20).map(|who| {
            let writer = writer.clone();
            tokio::spawn(async move {
                for n in 0..25 {
                    writer.write(check(who * 25 + n)).await.unwrap();
                    writer
                        .write(OrderEvent::new(format!("o{who}"), EventType::Fill).last_quantity(1).last_price(i64::from(n)))
                        .await
                        .unwrap();
                }
            })
        });
        join_all(writers).await.into_iter().for_each(|r| r.unwrap());
        let stats = writer.close_within(Duration::from_millis(100)).await.unwrap();
        assert_eq!((stats.accepted, stats.stored, stats.spooled), (1000, 0, 1000), "{}", db.name);
        drop(writer);

        drop(spool(temp.path()));
        let left = survey(temp.path()).unwrap();
        assert!(!left.in_use && left.findings.is_empty(), "{left:?}");
        assert_eq!(left.tables.iter().map(|t| t.records).collect::<Vec<_>>(), [500, 500]);
        assert!(left.tables.iter().all(|t| t.segments > 1 && t.oldest_at.is_some()), "{left:?}");

        let writer = db.store.writer(config(spool(temp.path())));
        writer.write(check(500)).await.unwrap();
        let stats = writer.close().await.unwrap();
        assert_eq!((stats.accepted, stats.stored, stats.spooled), (1, 1001, 0), "{}", db.name);
        assert_eq!(count(&db, "SELECT count(DISTINCT error_count) FROM hitherto.health_check").await, 501, "{}", db.name);
        assert_eq!(count(&db, CHECKS).await, 501, "{}", db.name);
        assert_eq!(count(&db, "SELECT count(*) FROM hitherto.order_event").await, 500, "{}", db.name);
        assert_eq!(ledger_rows(&db.store).await, 1001, "{}", db.name);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn writers_that_are_dropped_amid_everything_lose_and_double_nothing() {
    let db = harness::native().await;
    let temp = tempfile::tempdir().unwrap();
    let (mut accepted, mut next) = (BTreeSet::new(), 0);
    for round in 0..12u64 {
        let mut config = config(spool_with(SpoolConfig { segment_bytes: 8192, ..SpoolConfig::new(temp.path()) }));
        config.max_batch_rows = 20;
        config.max_age = Duration::from_millis(5);
        config.connections = 1 + (round % 3) as usize;
        let writer = db.store.writer(config);
        let writers: Vec<_> = (0..8)
            .map(|_| {
                let (writer, from) = (writer.clone(), next);
                next += 40;
                tokio::spawn(async move {
                    for n in from..from + 40 {
                        writer.write(check(n)).await.unwrap();
                    }
                    from..from + 40
                })
            })
            .collect();
        for written in join_all(writers).await {
            accepted.extend(written.unwrap());
        }
        tokio::time::sleep(Duration::from_millis(round * 3)).await;
        // As when the process dies: whatever is under way ends where it is.
        drop(writer);
    }
    let writer = db.store.writer(config(spool(temp.path())));
    writer.flush().await.unwrap();
    assert_eq!(writer.close().await.unwrap().spooled, 0);
    let client = db.store.client().await.unwrap();
    let rows = client.query("SELECT error_count FROM hitherto.health_check", &[]).await.unwrap();
    let stored: Vec<i32> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(stored.len(), accepted.len(), "each once");
    assert_eq!(stored.into_iter().collect::<BTreeSet<_>>(), accepted);
    drop(client);
    assert_eq!(ledger_rows(&db.store).await, accepted.len() as i64);
}

#[tokio::test]
async fn a_quota_drops_what_may_be_dropped_and_refuses_the_rest() {
    let db = harness::native().await;
    let temp = tempfile::tempdir().unwrap();
    let full = |when_full| SpoolConfig { quota_bytes: 20_000, segment_bytes: 4096, when_full, ..SpoolConfig::new(temp.path()) };
    let writer = Writer::open(away(), config(spool_with(full(WhenFull::Drop)))).unwrap();
    let mut refused = 0;
    for n in 0..200 {
        writer.write(check(n)).await.unwrap();
        if let Err(error) = writer.write(OrderEvent::new(format!("o{n}"), EventType::Pending)).await {
            assert_eq!(error.kind(), ErrorKind::Full);
            assert!(error.to_string().contains("quota of 20000 bytes"), "{error}");
            refused += 1;
        }
    }
    let stats = writer.stats();
    assert!(stats.dropped > 50 && refused > 50, "{stats:?} {refused}");
    assert_eq!(stats.accepted + stats.dropped + refused, 400);
    assert_eq!(stats.spooled, stats.accepted);
    for table in survey(temp.path()).unwrap().tables {
        assert!(table.bytes <= 20_000, "{table:?}");
    }
    writer.close_within(Duration::ZERO).await.unwrap();
    drop(writer);

    let writer = db.store.writer(config(spool_with(full(WhenFull::Error))));
    writer.flush().await.unwrap();
    assert_eq!(count(&db, CHECKS).await, 200 - stats.dropped as i64);
    assert_eq!(count(&db, "SELECT count(*) FROM hitherto.order_event").await, 200 - refused as i64);
    // There is room again.
    writer.write(check(1000)).await.unwrap();
    writer.close().await.unwrap();
    drop(writer);

    let writer = Writer::open(away(), config(spool_with(full(WhenFull::Error)))).unwrap();
    let mut error = None;
    for n in 0..200 {
        error = error.or(writer.write(check(n)).await.err());
    }
    assert_eq!(error.unwrap().kind(), ErrorKind::Full);
    assert_eq!(writer.stats().dropped, 0);
    writer.close_within(Duration::ZERO).await.unwrap();
}

#[tokio::test]
async fn a_writer_starts_before_the_database_and_says_what_keeps_it() {
    let mut memory = WriterConfig::new("test");
    memory.queue_bytes = 1 << 20;
    let temp = tempfile::tempdir().unwrap();
    for config in [memory, config(spool(temp.path()))] {
        let database = harness::empty_database().await;
        let writer = Writer::open(database.clone(), config).unwrap();
        writer.write(check(1)).await.unwrap();
        let error = tokio::time::timeout(Duration::from_secs(60), writer.flush()).await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
        let store = harness::migrated(&database, None).await;
        tokio::time::timeout(Duration::from_secs(60), async {
            while writer.flush().await.is_err() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        })
        .await
        .unwrap();
        assert_eq!(writer.close().await.unwrap().stored, 1);
        let client = store.client().await.unwrap();
        assert_eq!(client.query_one(CHECKS, &[]).await.unwrap().get::<_, i64>(0), 1);
    }
}

#[tokio::test]
async fn what_an_earlier_writer_left_comes_before_what_this_one_writes() {
    let db = harness::native().await;
    let temp = tempfile::tempdir().unwrap();
    let writer = Writer::open(away(), config(spool(temp.path()))).unwrap();
    for n in 0..50 {
        writer.write(Module::new("m", format!("1.{n}"))).await.unwrap();
    }
    writer.write(RegimeState::new(Regime::Bull, 0.9, "overseer")).await.unwrap();
    writer.close_within(Duration::ZERO).await.unwrap();
    drop(writer);
    let writer = db.store.writer(config(spool(temp.path())));
    writer.write(Module::new("m", "2.0")).await.unwrap();
    writer.close().await.unwrap();
    let client = db.store.client().await.unwrap();
    let version: String = client.query_one("SELECT version FROM hitherto.module WHERE name = 'm'", &[]).await.unwrap().get(0);
    assert_eq!(version, "2.0");
    assert_eq!(client.query_one("SELECT count(*) FROM hitherto.regime_state", &[]).await.unwrap().get::<_, i64>(0), 1);
}

#[tokio::test]
async fn hours_without_the_database_take_no_memory() {
    let db: Db = harness::native().await;
    let temp = tempfile::tempdir().unwrap();
    let mut config = config(spool(temp.path()));
    (config.queue_bytes, config.max_batch_bytes) = (256 << 10, 64 << 10);
    let blocker = db.config.connect().await.unwrap();
    blocker.batch_execute("BEGIN; LOCK TABLE hitherto.health_check IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let writer = db.store.writer(config);
    let details = Json::parse(&format!("\"{}\"", "d".repeat(4000))).unwrap();
    for round in 0..40 {
        let writes = (0..50).map(|n| writer.write(check(round * 50 + n).details(details.clone())));
        join_all(writes).await.into_iter().for_each(|r| r.unwrap());
        assert!(writer.stats().queued_bytes <= 256 << 10);
    }
    // 8 MB wait, and not one write had to wait for the database.
    assert_eq!(writer.stats().spooled, 2000);
    assert_eq!(writer.stats().queued_rows, 0);
    blocker.batch_execute("COMMIT").await.unwrap();
    assert_eq!(writer.close().await.unwrap().stored, 2000);
    assert_eq!(count(&db, "SELECT count(DISTINCT error_count) FROM hitherto.health_check").await, 2000);
}

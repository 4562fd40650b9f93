//! The real file system, and callers that come together.

use std::collections::BTreeSet;

use futures_util::future::join_all;

use super::*;
use crate::error::ErrorKind;
use crate::spool::{Spool, SpoolConfig};

fn config(folder: &Path) -> SpoolConfig {
    SpoolConfig { segment_bytes: 16 << 10, ..SpoolConfig::new(folder.join("spool")) }
}

/// The folder is free a moment after the last user is gone, when the thread that wrote for it has ended.
fn reopen(folder: &Path) -> Spool {
    let began = std::time::Instant::now();
    loop {
        match Spool::open(config(folder)) {
            Err(e) if e.kind() == ErrorKind::Conflict && began.elapsed() < Duration::from_secs(20) => {
                std::thread::sleep(Duration::from_millis(5))
            }
            other => return other.unwrap(),
        }
    }
}

fn text(batch: &SpooledBatch) -> Vec<String> {
    batch.frames.iter().map(|f| String::from_utf8(f.payload.clone()).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_appenders_share_writes_and_all_is_there_once() {
    let temp = tempfile::tempdir().unwrap();
    let spool = Spool::open(config(temp.path())).unwrap();
    let log = spool.log("signal").await.unwrap();
    let appenders = (0..40u32).map(|who| {
        let log = log.clone();
        tokio::spawn(async move {
            for n in 0..25 {
                // One batch for all: which are together says the order alone.
                log.append(frame(1, &format!("{who}-{n} {}", "z".repeat(100)))).await.unwrap();
            }
        })
    });
    join_all(appenders).await.into_iter().for_each(|r| r.unwrap());
    log.append(frame(2, "last")).await.unwrap();
    assert_eq!(log.waiting().rows, 1001);
    let mut reader = log.reader().await.unwrap();
    assert_eq!(log.reader().await.err().unwrap().kind(), ErrorKind::Conflict);
    let first = reader.next().await.unwrap();
    assert!(!first.known && first.rows == 1000);
    assert_eq!(text(&first).into_iter().collect::<BTreeSet<_>>().len(), 1000);
    // The second is open: a frame may join it yet.
    assert!(reader.try_next().await.unwrap().is_none());
    drop((reader, log, spool));

    // Another process.
    let spool = reopen(temp.path());
    assert!(spool.findings().is_empty());
    let log = spool.log("signal").await.unwrap();
    log.append(frame(3, "new")).await.unwrap();
    log.seal();
    let mut reader = log.reader().await.unwrap();
    let again = reader.next().await.unwrap();
    assert!(again.known, "it may have been sent");
    assert_eq!(text(&again), text(&first));
    let second = reader.next().await.unwrap();
    assert!(second.known && text(&second) == ["last"]);
    let third = reader.next().await.unwrap();
    assert!(!third.known && text(&third) == ["new"]);
    // Out of order: the cursor waits for the first.
    for batch in [&third, &second] {
        log.done(batch).await.unwrap();
    }
    assert_eq!(log.waiting().rows, 1002);
    log.done(&again).await.unwrap();
    assert_eq!((log.waiting().rows, log.waiting().bytes, log.waiting().oldest_at), (0, 0, None));
    log.drained().await.unwrap();
    drop((reader, log, spool));
    let spool = reopen(temp.path());
    assert_eq!(spool.waiting_rows(), 0);
    let names: Vec<_> = std::fs::read_dir(temp.path().join("spool/signal")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names, ["cursor"], "nothing is left of what was drained");
}

#[tokio::test]
async fn a_second_program_is_told_who_has_the_folder() {
    let temp = tempfile::tempdir().unwrap();
    let spool = Spool::open(config(temp.path())).unwrap();
    let log = spool.log("signal").await.unwrap();
    let error = Spool::open(config(temp.path())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    let words = error.to_string();
    assert!(words.contains(&format!("process id {}", std::process::id())) && words.contains("/spool"), "{words}");
    drop(spool);
    assert!(Spool::open(config(temp.path())).is_err(), "a log in use keeps the folder");
    drop(log);
    reopen(temp.path());
}

#[tokio::test]
async fn a_quota_is_an_error_until_there_is_room_again() {
    let temp = tempfile::tempdir().unwrap();
    let spool = Spool::open(SpoolConfig { quota_bytes: 1000, ..config(temp.path()) }).unwrap();
    let log = spool.log("signal").await.unwrap();
    let (mut taken, mut error) = (0, None);
    for n in 0..100u128 {
        match log.append(frame(n + 1, "0123456789")).await {
            Ok(()) => taken += 1,
            Err(e) => error = Some(e),
        }
    }
    let error = error.unwrap();
    assert_eq!(error.kind(), ErrorKind::Full);
    assert!(error.to_string().contains("quota of 1000 bytes"), "{error}");
    assert_eq!(taken, 1000 / 64);
    assert!(log.waiting().bytes <= 1000);
    let mut reader = log.reader().await.unwrap();
    let batch = reader.next().await.unwrap();
    log.done(&batch).await.unwrap();
    log.append(frame(200, "0123456789")).await.unwrap();
    assert_eq!(log.append(frame(201, "0123456789")).await.unwrap_err().kind(), ErrorKind::Full);
}

#[tokio::test]
async fn a_sealed_batch_takes_no_more() {
    let temp = tempfile::tempdir().unwrap();
    let spool = Spool::open(config(temp.path())).unwrap();
    let log = spool.log("signal").await.unwrap();
    log.append(frame(1, "a")).await.unwrap();
    log.append(frame(2, "b")).await.unwrap();
    assert_eq!(log.append(frame(1, "c")).await.unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(log.append(frame(2, "")).await.unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(spool.log("../etc").await.err().unwrap().kind(), ErrorKind::Invalid);
}

#[tokio::test]
async fn a_reader_that_is_given_up_has_taken_nothing() {
    let temp = tempfile::tempdir().unwrap();
    let spool = Spool::open(config(temp.path())).unwrap();
    let log = spool.log("signal").await.unwrap();
    let mut reader = log.reader().await.unwrap();
    for n in 0..50u128 {
        log.append(frame(n + 1, "a")).await.unwrap();
        log.seal();
        let _ = tokio::time::timeout(Duration::from_micros(n as u64 * 20), reader.next())
            .await
            .map(|batch| assert_eq!(batch.unwrap().id, Uuid::from_u128(n + 1)));
        // Whether it was read or not, a new reader begins with what is not done.
        drop(reader);
        reader = log.reader().await.unwrap();
        let batch = reader.next().await.unwrap();
        assert_eq!(batch.id, Uuid::from_u128(n + 1));
        log.done(&batch).await.unwrap();
    }
    assert_eq!(log.waiting().bytes, 0);
}

#[cfg(unix)]
#[tokio::test]
async fn nobody_else_may_read_it() {
    use std::os::unix::fs::PermissionsExt;
    let temp = tempfile::tempdir().unwrap();
    let spool = Spool::open(config(temp.path())).unwrap();
    spool.log("signal").await.unwrap().append(frame(1, "secret")).await.unwrap();
    let mut seen = 0;
    for path in ["", "lock", "signal", "signal/cursor", "signal/000000000001.seg"] {
        let metadata = std::fs::metadata(temp.path().join("spool").join(path)).unwrap();
        let mode = metadata.permissions().mode() & 0o777;
        assert_eq!(mode, if metadata.is_dir() { 0o700 } else { 0o600 }, "{path}");
        seen += 1;
    }
    assert_eq!(seen, 5);
}

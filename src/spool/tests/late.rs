//! Answers of the disk that come when nobody waits for them any more.

use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, PoisonError};

use tokio::sync::Semaphore;

use super::*;
use crate::spool::SpoolLog;
use crate::spool::files::{Data, Files};
use crate::spool::lock::Lock;

/// A file system that holds one reading up.
struct Slow {
    model: Model,
    /// Told when it is held up, and until when that is.
    gate: Mutex<Option<(Sender<()>, Receiver<()>)>>,
}

impl Files for Slow {
    fn create_folder(&self, path: &Path) -> io::Result<()> {
        self.model.create_folder(path)
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<String>> {
        self.model.list(folder)
    }

    fn create(&self, path: &Path, length: u64) -> io::Result<Box<dyn Data>> {
        self.model.create(path, length)
    }

    fn open(&self, path: &Path, change: bool) -> io::Result<Box<dyn Data>> {
        let gate = self.gate.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((held, until)) = gate {
            held.send(()).unwrap();
            until.recv().unwrap();
        }
        self.model.open(path, change)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.model.rename(from, to)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.model.link(from, to)
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        self.model.unlink(path)
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        self.model.sync_folder(folder)
    }
}

fn slow(temp: &Path) -> (Arc<Slow>, SpoolLog) {
    let files = Arc::new(Slow { model: Model::default(), gate: Mutex::new(None) });
    let (log, _) = Log::open(files.clone(), folder(), "health_check", SEGMENT).unwrap();
    (files, SpoolLog::new("health_check", 1 << 20, log, Arc::new(Lock::take(temp).unwrap())))
}

#[tokio::test]
async fn a_reading_that_was_given_up_and_ends_late_hands_nothing_out() {
    for same_reader in [true, false] {
        let temp = tempfile::tempdir().unwrap();
        let (files, log) = slow(temp.path());
        for n in 1..=3 {
            log.append(frame(n, "a")).await.unwrap();
        }
        log.seal();
        let mut reader = log.reader().await.unwrap();
        let users = Arc::strong_count(&log.inner);
        let ((held, is_held), (go_on, until)) = (channel(), channel());
        *files.gate.lock().unwrap() = Some((held, until));
        assert!(tokio::time::timeout(Duration::from_millis(20), reader.next()).await.is_err());
        is_held.recv().unwrap();
        if !same_reader {
            drop(reader);
            reader = log.reader().await.unwrap();
        }
        for n in 1..=2 {
            let batch = reader.next().await.unwrap();
            assert_eq!(batch.id, Uuid::from_u128(n));
            log.done(&batch).await.unwrap();
        }
        go_on.send(()).unwrap();
        while Arc::strong_count(&log.inner) > users {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let last = reader.next().await.unwrap();
        assert_eq!(last.id, Uuid::from_u128(3));
        log.done(&last).await.unwrap();
        assert_eq!((log.waiting().bytes, log.waiting().rows), (0, 0), "the cursor is past all that is done, same reader: {same_reader}");
    }
}

#[test]
fn batches_that_are_handed_out_in_any_order_move_the_cursor_in_theirs() {
    let (mut log, _) = open(&Model::default()).unwrap();
    let at = |n: u64| super::super::format::Position { segment: 1, offset: 112 + 56 * n };
    for n in 1..=3 {
        assert!(log.append(&[frame(n, "a")]).remove(0).is_ok());
    }
    log.seal();
    for n in [1, 0, 2] {
        log.hand_out(at(n), at(n + 1), 1, 56);
    }
    log.done(at(1));
    assert_eq!(log.drained(), super::super::format::Position::default(), "the first is not done");
    log.done(at(0));
    assert_eq!(log.drained(), at(2));
    // What was done comes again.
    log.hand_out(at(0), at(1), 0, 0);
    log.done(at(0));
    assert_eq!(log.drained(), at(2), "never back");
}

#[tokio::test]
async fn room_is_given_back_when_the_frame_is_on_disk_and_not_before() {
    let temp = tempfile::tempdir().unwrap();
    let (_, log) = slow(temp.path());
    let room = Arc::new(Semaphore::new(10));
    let disk = log.stall();
    let answer = log.push(frame(1, "a"), Some(room.clone().acquire_many_owned(7).await.unwrap())).unwrap();
    drop(answer);
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!(room.available_permits(), 3, "nobody waits for the frame, and it is in memory");
    drop(disk);
    log.append(frame(1, "b")).await.unwrap();
    assert_eq!(room.available_permits(), 10);
}

#[cfg(feature = "cli")]
#[tokio::test]
async fn frames_of_two_kinds_do_not_mix() {
    use crate::error::ErrorKind;
    use crate::spool::KIND_LINES;
    let temp = tempfile::tempdir().unwrap();
    for (first, second, words) in [
        (KIND_RECORDS, KIND_LINES, "lines of hitherto ingest can't go behind"),
        (KIND_LINES, KIND_RECORDS, "a writer's records can't go behind"),
    ] {
        let spool = crate::spool::Spool::open(crate::spool::SpoolConfig::new(temp.path().join(first.to_string()))).unwrap();
        let log = spool.log("signal").await.unwrap();
        let of = |kind, n| NewFrame::new(Uuid::from_u128(n), kind, 1, 1, vec![b'a']);
        log.append(of(first, 1)).await.unwrap();
        log.append(of(first, 2)).await.unwrap();
        log.require_only(first).unwrap();
        for error in [log.require_only(second).unwrap_err(), log.append(of(second, 3)).await.unwrap_err()] {
            assert_eq!(error.kind(), ErrorKind::Conflict);
            let text = error.to_string();
            assert!(text.contains(words) && text.contains("of signal in /") && text.contains("spool replay --dir /"), "{text}");
        }
        log.seal();
        let mut reader = log.reader().await.unwrap();
        for _ in 0..2 {
            let batch = reader.next().await.unwrap();
            log.done(&batch).await.unwrap();
        }
        log.append(of(second, 4)).await.unwrap();
    }
}

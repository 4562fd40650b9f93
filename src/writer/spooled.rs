//! One table's way in over the disk: a record is on disk before its caller goes on, and is sent from there.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard};

use futures_util::future::BoxFuture;
use tokio::sync::{Notify, Semaphore, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use uuid::Uuid;

use super::queue::AnyQueue;
use super::shared::{Counters, Shared};
use super::{closed, drain};
use crate::error::{Error, ErrorKind, Result};
use crate::records::{OrderEvent, Proposal, Record, RegimeState, RiskEvaluation};
use crate::spool::{KIND_RECORDS, NewFrame, Spool, SpoolLog, WhenFull};

/// The version of the JSON in the frames. A record's field that is added later and may be left out is no
/// new version.
pub(crate) const RECORDS_VERSION: u16 = 1;

/// A table's lane over the disk.
pub(super) struct SpoolLane {
    pub(super) log: SpoolLog,
    /// Bytes of records that are being written and may be.
    room: Semaphore,
    state: Mutex<State>,
    /// The open batch has its first record.
    pub(super) changed: Notify,
    /// The drain is to end.
    pub(super) stop: Notify,
    /// What runs for the lane: the drain first, then flushes that wait.
    tasks: Mutex<Vec<JoinHandle<()>>>,
    drop_when_full: bool,
    max_rows: usize,
    max_bytes: u64,
    max_age: std::time::Duration,
    dropped: metrics::Counter,
}

#[derive(Default)]
struct State {
    batch: Option<Open>,
    closed: bool,
}

/// The batch that records join.
struct Open {
    id: Uuid,
    rows: usize,
    bytes: u64,
    due: Instant,
}

/// Records of these are never dropped.
fn is_precious(table: &str) -> bool {
    [OrderEvent::TABLE, RiskEvaluation::TABLE, RegimeState::TABLE, Proposal::TABLE].contains(&table)
}

impl SpoolLane {
    /// Begins to drain what is in the log.
    pub(super) fn start<R: Record>(shared: &Arc<Shared>, spool: &Spool, log: SpoolLog) -> Arc<Self> {
        let config = &shared.config;
        let lane = Arc::new(Self {
            log,
            room: Semaphore::new(config.queue_bytes),
            state: Mutex::default(),
            changed: Notify::new(),
            stop: Notify::new(),
            tasks: Mutex::default(),
            drop_when_full: spool.config().when_full == WhenFull::Drop && !is_precious(R::TABLE),
            max_rows: config.max_batch_rows,
            max_bytes: config.max_batch_bytes as u64,
            max_age: config.max_age,
            dropped: metrics::counter!(crate::metrics::SPOOL_DROPPED, "table" => R::TABLE),
        });
        let task = tokio::spawn(drain::run::<R>(shared.clone(), lane.clone()));
        lane.tasks().push(task);
        lane
    }

    fn tasks(&self) -> MutexGuard<'_, Vec<JoinHandle<()>>> {
        self.tasks.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Puts a record that is valid on disk.
    pub(super) async fn write<R: Record>(&self, record: R, counters: &Counters) -> Result<()> {
        let mut line = serde_json::to_vec(&record)
            .map_err(|e| Error::new(ErrorKind::Invalid, format!("{}: the record can't be written as JSON: {e}", R::TABLE)))?;
        // JSON is kept as it was written, and has line ends between its tokens alone: as spaces they mean the same.
        line.iter_mut().filter(|byte| matches!(byte, b'\n' | b'\r')).for_each(|byte| *byte = b' ');
        line.push(b'\n');
        let size = line.len() as u64;
        let room = u32::try_from(size).unwrap_or(u32::MAX).min(u32::try_from(self.max_bytes).unwrap_or(u32::MAX));
        let _room = self.room.acquire_many(room).await.map_err(|_| closed())?;
        let on_disk = match self.push(line, size) {
            Ok(on_disk) => on_disk,
            Err(error) if error.kind() == ErrorKind::Full && self.drop_when_full => {
                self.dropped.increment(1);
                if counters.dropped.fetch_add(1, Relaxed) == 0 {
                    tracing::warn!(table = R::TABLE, %error, "records are dropped, as the spool was told to");
                }
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let _queued = Queued::count(counters, size);
        let written = on_disk.await.unwrap_or_else(|_| Err(closed()));
        if written.is_ok() {
            counters.accepted.fetch_add(1, Relaxed);
        }
        written
    }

    /// Records of a batch get to the log in the order in which they are counted.
    fn push(&self, line: Vec<u8>, size: u64) -> Result<oneshot::Receiver<Result<()>>> {
        let mut state = self.lock();
        if state.closed {
            return Err(closed());
        }
        let id = state.batch.as_ref().map_or_else(Uuid::now_v7, |batch| batch.id);
        let on_disk = self.log.push(NewFrame::new(id, KIND_RECORDS, RECORDS_VERSION, 1, line))?;
        let first = state.batch.is_none();
        let batch = state.batch.get_or_insert_with(|| Open { id, rows: 0, bytes: 0, due: Instant::now() + self.max_age });
        batch.rows += 1;
        batch.bytes += size;
        if batch.rows >= self.max_rows || batch.bytes >= self.max_bytes {
            self.seal(&mut state);
        } else if first {
            self.changed.notify_one();
        }
        Ok(on_disk)
    }

    fn seal(&self, state: &mut State) {
        if state.batch.take().is_some() {
            self.log.seal();
        }
    }

    /// When the open batch is to be sealed; seals it if that is now.
    pub(super) fn due(&self) -> Option<Instant> {
        let mut state = self.lock();
        let due = state.batch.as_ref()?.due;
        if due > Instant::now() {
            return Some(due);
        }
        self.seal(&mut state);
        None
    }
}

/// A record between its caller and the disk.
struct Queued<'a> {
    counters: &'a Counters,
    bytes: u64,
}

impl<'a> Queued<'a> {
    fn count(counters: &'a Counters, bytes: u64) -> Self {
        counters.queued_rows.fetch_add(1, Relaxed);
        counters.queued_bytes.fetch_add(bytes, Relaxed);
        Self { counters, bytes }
    }
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        self.counters.left(1, self.bytes);
    }
}

impl AnyQueue for SpoolLane {
    fn flush(&self) -> oneshot::Receiver<()> {
        self.seal(&mut self.lock());
        let (mut answer, answered) = oneshot::channel();
        let log = self.log.clone();
        let task = tokio::spawn(async move {
            let drained = tokio::select! {
                drained = log.drained() => drained.is_ok(),
                () = answer.closed() => false,
            };
            if drained {
                let _ = answer.send(());
            }
        });
        let mut tasks = self.tasks();
        let mut at = 0;
        tasks.retain(|task| {
            at += 1;
            at == 1 || !task.is_finished()
        });
        tasks.push(task);
        answered
    }

    fn close(&self) {
        self.lock().closed = true;
    }

    /// What is on disk stays there.
    fn end(&self) {
        let mut state = self.lock();
        state.closed = true;
        self.seal(&mut state);
        // Flushes end by themselves, for nobody waits for them any more.
        self.stop.notify_one();
    }

    fn ended(&self) -> BoxFuture<'static, ()> {
        let tasks = std::mem::take(&mut *self.tasks());
        self.stop.notify_one();
        Box::pin(async move {
            let mut tasks = tasks.into_iter();
            if let Some(drain) = tasks.next() {
                let _ = drain.await;
            }
            // What is not drained now is not drained by this lane: other clones' flushes are told.
            for flush in tasks {
                flush.abort();
                let _ = flush.await;
            }
        })
    }
}

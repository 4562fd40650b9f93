//! One table's way in over the disk: a record is on disk before its caller goes on, and is sent from there.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard};

use futures_util::future::BoxFuture;
use tokio::runtime::Handle;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use uuid::Uuid;

use super::payload::{RECORDS_VERSION, line};
use super::queue::AnyQueue;
use super::shared::{Counters, Shared};
use super::{closed, drain};
use crate::error::{ErrorKind, Result};
use crate::records::{OrderEvent, Proposal, Record, RegimeState, RiskEvaluation};
use crate::spool::{KIND_RECORDS, NewFrame, Spool, SpoolLog, WhenFull};

/// A table's lane over the disk.
pub(super) struct SpoolLane {
    pub(super) log: SpoolLog,
    /// Bytes of records that are being written and may be.
    room: Arc<Semaphore>,
    /// Where the lane runs: its writer may be dropped anywhere.
    runtime: Handle,
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
            room: Arc::new(Semaphore::new(config.queue_bytes)),
            runtime: Handle::current(),
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
        let line = line(&record)?;
        let size = line.len() as u64;
        let room = u32::try_from(size).unwrap_or(u32::MAX).min(u32::try_from(self.max_bytes).unwrap_or(u32::MAX));
        let room = self.room.clone().acquire_many_owned(room).await.map_err(|_| closed())?;
        let on_disk = match self.push(line, size, room) {
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
    fn push(&self, line: Vec<u8>, size: u64, room: OwnedSemaphorePermit) -> Result<oneshot::Receiver<Result<()>>> {
        let mut state = self.lock();
        if state.closed {
            return Err(closed());
        }
        let id = state.batch.as_ref().map_or_else(Uuid::now_v7, |batch| batch.id);
        let on_disk = self.log.push(NewFrame::new(id, KIND_RECORDS, RECORDS_VERSION, 1, line), Some(room))?;
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
        let _runtime = self.runtime.enter();
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::runtime::{Builder, Runtime};

    use super::super::{Durability, Writer, WriterConfig};
    use super::*;
    use crate::records::HealthCheck;
    use crate::spool::SpoolConfig;

    /// Batches stay open until they are sealed.
    fn config(folder: &std::path::Path) -> WriterConfig {
        let spool = loop {
            match Spool::open(SpoolConfig::new(folder)) {
                Err(error) if error.kind() == ErrorKind::Conflict => std::thread::sleep(Duration::from_millis(5)),
                spool => break spool.unwrap(),
            }
        };
        let mut config = WriterConfig::new("test");
        (config.durability, config.max_age) = (Durability::Spool(spool), Duration::from_secs(600));
        config
    }

    fn runtime() -> Runtime {
        Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
    }

    #[test]
    fn a_writer_may_be_dropped_outside_its_runtime_and_after_it() {
        let temp = tempfile::tempdir().unwrap();
        for round in 0..2 {
            let runtime = runtime();
            let writer = runtime.block_on(async {
                let (writer, _) = Writer::late(config(temp.path())).unwrap();
                writer.write(HealthCheck::new("m", "healthy")).await.unwrap();
                writer
            });
            if round == 0 {
                drop(writer);
                drop(runtime);
            } else {
                drop(runtime);
                drop(writer);
            }
            let Durability::Spool(spool) = config(temp.path()).durability else { unreachable!() };
            assert_eq!(spool.waiting_rows(), round + 1);
        }
    }

    #[tokio::test]
    async fn a_write_that_is_given_up_keeps_its_room_until_it_is_on_disk() {
        let temp = tempfile::tempdir().unwrap();
        let mut config = config(temp.path());
        config.queue_bytes = 1000;
        let Durability::Spool(spool) = config.durability.clone() else { unreachable!() };
        let shared = Arc::new(Shared::new(config, None));
        let lane = SpoolLane::start::<HealthCheck>(&shared, &spool, spool.log(HealthCheck::TABLE).await.unwrap());
        let write = |words: usize| lane.write(HealthCheck::new("m", "w".repeat(words)), &shared.counters);
        let disk = lane.log.stall();
        assert!(tokio::time::timeout(Duration::from_millis(20), write(600)).await.is_err());
        assert!(lane.room.available_permits() < 400, "its bytes are in memory: {}", lane.room.available_permits());
        drop(disk);
        tokio::time::timeout(Duration::from_secs(20), write(600)).await.unwrap().unwrap();
        assert_eq!((lane.room.available_permits(), lane.log.waiting().rows), (1000, 2));
        lane.end();
    }
}

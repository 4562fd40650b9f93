//! How records get in: queue, batches, COPY, ledger, retry.
//!
//! A record handed to [`Writer::write`] waits in memory until its batch is full or old enough, goes in
//! with a line in the ledger in one transaction, and is sent again under the same batch id until the
//! database says that it has it. What the database refuses stands in `hitherto.quarantine` with the
//! reason; its neighbours are stored. Records in memory are lost when the process dies before they
//! are committed: [`Writer::flush`] says when they are.

mod batch;
mod digest;
mod encode;
#[cfg(feature = "cli")]
mod guard;
mod lane;
mod part;
mod send;
mod sql;

pub use batch::{Batch, Stored};
pub(crate) use digest::{COPY_FORM, RowDigest, rows_digest};
#[cfg(feature = "cli")]
pub(crate) use guard::{Guard, is_overtaken};
pub(crate) use send::{Patience, Sender};
#[cfg(feature = "cli")]
pub(crate) use sql::takes_twice;

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::pin::Pin;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use chrono::Utc;
use deadpool_postgres::Pool;
use serde::Serialize;
use tokio::sync::{Notify, Semaphore, SemaphorePermit, mpsc, oneshot, watch};

use crate::config::Config;
use crate::engine::Capabilities;
use crate::error::{Error, ErrorKind, Result};
use crate::records::{Limits, Record};
use lane::{Counters, Message, Shared, Stuck};

/// Rows in a batch, at most, unless told otherwise.
pub const DEFAULT_MAX_BATCH_ROWS: usize = 20_000;
/// Bytes in a batch, about, at most, unless told otherwise: 8 MiB.
pub const DEFAULT_MAX_BATCH_BYTES: usize = 8 << 20;
/// How long a record waits for its batch to fill unless told otherwise.
pub const DEFAULT_MAX_AGE: Duration = Duration::from_millis(200);
/// Bytes that wait, at most, by table, unless told otherwise: 32 MiB. Then `write` waits.
pub const DEFAULT_QUEUE_BYTES: usize = 32 << 20;
/// How long the database may take over a batch unless told otherwise.
pub const DEFAULT_DEADLINE: Duration = Duration::from_secs(60);
/// Records in one table's channel; bytes bound the queue before it does for all but tiny records.
const CHANNEL: usize = 16_384;

/// How a writer behaves.
#[derive(Debug, Clone)]
pub struct WriterConfig {
    /// Who writes: stands in the ledger.
    pub producer: String,
    /// Rows in a batch, at most.
    pub max_batch_rows: usize,
    /// Bytes in a batch, about, at most.
    pub max_batch_bytes: usize,
    /// How long a record waits for its batch to fill.
    pub max_age: Duration,
    /// Bytes of one table's records that wait or are under way, at most; then `write` waits. A table
    /// that can't be written to does not hold up the others.
    pub queue_bytes: usize,
    /// How long the database may take over a batch before it is sent again.
    pub deadline: Duration,
    /// How far records may go.
    pub limits: Limits,
}

impl WriterConfig {
    /// The defaults, for a producer of this name.
    pub fn new(producer: impl Into<String>) -> Self {
        Self {
            producer: producer.into(),
            max_batch_rows: DEFAULT_MAX_BATCH_ROWS,
            max_batch_bytes: DEFAULT_MAX_BATCH_BYTES,
            max_age: DEFAULT_MAX_AGE,
            queue_bytes: DEFAULT_QUEUE_BYTES,
            deadline: DEFAULT_DEADLINE,
            limits: Limits::default(),
        }
    }
}

/// What a writer has done so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct WriterStats {
    /// Records that `write` took.
    pub accepted: u64,
    /// Rows stored.
    pub stored: u64,
    /// Rows that the table had already, by their own id.
    pub duplicates: u64,
    /// Rows that the database refused.
    pub quarantined: u64,
    /// Batches stored.
    pub batches: u64,
    /// Batches sent again.
    pub retries: u64,
    /// Records that wait or are under way.
    pub queued_rows: u64,
    /// Their bytes, about.
    pub queued_bytes: u64,
}

/// Hands records to the database. Cheap to clone; clones share queue and counters.
///
/// Must be closed ([`Writer::close`]) or flushed before the program ends: what is queued then is lost.
#[derive(Clone)]
pub struct Writer {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    lanes: Mutex<HashMap<TypeId, Lane>>,
    /// Held while a record is put into its lane, so that none slips in behind the last flush.
    closed: RwLock<bool>,
}

/// The way into a table's lane, its type put aside, and how to ask it for a flush.
struct Lane {
    entry: Box<dyn Any + Send>,
    flush: FlushFn,
}

struct Entry<R> {
    channel: mpsc::Sender<Message<R>>,
    /// Bytes of the lane's queue that are free.
    room: Arc<Semaphore>,
}

type FlushFn = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = Result<()>> + Send>> + Send + Sync>;

impl Writer {
    pub(crate) fn new(pool: Pool, capabilities: Capabilities, database: Config, mut config: WriterConfig) -> Self {
        config.max_batch_rows = config.max_batch_rows.max(1);
        config.queue_bytes = config.queue_bytes.clamp(1, Semaphore::MAX_PERMITS.min(u32::MAX as usize));
        config.max_batch_bytes = config.max_batch_bytes.clamp(1, config.queue_bytes);
        let sender = Sender::new(pool, capabilities, database, config.deadline);
        let shared =
            Shared { config, sender, counters: Counters::default(), stuck: watch::channel(Stuck::default()).0, asked: Notify::new() };
        Self { inner: Arc::new(Inner { shared: Arc::new(shared), lanes: Mutex::default(), closed: RwLock::new(false) }) }
    }

    /// Takes a record. Waits while the queue is full; a future that is dropped before it is ready has
    /// taken nothing.
    ///
    /// # Errors
    /// `Invalid` when the record breaks a rule: it was not taken, nothing else is affected. `Closed`
    /// after [`Writer::close`]. While the database turns writes down for good (a privilege, a missing
    /// table) and the queue is full, that error.
    pub async fn write<R: Record>(&self, record: R) -> Result<()> {
        let shared = &self.inner.shared;
        record.validate(&shared.config.limits, Utc::now())?;
        let size = u32::try_from(record.size().min(shared.config.queue_bytes)).unwrap_or(u32::MAX);
        let (channel, free) = self.entry::<R>()?;
        let at_once = free.try_acquire_many(size).ok().zip(channel.try_reserve().ok());
        let (room, place) = match at_once {
            Some(both) => both,
            None => self.wait_for_room(&channel, &free, size).await?,
        };
        let closed_flag = self.inner.closed.read().unwrap_or_else(|e| e.into_inner());
        if *closed_flag {
            return Err(closed());
        }
        let counters = &shared.counters;
        counters.accepted.fetch_add(1, Relaxed);
        counters.queued_rows.fetch_add(1, Relaxed);
        counters.queued_bytes.fetch_add(u64::from(size), Relaxed);
        room.forget();
        place.send(Message::Record(record, size));
        Ok(())
    }

    async fn wait_for_room<'a, R: Record>(
        &self,
        channel: &'a mpsc::Sender<Message<R>>,
        room: &'a Semaphore,
        size: u32,
    ) -> Result<(SemaphorePermit<'a>, mpsc::Permit<'a, Message<R>>)> {
        let mut stuck = self.inner.shared.stuck.subscribe();
        let both = async {
            let room = room.acquire_many(size).await.map_err(|_| closed())?;
            let place = channel.reserve().await.map_err(|_| closed())?;
            Ok((room, place))
        };
        tokio::select! {
            both = both => both,
            reason = stuck.wait_for(|stuck| stuck.reasons.contains_key(R::TABLE)) => {
                let error = reason.ok().and_then(|stuck| stuck.error()).unwrap_or_else(closed);
                Err(Error::new(error.kind(), format!("the queue is full and the database takes nothing: {error}")))
            }
        }
    }

    /// The way into the record's lane, which starts with its first record.
    fn entry<R: Record>(&self) -> Result<(mpsc::Sender<Message<R>>, Arc<Semaphore>)> {
        let mut lanes = self.inner.lanes.lock().unwrap_or_else(|e| e.into_inner());
        if *self.inner.closed.read().unwrap_or_else(|e| e.into_inner()) {
            return Err(closed());
        }
        let lane = lanes.entry(TypeId::of::<R>()).or_insert_with(|| {
            let (channel, messages) = mpsc::channel::<Message<R>>(CHANNEL);
            let room = Arc::new(Semaphore::new(self.inner.shared.config.queue_bytes));
            tokio::spawn(lane::run(self.inner.shared.clone(), messages, room.clone()));
            let to = channel.downgrade();
            let flush: FlushFn = Arc::new(move || {
                let to = to.upgrade();
                Box::pin(async move {
                    let (answer, answered) = oneshot::channel();
                    let Some(to) = to else { return Ok(()) };
                    to.send(Message::Flush(answer)).await.map_err(|_| closed())?;
                    answered.await.map_err(|_| closed())
                })
            });
            Lane { entry: Box::new(Entry { channel, room }), flush }
        });
        let entry = lane.entry.downcast_ref::<Entry<R>>().expect("a lane is found by its record's type");
        Ok((entry.channel.clone(), entry.room.clone()))
    }

    /// Waits until every record that was taken before is committed, or quarantined.
    ///
    /// # Errors
    /// What keeps the database from taking them, if it does not pass by itself; the records are kept
    /// and tried again. While the database is merely away, this waits.
    pub async fn flush(&self) -> Result<()> {
        let flushes: Vec<FlushFn> = {
            let lanes = self.inner.lanes.lock().unwrap_or_else(|e| e.into_inner());
            lanes.values().map(|lane| lane.flush.clone()).collect()
        };
        let mut stuck = self.inner.shared.stuck.subscribe();
        let tries = stuck.borrow().tries;
        // Lanes that are stuck try again now: only a verdict later than the question counts.
        self.inner.shared.asked.notify_waiters();
        let all = futures_util::future::try_join_all(flushes.iter().map(|flush| flush()));
        tokio::select! {
            all = all => all.map(|_| ()),
            verdict = stuck.wait_for(|stuck| stuck.tries > tries && !stuck.reasons.is_empty()) => {
                Err(verdict.ok().and_then(|stuck| stuck.error()).unwrap_or_else(closed))
            }
        }
    }

    /// Takes no more records and waits until those it has are committed.
    ///
    /// # Errors
    /// As [`Writer::flush`]; the message says how many records were not stored.
    pub async fn close(&self) -> Result<WriterStats> {
        self.shut();
        let flushed = self.flush().await;
        self.finish(flushed)
    }

    /// [`Writer::close`] with a limit on the wait.
    ///
    /// # Errors
    /// As [`Writer::close`], and `Timeout` when the wait was too long.
    pub async fn close_within(&self, limit: Duration) -> Result<WriterStats> {
        self.shut();
        let flushed = tokio::time::timeout(limit, self.flush())
            .await
            .unwrap_or_else(|_| Err(Error::new(ErrorKind::Timeout, format!("the database took nothing for {} s", limit.as_secs_f64()))));
        self.finish(flushed)
    }

    fn shut(&self) {
        *self.inner.closed.write().unwrap_or_else(|e| e.into_inner()) = true;
    }

    fn finish(&self, flushed: Result<()>) -> Result<WriterStats> {
        let stats = self.stats();
        match flushed {
            Ok(()) => {
                self.inner.lanes.lock().unwrap_or_else(|e| e.into_inner()).clear();
                Ok(stats)
            }
            Err(error) => Err(Error::new(error.kind(), format!("{error}; {} records were not stored", stats.queued_rows)).caused_by(error)),
        }
    }

    /// What this writer has done so far.
    pub fn stats(&self) -> WriterStats {
        let counters = &self.inner.shared.counters;
        WriterStats {
            accepted: counters.accepted.load(Relaxed),
            stored: counters.stored.load(Relaxed),
            duplicates: counters.duplicates.load(Relaxed),
            quarantined: counters.quarantined.load(Relaxed),
            batches: counters.batches.load(Relaxed),
            retries: counters.retries.load(Relaxed),
            queued_rows: counters.queued_rows.load(Relaxed),
            queued_bytes: counters.queued_bytes.load(Relaxed),
        }
    }
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").field("producer", &self.inner.shared.config.producer).field("stats", &self.stats()).finish_non_exhaustive()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let queued = self.shared.counters.queued_rows.load(Relaxed);
        if queued > 0 {
            tracing::warn!(queued, "a writer was dropped without being closed; its lanes go on while the program runs");
        }
    }
}

fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the writer is closed")
}

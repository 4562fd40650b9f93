//! How records get in: queue, batches, COPY, ledger, retry.
//!
//! A record handed to [`Writer::write`] waits in memory until its batch is full or old enough, goes in
//! with a line in the ledger in one transaction, and is sent again under the same batch id until the
//! database says that it has it. What the database refuses stands in `hitherto.quarantine` with the
//! reason; its neighbours are stored. Records in memory are lost when the process dies before they
//! are committed: [`Writer::flush`] says when they are.

mod batch;
mod config;
mod copy_body;
mod count;
mod digest;
mod durability;
mod encode;
mod lane;
mod ledger;
mod modules;
mod part;
mod queue;
mod rows;
mod send;
mod shared;
mod sql;

pub use batch::{Batch, Stored};
pub use config::{
    DEFAULT_CONNECTIONS, DEFAULT_DEADLINE, DEFAULT_MAX_AGE, DEFAULT_MAX_BATCH_BYTES, DEFAULT_MAX_BATCH_ROWS, DEFAULT_QUEUE_BYTES,
    WriterConfig,
};
#[doc(hidden)]
pub use copy_body::encode_rows;
pub(crate) use digest::{COPY_FORM, RowDigest, rows_digest};
pub use durability::Durability;
pub(crate) use send::{Patience, Sender};

use std::any::{Any, TypeId};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use chrono::Utc;
use deadpool_postgres::Pool;
use futures_util::future::{TryFutureExt, try_join_all};
use serde::Serialize;
use tokio::sync::SemaphorePermit;

use crate::config::Config;
use crate::engine::Capabilities;
use crate::error::{Error, ErrorKind, Result};
use crate::records::Record;
use queue::{AnyQueue, Queue};
use shared::Shared;

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
    lanes: RwLock<Lanes>,
}

#[derive(Default)]
struct Lanes {
    /// One a table that records were written for: a handful, so looking through them is quick.
    lanes: Vec<Lane>,
    closed: bool,
}

/// A table's lane, known by its record's type.
struct Lane {
    record: TypeId,
    /// The queue as what it is, its type put aside, and as any queue.
    typed: Arc<dyn Any + Send + Sync>,
    queue: Arc<dyn AnyQueue>,
}

impl Lane {
    fn typed<R: Record>(&self) -> Option<Arc<Queue<R>>> {
        (self.record == TypeId::of::<R>()).then(|| self.typed.clone().downcast().expect("a lane is found by its record's type"))
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.queue.end();
    }
}

impl Writer {
    pub(crate) fn new(pool: Pool, capabilities: Capabilities, database: Config, config: WriterConfig) -> Self {
        let config = config.clamped();
        let sender = Sender::new(pool, capabilities, database, config.deadline).with(&config);
        Self { inner: Arc::new(Inner { shared: Arc::new(Shared::new(config, sender)), lanes: RwLock::default() }) }
    }

    /// Takes a record. Waits while the queue is full; with [`Durability::Commit`] also until the record
    /// is committed. A future that is dropped before it is ready has taken nothing, but with
    /// [`Durability::Commit`] it may have: the record may yet be stored.
    ///
    /// # Errors
    /// `Invalid` when the record breaks a rule: it was not taken, nothing else is affected. `Closed`
    /// after [`Writer::close`]. While the database turns writes down for good (a privilege, a missing
    /// table) and the queue is full, that error. With [`Durability::Commit`] also `Invalid` when the
    /// database refused the record: it is in quarantine, the message has the reason.
    pub async fn write<R: Record>(&self, record: R) -> Result<()> {
        let shared = &self.inner.shared;
        record.validate(&shared.config.limits, Utc::now())?;
        let size = u32::try_from(record.size().min(shared.config.queue_bytes)).unwrap_or(u32::MAX);
        let queue = self.queue::<R>()?;
        let room = match queue.room.try_acquire_many(size) {
            Ok(room) => room,
            Err(_) => self.wait_for_room(&queue, size).await?,
        };
        let fate = queue.put(record, size, &shared.counters)?;
        room.forget();
        match fate {
            Some(fate) => fate.await.unwrap_or_else(|_| Err(closed())),
            None => Ok(()),
        }
    }

    async fn wait_for_room<'a, R: Record>(&self, queue: &'a Queue<R>, size: u32) -> Result<SemaphorePermit<'a>> {
        queue.press();
        let mut stuck = self.inner.shared.stuck.subscribe();
        tokio::select! {
            room = queue.room.acquire_many(size) => room.map_err(|_| closed()),
            reason = stuck.wait_for(|stuck| stuck.reasons.contains_key(R::TABLE)) => {
                let error = reason.ok().and_then(|stuck| stuck.error_of(R::TABLE)).unwrap_or_else(closed);
                Err(Error::new(error.kind(), format!("the queue is full and the database takes nothing: {error}")))
            }
        }
    }

    /// The record's queue; it and its lane start with the first record.
    fn queue<R: Record>(&self) -> Result<Arc<Queue<R>>> {
        {
            let lanes = self.inner.lanes.read().unwrap_or_else(|e| e.into_inner());
            if lanes.closed {
                return Err(closed());
            }
            if let Some(queue) = lanes.lanes.iter().find_map(Lane::typed) {
                return Ok(queue);
            }
        }
        let mut lanes = self.inner.lanes.write().unwrap_or_else(|e| e.into_inner());
        if lanes.closed {
            return Err(closed());
        }
        // Another may have been faster.
        if let Some(queue) = lanes.lanes.iter().find_map(Lane::typed) {
            return Ok(queue);
        }
        let shared = &self.inner.shared;
        let queue = Arc::new(Queue::<R>::new(&shared.config, R::TABLE));
        tokio::spawn(lane::run(shared.clone(), queue.clone()));
        lanes.lanes.push(Lane { record: TypeId::of::<R>(), typed: queue.clone(), queue: queue.clone() });
        Ok(queue)
    }

    /// Waits until every record that was taken before is committed, or quarantined.
    ///
    /// # Errors
    /// What keeps the database from taking them, if it does not pass by itself; the records are kept
    /// and tried again. While the database is merely away, this waits.
    pub async fn flush(&self) -> Result<()> {
        let mut stuck = self.inner.shared.stuck.subscribe();
        let tries = stuck.borrow().tries;
        // Lanes that are stuck try again now: only a verdict later than the question counts.
        self.inner.shared.asked.notify_waiters();
        let flushed: Vec<_> = {
            let lanes = self.inner.lanes.read().unwrap_or_else(|e| e.into_inner());
            lanes.lanes.iter().map(|lane| lane.queue.flush().map_err(|_| closed())).collect()
        };
        let all = try_join_all(flushed);
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
        let mut lanes = self.inner.lanes.write().unwrap_or_else(|e| e.into_inner());
        lanes.closed = true;
        // None slips in behind the last flush.
        lanes.lanes.iter().for_each(|lane| lane.queue.close());
    }

    fn finish(&self, flushed: Result<()>) -> Result<WriterStats> {
        let stats = self.stats();
        match flushed {
            Ok(()) => {
                self.inner.lanes.write().unwrap_or_else(|e| e.into_inner()).lanes.clear();
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

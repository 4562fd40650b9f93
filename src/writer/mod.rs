//! How records get in: queue, batches, COPY, ledger, retry.
//!
//! A record handed to [`Writer::write`] waits in memory until its batch is full or old enough, goes in
//! with a line in the ledger in one transaction, and is sent again under the same batch id until the
//! database says that it has it. What the database refuses stands in `hitherto.quarantine` with the
//! reason; its neighbours are stored. Records in memory are lost when the process dies before they
//! are committed: [`Writer::flush`] says when they are. With [`Durability::Spool`] they are on disk
//! before `write` returns, and the next writer sends what this one could not.

mod batch;
mod config;
mod copy_body;
mod count;
mod digest;
mod drain;
mod durability;
mod encode;
#[cfg(feature = "cli")]
mod guard;
mod lane;
mod late;
mod ledger;
mod modules;
mod part;
mod payload;
mod queue;
mod rows;
mod send;
mod shared;
mod spool_lanes;
mod spooled;
mod sql;
mod stats;

pub use batch::{Batch, Stored};
pub use config::{
    DEFAULT_CONNECTIONS, DEFAULT_DEADLINE, DEFAULT_MAX_AGE, DEFAULT_MAX_BATCH_BYTES, DEFAULT_MAX_BATCH_ROWS, DEFAULT_QUEUE_BYTES,
    WriterConfig,
};
#[doc(hidden)]
pub use copy_body::encode_rows;
pub(crate) use digest::{COPY_FORM, RowDigest, rows_digest};
pub use durability::Durability;
#[cfg(feature = "cli")]
pub(crate) use guard::{Guard, is_overtaken};
pub(crate) use late::Late;
#[cfg(feature = "cli")]
pub(crate) use payload::spooled_batch;
pub(crate) use send::{Patience, Sender};
#[cfg(feature = "cli")]
pub(crate) use sql::takes_twice;
pub use stats::WriterStats;

use std::any::{Any, TypeId};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use chrono::Utc;
use futures_util::future::{TryFutureExt, try_join_all};
use tokio::sync::SemaphorePermit;

use crate::config::Config;
use crate::engine::Capabilities;
use crate::error::{Error, ErrorKind, Result};
use crate::pool::Pool;
use crate::records::Record;
use crate::spool::Claim;
use queue::{AnyQueue, Queue};
use shared::Shared;
use spooled::SpoolLane;

/// Hands records to the database. Cheap to clone; clones share queue and counters.
///
/// Must be closed ([`Writer::close`]) or flushed before the program ends: what is queued then is lost,
/// unless it is on disk ([`Durability::Spool`]).
#[derive(Clone)]
pub struct Writer {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    lanes: RwLock<Lanes>,
    /// With a spool: that no other writer of this process appends to it.
    claim: Mutex<Option<Claim>>,
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

    fn spooled<R: Record>(&self) -> Option<Arc<SpoolLane>> {
        (self.record == TypeId::of::<R>()).then(|| self.typed.clone().downcast().expect("with a spool all lanes are spooled"))
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
        let sender = Sender::new(pool, capabilities, database, config.deadline);
        // Who comes second to a spool is told by its first write.
        Self::with_sender(Some(sender), config)
    }

    fn with_sender(sender: Option<Sender>, config: WriterConfig) -> Self {
        let shared = Arc::new(Shared::new(config, sender));
        let claim = if let Durability::Spool(spool) = &shared.config.durability { spool.claim() } else { None };
        let writer = Self { inner: Arc::new(Inner { shared, lanes: RwLock::default(), claim: Mutex::new(claim) }) };
        writer.drain_leftovers();
        writer
    }

    /// Takes a record. Waits while the queue is full; with [`Durability::Commit`] also until the record
    /// is committed, with [`Durability::Spool`] until it is on disk. A future that is dropped before it is
    /// ready has taken nothing, but with these two it may have: the record may yet be stored.
    ///
    /// # Errors
    /// `Invalid` when the record breaks a rule: it was not taken, nothing else is affected. `Closed`
    /// after [`Writer::close`]. While the database turns writes down for good (a privilege, a missing
    /// table) and the queue is full, that error. With [`Durability::Commit`] also `Invalid` when the
    /// database refused the record: it is in quarantine, the message has the reason. With
    /// [`Durability::Spool`] `Full` when the quota is reached (nothing was taken), `Disk` when the record
    /// could not be written (it may be found on disk after a restart, if the disk did not mean it),
    /// `Conflict` when the spool is used by another writer of this process.
    pub async fn write<R: Record>(&self, record: R) -> Result<()> {
        let shared = &self.inner.shared;
        record.validate(&shared.config.limits, Utc::now())?;
        if let Durability::Spool(spool) = &shared.config.durability {
            return self.spool_lane::<R>(spool).await?.write(record, &shared.counters).await;
        }
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
            reason = stuck.wait_for(|stuck| stuck.error_of(R::TABLE).is_some()) => {
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

    /// Waits until every record that was taken before is committed, or quarantined; with a spool that
    /// includes what earlier writers left.
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
    /// With [`Durability::Spool`] nothing is lost that is not: what keeps the database from taking records
    /// is no error then, [`WriterStats::spooled`] says how many wait on disk for the next writer.
    ///
    /// # Errors
    /// As [`Writer::flush`]; the message says how many records were not stored.
    pub async fn close(&self) -> Result<WriterStats> {
        self.shut();
        let flushed = self.flush().await;
        self.finish(flushed).await
    }

    /// [`Writer::close`] with a limit on the wait. With [`Durability::Spool`] the limit is no error: what is
    /// on disk stays there.
    ///
    /// # Errors
    /// As [`Writer::close`], and `Timeout` when the wait was too long.
    pub async fn close_within(&self, limit: Duration) -> Result<WriterStats> {
        self.shut();
        let flushed = tokio::time::timeout(limit, self.flush())
            .await
            .unwrap_or_else(|_| Err(Error::new(ErrorKind::Timeout, format!("the database took nothing for {} s", limit.as_secs_f64()))));
        self.finish(flushed).await
    }

    fn shut(&self) {
        let mut lanes = self.inner.lanes.write().unwrap_or_else(|e| e.into_inner());
        lanes.closed = true;
        // None slips in behind the last flush.
        lanes.lanes.iter().for_each(|lane| lane.queue.close());
    }

    async fn finish(&self, flushed: Result<()>) -> Result<WriterStats> {
        if matches!(self.inner.shared.config.durability, Durability::Spool(_)) {
            return Ok(self.leave_spool(flushed).await);
        }
        let stats = self.stats();
        match flushed {
            Ok(()) => {
                self.inner.lanes.write().unwrap_or_else(|e| e.into_inner()).lanes.clear();
                Ok(stats)
            }
            Err(error) => Err(Error::new(error.kind(), format!("{error}; {} records were not stored", stats.queued_rows)).caused_by(error)),
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

//! A writer's lanes over the disk: how they start and end.

use std::any::TypeId;
use std::sync::Arc;

use futures_util::future::join_all;

use super::spooled::SpoolLane;
use super::{Durability, Lane, Writer, WriterStats, closed};
use crate::error::{Error, ErrorKind, Result};
use crate::records::{Record, WithRecord, with_record_of};
use crate::spool::{KIND_RECORDS, Spool, SpoolLog};

impl Writer {
    /// The record's lane over the disk; it starts with the first record, or with what an earlier writer
    /// left.
    pub(super) async fn spool_lane<R: Record>(&self, spool: &Spool) -> Result<Arc<SpoolLane>> {
        {
            let lanes = self.inner.lanes.read().unwrap_or_else(|e| e.into_inner());
            if lanes.closed {
                return Err(closed());
            }
            if let Some(lane) = lanes.lanes.iter().find_map(Lane::spooled::<R>) {
                return Ok(lane);
            }
        }
        self.require_claim()?;
        let log = spool.log(R::TABLE).await?;
        log.require_only(KIND_RECORDS)?;
        self.start_spool_lane::<R>(spool, log)
    }

    fn start_spool_lane<R: Record>(&self, spool: &Spool, log: SpoolLog) -> Result<Arc<SpoolLane>> {
        let mut lanes = self.inner.lanes.write().unwrap_or_else(|e| e.into_inner());
        if lanes.closed {
            return Err(closed());
        }
        // Another may have been faster.
        if let Some(lane) = lanes.lanes.iter().find_map(Lane::spooled::<R>) {
            return Ok(lane);
        }
        let lane = SpoolLane::start::<R>(&self.inner.shared, spool, log);
        lanes.lanes.push(Lane { record: TypeId::of::<R>(), typed: lane.clone(), queue: lane.clone() });
        Ok(lane)
    }

    pub(super) fn require_claim(&self) -> Result<()> {
        if let Durability::Spool(spool) = &self.inner.shared.config.durability
            && self.inner.claim.lock().unwrap_or_else(|e| e.into_inner()).is_none()
        {
            let folder = spool.config().folder.display();
            return Err(Error::new(
                ErrorKind::Conflict,
                format!("the spool {folder} is used by another writer of this process; clone that one"),
            ));
        }
        Ok(())
    }

    /// Starts the lanes of tables that an earlier writer left something for.
    pub(super) fn drain_leftovers(&self) {
        struct Start<'a>(&'a Writer, &'a Spool, SpoolLog);
        impl WithRecord for Start<'_> {
            type Output = ();
            fn with<R: Record>(self) {
                // It can't be closed yet.
                let _ = self.0.start_spool_lane::<R>(self.1, self.2);
            }
        }
        let Durability::Spool(spool) = &self.inner.shared.config.durability else { return };
        if self.inner.claim.lock().unwrap_or_else(|e| e.into_inner()).is_none() {
            return;
        }
        for table in spool.tables() {
            let Some(log) = spool.existing_log(&table).filter(|log| log.waiting().bytes > 0) else { continue };
            if log.waiting().kind.is_some_and(|kind| kind != KIND_RECORDS) {
                tracing::error!(table, "the spool holds lines of hitherto ingest; that, or hitherto spool replay, sends them");
                continue;
            }
            if with_record_of(&table, Start(self, spool, log)).is_none() {
                tracing::error!(table, "the spool holds records of a table that this program does not know; they stay there");
            }
        }
    }

    /// Lets go of the spool: the next writer sends what is there.
    pub(super) async fn leave_spool(&self, flushed: Result<()>) -> WriterStats {
        let lanes = std::mem::take(&mut self.inner.lanes.write().unwrap_or_else(|e| e.into_inner()).lanes);
        join_all(lanes.iter().map(|lane| lane.queue.ended())).await;
        let stats = self.stats();
        if let Err(error) = flushed {
            tracing::warn!(%error, spooled = stats.spooled, "the writer is closed; what the database did not take waits on disk for the next one");
        }
        self.inner.claim.lock().unwrap_or_else(|e| e.into_inner()).take();
        stats
    }
}

//! What a writer counts.

use std::sync::atomic::Ordering::Relaxed;

use serde::Serialize;

use super::{Durability, Writer};

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
    /// With a spool: records that wait on disk, those that earlier writers left included.
    pub spooled: u64,
    /// With a spool: records that were dropped because it was full, as it was told to. They count as
    /// accepted nowhere.
    pub dropped: u64,
}

impl Writer {
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
            spooled: match &self.inner.shared.config.durability {
                Durability::Spool(spool) => spool.waiting_rows(),
                _ => 0,
            },
            dropped: counters.dropped.load(Relaxed),
        }
    }
}

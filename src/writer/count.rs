//! What is counted for whoever watches from outside.

use std::time::Duration;

use metrics::{Gauge, counter, gauge, histogram};

use super::batch::{Batch, Stored};
use crate::error::{Error, ErrorKind};
use crate::metrics::{
    WRITER_BATCHES, WRITER_BYTES, WRITER_COMMIT_SECONDS, WRITER_DUPLICATES, WRITER_QUARANTINED, WRITER_QUEUE_BYTES, WRITER_QUEUE_ROWS,
    WRITER_RETRIES, WRITER_ROWS,
};
use crate::records::Record;

/// A batch was stored, so long after it was first sent.
pub(super) fn stored<R: Record>(batch: &Batch<R>, stored: &Stored, took: Duration) {
    let table = R::TABLE;
    histogram!(WRITER_COMMIT_SECONDS, "table" => table).record(took);
    if stored.already && batch.known {
        // It was stored, and counted, before this program sent it.
        return;
    }
    let bytes: usize = batch.rows.iter().map(Record::size).sum();
    counter!(WRITER_BATCHES, "table" => table).increment(1);
    counter!(WRITER_ROWS, "table" => table).increment(stored.rows);
    counter!(WRITER_BYTES, "table" => table).increment(bytes as u64);
    counter!(WRITER_DUPLICATES, "table" => table).increment(stored.duplicates);
    counter!(WRITER_QUARANTINED, "table" => table).increment(stored.quarantined);
}

/// A batch is sent again because of this.
pub(super) fn retried(table: &'static str, error: &Error) {
    let class = match error.sqlstate() {
        Some(code) => code.get(..2).unwrap_or(code).to_owned(),
        None if error.kind() == ErrorKind::Timeout => "timeout".to_owned(),
        None => "connection".to_owned(),
    };
    counter!(WRITER_RETRIES, "table" => table, "class" => class).increment(1);
}

/// What waits in one table's queue, or is under way.
pub(super) struct QueueGauges {
    rows: Gauge,
    bytes: Gauge,
}

impl QueueGauges {
    pub(super) fn new(table: &'static str) -> Self {
        Self { rows: gauge!(WRITER_QUEUE_ROWS, "table" => table), bytes: gauge!(WRITER_QUEUE_BYTES, "table" => table) }
    }

    pub(super) fn entered(&self, bytes: u64) {
        self.rows.increment(1.0);
        self.bytes.increment(bytes as f64);
    }

    pub(super) fn left(&self, rows: u64, bytes: u64) {
        self.rows.decrement(rows as f64);
        self.bytes.decrement(bytes as f64);
    }
}

//! How a writer behaves.

use std::time::Duration;

use tokio::sync::Semaphore;

use super::durability::Durability;
use crate::records::Limits;

/// Rows in a batch, at most, unless told otherwise: 50,000.
pub const DEFAULT_MAX_BATCH_ROWS: usize = 50_000;
/// Bytes in a batch, about, at most, unless told otherwise: 8 MiB.
pub const DEFAULT_MAX_BATCH_BYTES: usize = 8 << 20;
/// How long a record waits for its batch to fill unless told otherwise: 100 ms.
pub const DEFAULT_MAX_AGE: Duration = Duration::from_millis(100);
/// Bytes that wait, at most, by table, unless told otherwise: 32 MiB. Then `write` waits.
pub const DEFAULT_QUEUE_BYTES: usize = 32 << 20;
/// How long the database may take over a batch unless told otherwise: 60 s.
pub const DEFAULT_DEADLINE: Duration = Duration::from_secs(60);
/// Batches of one table that are under way at once, at most, unless told otherwise: 1.
pub const DEFAULT_CONNECTIONS: usize = 1;

/// How a writer behaves.
#[derive(Debug, Clone)]
pub struct WriterConfig {
    /// Who writes: stands in the ledger.
    pub producer: String,
    /// What a record that was written survives.
    pub durability: Durability,
    /// Rows in a batch, at most; [`DEFAULT_MAX_BATCH_ROWS`] by default.
    pub max_batch_rows: usize,
    /// Bytes in a batch, about, at most; [`DEFAULT_MAX_BATCH_BYTES`] by default.
    pub max_batch_bytes: usize,
    /// How long a record waits for its batch to fill; [`DEFAULT_MAX_AGE`] by default. With [`Durability::Commit`] none waits for that.
    pub max_age: Duration,
    /// Bytes of one table's records that wait or are under way, at most; then `write` waits. A table
    /// that can't be written to does not hold up the others.
    pub queue_bytes: usize,
    /// Batches of one table that are under way at once, at most, each on a connection of the store's
    /// pool. `module` and `regime_state` go one by one whatever this says: there the last one wins.
    pub connections: usize,
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
            durability: Durability::default(),
            max_batch_rows: DEFAULT_MAX_BATCH_ROWS,
            max_batch_bytes: DEFAULT_MAX_BATCH_BYTES,
            max_age: DEFAULT_MAX_AGE,
            queue_bytes: DEFAULT_QUEUE_BYTES,
            connections: DEFAULT_CONNECTIONS,
            deadline: DEFAULT_DEADLINE,
            limits: Limits::default(),
        }
    }

    /// The nearest settings that can be worked with.
    pub(super) fn clamped(mut self) -> Self {
        self.max_batch_rows = self.max_batch_rows.max(1);
        self.queue_bytes = self.queue_bytes.clamp(1, Semaphore::MAX_PERMITS.min(u32::MAX as usize));
        self.max_batch_bytes = self.max_batch_bytes.clamp(1, self.queue_bytes);
        self.connections = self.connections.max(1);
        self
    }
}

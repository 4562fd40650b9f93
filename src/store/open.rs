//! A writer that starts while the database is away.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};

use super::Store;
use crate::config::Config;
use crate::error::Result;
use crate::writer::{Late, Writer, WriterConfig};

impl Writer {
    /// A writer that takes records at once and reaches the database by itself, however long that takes.
    /// [`Store::writer`] is for those who want to know at the start that it is there.
    ///
    /// What can't pass by itself (a login that is turned down, a schema that is too new) comes up where a
    /// writer that is stuck says so: in [`Writer::flush`], and in [`Writer::write`] when the queue is full.
    ///
    /// Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// `Conflict` when the spool is used by another writer of this process.
    pub fn open(database: Config, config: WriterConfig) -> Result<Self> {
        let (writer, late) = Self::late(config)?;
        tokio::spawn(connect(late, database));
        Ok(writer)
    }
}

/// Tries until the database is reached, or nobody has anything to send any more.
async fn connect(late: Late, database: Config) {
    let pauses = ExponentialBuilder::default().with_min_delay(Duration::from_millis(100)).with_max_delay(Duration::from_secs(5));
    let mut pauses = pauses.with_jitter().without_max_times().build();
    while !late.is_over() {
        match Store::connect(database.clone()).await {
            Ok(store) => return late.reached(|deadline| store.sender(deadline)),
            Err(error) if error.is_retryable() => {
                let pause = pauses.next().unwrap_or_default();
                tracing::warn!(%error, ?pause, "the database can't be reached; the writer tries again");
                tokio::time::sleep(pause).await;
            }
            Err(error) => {
                tracing::error!(%error, "the writer can't use the database; it keeps its records and tries again");
                late.wait_stuck(&error).await;
            }
        }
    }
}

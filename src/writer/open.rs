//! A writer that starts while the database is away.

use std::sync::{Arc, Weak};
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};

use super::shared::{ANY_TABLE, Shared};
use super::{Writer, WriterConfig};
use crate::config::Config;
use crate::error::Result;
use crate::store::Store;

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
        let writer = Self::with_sender(None, config.clamped());
        writer.require_claim()?;
        tokio::spawn(connect(Arc::downgrade(&writer.inner.shared), database));
        Ok(writer)
    }
}

/// Tries until the database is reached, or nobody has anything to send any more.
async fn connect(shared: Weak<Shared>, database: Config) {
    let pauses = ExponentialBuilder::default().with_min_delay(Duration::from_millis(100)).with_max_delay(Duration::from_secs(5));
    let mut pauses = pauses.with_jitter().without_max_times().build();
    loop {
        let result = Store::connect(database.clone()).await;
        let Some(shared) = shared.upgrade() else { return };
        match result {
            Ok(store) => return shared.connected(store.sender(shared.config.deadline).with(&shared.config)),
            Err(error) if error.is_retryable() => {
                let pause = pauses.next().unwrap_or_default();
                tracing::warn!(%error, ?pause, "the database can't be reached; the writer tries again");
                drop(shared);
                tokio::time::sleep(pause).await;
            }
            Err(error) => {
                tracing::error!(%error, "the writer can't use the database; it keeps its records and tries again");
                shared.wait_stuck(ANY_TABLE, &error).await;
            }
        }
    }
}

//! A writer whose database is yet to be reached.

use std::sync::{Arc, Weak};
use std::time::Duration;

use super::shared::{ANY_TABLE, Shared};
use super::{Sender, Writer, WriterConfig};
use crate::error::{Error, Result};

/// Waits for the database in a writer's place.
pub(crate) struct Late(Weak<Shared>);

impl Writer {
    /// A writer that takes records at once, and who is to be told that the database was reached.
    ///
    /// # Errors
    /// `Conflict` when the spool is used by another writer of this process.
    pub(crate) fn late(config: WriterConfig) -> Result<(Self, Late)> {
        let writer = Self::with_sender(None, config.clamped());
        writer.require_claim()?;
        let late = Late(Arc::downgrade(&writer.inner.shared));
        Ok((writer, late))
    }
}

impl Late {
    /// Nobody has anything to send any more.
    pub(crate) fn is_over(&self) -> bool {
        self.0.strong_count() == 0
    }

    /// The database was reached; `sender` makes what sends to it, given a batch's deadline.
    pub(crate) fn reached(&self, sender: impl FnOnce(Duration) -> Sender) {
        if let Some(shared) = self.0.upgrade() {
            shared.connected(sender(shared.config.deadline));
        }
    }

    /// Somebody must do something before the database can be used: tells whoever asks, and waits a while.
    pub(crate) async fn wait_stuck(&self, error: &Error) {
        if let Some(shared) = self.0.upgrade() {
            shared.wait_stuck(ANY_TABLE, error).await;
        }
    }
}

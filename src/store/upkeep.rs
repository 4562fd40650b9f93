//! What long-running upkeep has in common.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};

use super::Store;
use crate::error::{Error, Result};
use crate::lease::Lease;

impl Store {
    /// A connection without a deadline: a refresh may take long, and holds no transaction that a
    /// deadline could end cleanly. Closed unless given back by [`done`].
    pub(super) async fn upkeep(&self) -> Result<Lease> {
        let mut lease = Lease::new(self.client().await?);
        lease.client().batch_execute("SET statement_timeout = 0").await.map_err(|e| Error::database("preparing for upkeep", e))?;
        Ok(lease)
    }
}

/// Gives a connection back as it was.
pub(super) async fn done(mut lease: Lease) -> Result<()> {
    lease.client().batch_execute("RESET statement_timeout").await.map_err(|e| Error::database("ending upkeep", e))?;
    lease.give_back();
    Ok(())
}

/// Tries again for about a minute while somebody else is at the same work, as a background job may be
/// (SQLSTATE 55P03).
pub(super) async fn when_free<T>(mut work: impl AsyncFnMut() -> Result<T>) -> Result<T> {
    let mut pauses = ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(100))
        .with_max_delay(Duration::from_secs(5))
        .with_max_times(16)
        .with_jitter()
        .build();
    loop {
        match work().await {
            Err(error) if error.sqlstate() == Some("55P03") => match pauses.next() {
                Some(pause) => tokio::time::sleep(pause).await,
                None => return Err(error),
            },
            other => return other,
        }
    }
}

//! What long-running upkeep has in common.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::Store;
use crate::error::{Error, Result};
use crate::lease::Lease;
use crate::pool::Object;

impl Store {
    /// A connection without a deadline: a refresh may take long, and commits in between, so that no
    /// transaction could hold the setting. Closed unless given back by [`done`]. Behind a pooler nothing
    /// holds from one transaction to the next, and the role's own `statement_timeout` stays in force.
    pub(super) async fn upkeep(&self) -> Result<Lease> {
        let mut lease = Lease::new(self.client().await?);
        if !lease.client().is_pooled() {
            lease.client().batch_execute("SET statement_timeout = 0").await.map_err(|e| Error::database("preparing for upkeep", e))?;
        }
        Ok(lease)
    }
}

/// Gives a connection back as it was.
pub(super) async fn done(mut lease: Lease) -> Result<()> {
    if !lease.client().is_pooled() {
        lease.client().batch_execute("RESET statement_timeout").await.map_err(|e| Error::database("ending upkeep", e))?;
    }
    lease.give_back();
    Ok(())
}

/// Runs a statement in a transaction of its own, under settings that end with it.
pub(super) async fn run_under(
    client: &mut Object,
    settings: &str,
    statement: &str,
    params: &[&(dyn ToSql + Sync)],
) -> Result<Vec<Row>, tokio_postgres::Error> {
    let tx = client.transaction().await?;
    tx.batch_execute(settings).await?;
    let rows = tx.query(statement, params).await?;
    tx.commit().await?;
    Ok(rows)
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

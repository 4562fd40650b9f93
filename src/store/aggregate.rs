//! How current the aggregates are, and bringing them up to date.

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::Store;
use super::upkeep::{done, when_free};
use crate::error::{Error, Result};

/// One line of `hitherto.aggregate_freshness`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Freshness {
    /// The view, or function, that people read.
    pub view_name: String,
    /// Rows before this are served as last refreshed; `None` when nothing is materialised.
    pub materialized_until: Option<DateTime<Utc>>,
    /// How far the newest row is past it, seconds.
    pub lag_seconds: f64,
    /// When touched ranges were last refreshed.
    pub last_refresh: Option<DateTime<Utc>>,
    /// Why the last refresh failed.
    pub last_error: Option<String>,
    /// Start of the rows that the aggregate does not show yet.
    pub stale_from: Option<DateTime<Utc>>,
    /// End of those rows.
    pub stale_until: Option<DateTime<Utc>>,
}

/// What a refresh of one aggregate came to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Refreshed {
    /// The view, or function, that people read.
    pub view_name: String,
    /// Ranges of time that were refreshed.
    pub ranges: i64,
    /// Why it failed; `None` when it did not.
    pub error: Option<String>,
}

impl Store {
    /// Every aggregate's freshness, by name.
    ///
    /// # Errors
    /// Whatever the database answers.
    pub async fn aggregate_freshness(&self) -> Result<Vec<Freshness>> {
        let doing = "reading hitherto.aggregate_freshness";
        let rows = self
            .asking()
            .await?
            .query(
                "-- aggregate_freshness
                 SELECT view_name, materialized_until, coalesce(extract(epoch FROM lag), 0)::float8,
                        last_refresh, last_error, stale_from, stale_until
                 FROM hitherto.aggregate_freshness ORDER BY view_name",
                &[],
            )
            .await
            .map_err(|e| Error::unanswered(doing, e))?;
        Ok(rows
            .iter()
            .map(|row| Freshness {
                view_name: row.get(0),
                materialized_until: row.get(1),
                lag_seconds: row.get(2),
                last_refresh: row.get(3),
                last_error: row.get(4),
                stale_from: row.get(5),
                stale_until: row.get(6),
            })
            .collect())
    }

    /// Refreshes, in every aggregate, the ranges that the ledger says were written since it was last
    /// refreshed, however old. An aggregate that fails is noted in its `last_error`; the others go on.
    /// One that somebody else refreshes just now is waited for.
    ///
    /// # Errors
    /// When the connection is lost. Failures of single aggregates are in the answer.
    pub async fn aggregate_refresh(&self) -> Result<Vec<Refreshed>> {
        let doing = "refreshing aggregates";
        let mut lease = self.upkeep().await?;
        let client = lease.client();
        let names = client
            .query(
                "-- aggregate_names
                 SELECT view_name, (SELECT count(*) FROM hitherto.aggregate_touched(view_name)) FROM hitherto.aggregate ORDER BY 1",
                &[],
            )
            .await
            .map_err(|e| Error::unanswered(doing, e))?;
        let mut refreshed = Vec::with_capacity(names.len());
        for row in names {
            let view_name: String = row.get(0);
            let refresh = async || {
                client.execute("CALL hitherto.aggregate_refresh($1)", &[&view_name]).await.map_err(|e| Error::unanswered(doing, e))
            };
            let error = match when_free(refresh).await {
                Ok(_) => None,
                Err(e) if e.sqlstate().is_some() => Some(e.to_string()),
                Err(e) => return Err(e),
            };
            if let Some(words) = &error {
                client
                    .execute("UPDATE hitherto.aggregate SET last_error = $2 WHERE view_name = $1", &[&view_name, words])
                    .await
                    .map_err(|e| Error::unanswered(doing, e))?;
            }
            refreshed.push(Refreshed { view_name, ranges: row.get(1), error });
        }
        done(lease).await?;
        Ok(refreshed)
    }
}

//! What the portfolio is worth.

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::Store;
use crate::error::{Error, Result};
use crate::records::Decimal;

/// The portfolio at one time.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PortfolioRow {
    /// When the snapshot was taken.
    pub taken_at: DateTime<Utc>,
    /// The snapshot's own id.
    pub snapshot_id: String,
    /// Cash.
    pub cash_balance: Decimal,
    /// Cash and positions.
    pub total_value: Decimal,
}

impl Store {
    /// The latest snapshots, newest first, `limit` at most.
    ///
    /// # Errors
    /// Whatever the database answers.
    pub async fn portfolio_latest(&self, limit: u32) -> Result<Vec<PortfolioRow>> {
        let rows = self
            .asking()
            .await?
            .query(
                "-- portfolio_latest
                 SELECT taken_at, snapshot_id, cash_balance, total_value FROM hitherto.portfolio_snapshot
                 ORDER BY taken_at DESC, snapshot_id DESC LIMIT $1",
                &[&i64::from(limit)],
            )
            .await
            .map_err(|e| Error::unanswered("reading portfolio snapshots", e))?;
        Ok(rows
            .iter()
            .map(|row| PortfolioRow { taken_at: row.get(0), snapshot_id: row.get(1), cash_balance: row.get(2), total_value: row.get(3) })
            .collect())
    }
}

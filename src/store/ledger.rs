//! What the ledger says.

use chrono::{DateTime, Utc};
use serde::Serialize;
use uuid::Uuid;

use super::Store;
use crate::error::{Error, Result};

const BATCHES_KNOWN: &str = "-- batches_known
    SELECT batch_id FROM hitherto.batches_between($1, $2) AS b (batch_id)
    UNION ALL SELECT batch_id FROM hitherto.batches_known($3) AS k (batch_id)";

/// What the ledger holds for one table.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LedgerTotal {
    /// The table.
    pub table_name: String,
    /// Batches.
    pub batches: i64,
    /// Rows stored by them.
    pub rows: i64,
    /// Rows of them that went to quarantine.
    pub quarantined: i64,
    /// Of those, the ones that are neither stored nor dropped yet.
    pub unresolved: i64,
    /// Earliest row.
    pub min_time: Option<DateTime<Utc>>,
    /// Latest row.
    pub max_time: Option<DateTime<Utc>>,
    /// When the latest batch came.
    pub last_committed_at: Option<DateTime<Utc>>,
}

impl Store {
    /// What the ledger holds, by table.
    ///
    /// # Errors
    /// Whatever the database answers.
    pub async fn ledger_totals(&self) -> Result<Vec<LedgerTotal>> {
        let rows = self
            .asking()
            .await?
            .query(
                "-- ledger_totals
                 SELECT table_name, coalesce(b.batches, 0), coalesce(b.rows, 0)::bigint, coalesce(q.quarantined, 0), b.min_time, b.max_time, b.last_committed_at, coalesce(q.unresolved, 0)
                 FROM (SELECT table_name, count(*) AS batches, sum(row_count) AS rows, min(min_time) AS min_time,
                              max(max_time) AS max_time, max(committed_at) AS last_committed_at
                       FROM hitherto.ingest_batch GROUP BY table_name) b
                 FULL JOIN (SELECT q.table_name, count(*) AS quarantined, count(*) FILTER (WHERE r.quarantine_id IS NULL) AS unresolved
                            FROM hitherto.quarantine q LEFT JOIN hitherto.quarantine_resolution r USING (quarantine_id) GROUP BY q.table_name) q USING (table_name)
                 ORDER BY table_name",
                &[],
            )
            .await
            .map_err(|e| Error::unanswered("reading the ledger", e))?;
        Ok(rows
            .iter()
            .map(|row| LedgerTotal {
                table_name: row.get(0),
                batches: row.get(1),
                rows: row.get(2),
                quarantined: row.get(3),
                unresolved: row.get(7),
                min_time: row.get(4),
                max_time: row.get(5),
                last_committed_at: row.get(6),
            })
            .collect())
    }

    /// Ids of batches in the ledger: those from one id to another, and those of a list.
    ///
    /// # Errors
    /// Whatever the database answers.
    pub async fn batches_known(&self, (from, to): (Uuid, Uuid), others: &[Uuid]) -> Result<Vec<Uuid>> {
        let rows = self
            .asking()
            .await?
            .query_prepared(BATCHES_KNOWN, &[&from, &to, &others])
            .await
            .map_err(|e| Error::unanswered("looking batches up in the ledger", e))?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }
}

//! What upkeep would do now.

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::Store;
use crate::engine::Engine;
use crate::error::{Error, Result};

/// A range of time that [`Store::maintain`] or [`Store::aggregate_refresh`] would work on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Due {
    /// `refresh`, `columnstore` or `retention`.
    pub policy: String,
    /// The table; for `refresh` the aggregate.
    pub name: String,
    /// Start of the range: of a chunk on TimescaleDB, of a day on plain PostgreSQL.
    pub range_start: DateTime<Utc>,
    /// End of the range, itself not included.
    pub range_end: DateTime<Utc>,
    /// Rows that would go; `None` for chunks, which are not counted.
    pub rows: Option<i64>,
}

const REFRESH_DUE: &str = "-- refresh_due
SELECT 'refresh', a.view_name, t.touched_from, t.touched_until, NULL::bigint
FROM hitherto.aggregate a CROSS JOIN LATERAL hitherto.aggregate_touched(a.view_name) t ORDER BY 2, 3";

/// What retention drops does not go to the columnstore first.
const CHUNKS_DUE: &str = "-- chunks_due
SELECT 'columnstore', c.hypertable_name::text, c.range_start, c.range_end, NULL::bigint
FROM timescaledb_information.chunks c JOIN hitherto.upkeep_policy p ON p.table_name = c.hypertable_name
WHERE c.hypertable_schema = 'hitherto' AND NOT c.is_compressed AND c.range_end <= now() - p.columnstore_after
  AND (p.drop_after IS NULL OR c.range_end > now() - p.drop_after)
UNION ALL
SELECT 'retention', p.table_name, d.range_start, d.range_end, NULL
FROM hitherto.upkeep_policy p CROSS JOIN LATERAL hitherto.retention_due(p.table_name) d ORDER BY 1, 2, 3";

const ROWS_DUE: &str = "-- rows_due
SELECT 'retention', p.table_name, d.range_start, d.range_end, d.row_count
FROM hitherto.upkeep_policy p CROSS JOIN LATERAL hitherto.retention_due(p.table_name) d ORDER BY 2, 3";

impl Store {
    /// What [`Store::aggregate_refresh`] and [`Store::maintain`] would do now. Changes nothing.
    ///
    /// # Errors
    /// Whatever the database answers.
    pub async fn maintain_preview(&self) -> Result<Vec<Due>> {
        let trim = match self.capabilities().engine {
            Engine::Timescaledb => CHUNKS_DUE,
            Engine::Postgresql => ROWS_DUE,
        };
        let doing = "looking what is due";
        let mut client = self.asking().await?;
        let mut due = Vec::new();
        for query in [REFRESH_DUE, trim] {
            let rows = client.query(query, &[]).await.map_err(|e| Error::unanswered(doing, e))?;
            due.extend(rows.iter().map(|row| Due {
                policy: row.get(0),
                name: row.get(1),
                range_start: row.get(2),
                range_end: row.get(3),
                rows: row.get(4),
            }));
        }
        Ok(due)
    }
}

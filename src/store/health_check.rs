//! How modules said they were.

use super::{Store, json};
use crate::error::{Error, Result};
use crate::records::HealthCheck;

impl Store {
    /// A module's latest health checks, newest first, `limit` at most.
    ///
    /// # Errors
    /// Whatever the database answers.
    pub async fn health_check_latest(&self, module: &str, limit: u32) -> Result<Vec<HealthCheck>> {
        let rows = self
            .asking()
            .await?
            .query(
                "-- health_check_latest
                 SELECT h.checked_at, h.status, h.response_time_ms, h.error_count, h.memory_usage_mb, h.cpu_usage_percent, h.details::text
                 FROM hitherto.health_check h WHERE h.module_id = (SELECT m.module_id FROM hitherto.module m WHERE m.name = $1)
                 ORDER BY h.checked_at DESC, h.status COLLATE \"C\" LIMIT $2",
                &[&module, &i64::from(limit)],
            )
            .await
            .map_err(|e| Error::unanswered("reading health checks", e))?;
        rows.iter()
            .map(|row| {
                let mut check = HealthCheck::new(module, row.get::<_, String>(1)).at(row.get(0));
                check.response_time_ms = row.get(2);
                check.error_count = row.get(3);
                check.memory_usage_mb = row.get(4);
                check.cpu_usage_percent = row.get(5);
                check.details = json("reading a health check's details", row.get(6))?;
                Ok(check)
            })
            .collect()
    }
}

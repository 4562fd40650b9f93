//! Proposals and what came of them.

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::{Store, json};
use crate::error::{Error, Result};
use crate::records::Json;

/// A row of `hitherto.decision_trail`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TrailStep {
    /// Its place among the proposal's steps, from 1.
    pub step_number: i64,
    /// When the step was made.
    pub step_at: DateTime<Utc>,
    /// Seconds since the step before; `None` at the first.
    pub gap_seconds: Option<f64>,
    /// `signal` (`signal_missing`: named but not stored), `regime`, `proposed`, `risk`, `order`, `fill` or
    /// another order event, `anomaly`.
    pub step: String,
    /// Module, broker or person that made it.
    pub actor: Option<String>,
    /// The step in a few words.
    pub summary: String,
    /// Regime in force at that time.
    pub regime: Option<String>,
    /// Order that the step belongs to.
    pub order_id: Option<String>,
    /// The step in full.
    pub details: Option<Json>,
}

impl Store {
    /// Every step of a proposal, in order of time; empty for an unknown one.
    ///
    /// # Errors
    /// Whatever the database answers.
    pub async fn decision_trail(&self, proposal_id: &str) -> Result<Vec<TrailStep>> {
        let doing = "reading hitherto.decision_trail";
        let rows = self
            .asking()
            .await?
            .query(
                "-- decision_trail
                 SELECT step_number, step_at, extract(epoch FROM gap)::float8, step, actor, summary, regime, order_id, details::text
                 FROM hitherto.decision_trail WHERE proposal_id = $1 ORDER BY step_number",
                &[&proposal_id],
            )
            .await
            .map_err(|e| Error::unanswered(doing, e))?;
        rows.iter()
            .map(|row| {
                Ok(TrailStep {
                    step_number: row.get(0),
                    step_at: row.get(1),
                    gap_seconds: row.get(2),
                    step: row.get(3),
                    actor: row.get(4),
                    summary: row.get(5),
                    regime: row.get(6),
                    order_id: row.get(7),
                    details: json(doing, row.get(8))?,
                })
            })
            .collect()
    }
}

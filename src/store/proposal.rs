//! Proposals and what came of them.

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::Store;
use crate::error::{Error, Result};

/// A row of `hitherto.decision_trail`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TrailStep {
    /// When the step was made.
    pub step_at: DateTime<Utc>,
    /// `signal`, `proposed`, `risk`, `order`, `fill`, or another order event.
    pub step: String,
    /// Module or broker that made it.
    pub actor: Option<String>,
    /// The step in a few words.
    pub summary: String,
}

impl Store {
    /// Every step of a proposal, in order of time; empty for an unknown one.
    ///
    /// # Errors
    /// Whatever the database answers.
    pub async fn decision_trail(&self, proposal_id: &str) -> Result<Vec<TrailStep>> {
        let rows = self
            .client()
            .await?
            .query(
                "-- decision_trail
                 SELECT step_at, step, actor, summary FROM hitherto.decision_trail WHERE proposal_id = $1
                 ORDER BY step_at, array_position(ARRAY['signal', 'proposed', 'risk', 'order', 'fill'], step) NULLS LAST, step",
                &[&proposal_id],
            )
            .await
            .map_err(|e| Error::database("reading hitherto.decision_trail", e))?;
        Ok(rows.iter().map(|row| TrailStep { step_at: row.get(0), step: row.get(1), actor: row.get(2), summary: row.get(3) }).collect())
    }
}

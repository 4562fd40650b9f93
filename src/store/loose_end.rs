//! What records name and nobody has written. No foreign key refuses it: it is stored, and found here.

use serde::Serialize;

use super::Store;
use crate::error::{Error, Result};

/// References that lead nowhere, of one kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LooseEnd {
    /// Table whose records name something.
    pub table_name: String,
    /// What they name: `proposal` or `signal`.
    pub names: String,
    /// How many of the last week's do.
    pub count: i64,
    /// The newest of them, three at most: what is named, as the record has it.
    pub newest: Vec<String>,
}

/// The last week's, counted back from the newest record, so that each query reads a short range of an
/// index or a few chunks, however much there is. Writers of different modules commit apart: what is
/// younger than a minute may still come together.
const LOOSE_ENDS: &str = "-- loose_ends
WITH evaluation AS (
    SELECT r.proposal_id AS id, r.evaluated_at AS at FROM hitherto.risk_evaluation r
    WHERE r.evaluated_at > (SELECT coalesce(max(b.max_time), now()) - INTERVAL '7 days' FROM hitherto.ingest_batch b WHERE b.table_name = 'risk_evaluation')
      AND r.evaluated_at < now() - INTERVAL '1 minute' AND NOT EXISTS (SELECT FROM hitherto.proposal p WHERE p.proposal_id = r.proposal_id)
), ordered AS (
    SELECT o.proposal_id AS id, o.first_event_at AS at FROM hitherto.execution_report o
    WHERE o.first_event_at > (SELECT max(first_event_at) - INTERVAL '7 days' FROM hitherto.execution_report)
      AND o.first_event_at < now() - INTERVAL '1 minute' AND o.proposal_id IS NOT NULL
      AND NOT EXISTS (SELECT FROM hitherto.proposal p WHERE p.proposal_id = o.proposal_id)
), named AS (
    -- Signals that retention has dropped are not missed.
    SELECT n.id, p.proposed_at AS at
    FROM hitherto.proposal p
    CROSS JOIN LATERAL jsonb_array_elements_text(CASE jsonb_typeof(p.payload -> 'signal_ids') WHEN 'array' THEN p.payload -> 'signal_ids' ELSE '[]' END) AS n (id)
    WHERE p.proposed_at > greatest((SELECT max(proposed_at) - INTERVAL '7 days' FROM hitherto.proposal),
                                   (SELECT dropped_before + INTERVAL '1 day' FROM hitherto.retention_horizon WHERE table_name = 'signal'))
      AND p.proposed_at < now() - INTERVAL '1 minute'
      AND NOT EXISTS (SELECT FROM hitherto.signal s WHERE s.signal_id = n.id COLLATE \"C\")
), missing AS (
    SELECT 'risk_evaluation' AS table_name, 'proposal' AS names, id, at FROM evaluation
    UNION ALL SELECT 'execution_report', 'proposal', id, at FROM ordered
    UNION ALL SELECT 'proposal', 'signal', id, at FROM named
)
SELECT table_name, names, count(*), (array_agg(id::text ORDER BY at DESC, id))[1:3] FROM missing GROUP BY 1, 2 ORDER BY 1";

impl Store {
    /// The last week's risk evaluations and orders of proposals that nobody has written, and signals that
    /// proposals name and nobody has written.
    ///
    /// # Errors
    /// Whatever the database answers.
    pub async fn loose_ends(&self) -> Result<Vec<LooseEnd>> {
        let rows = self.asking().await?.query(LOOSE_ENDS, &[]).await.map_err(|e| Error::unanswered("looking for loose ends", e))?;
        Ok(rows.iter().map(|row| LooseEnd { table_name: row.get(0), names: row.get(1), count: row.get(2), newest: row.get(3) }).collect())
    }
}

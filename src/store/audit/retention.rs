//! What retention may have dropped, going by what was sealed of its settings.

use std::collections::HashMap;

use chrono::{DateTime, TimeDelta, Utc};
use deadpool_postgres::Transaction;

use super::verify::Audit;
use crate::Engine;
use crate::error::{Error, Result};

/// How far retention is known to have come.
pub(super) struct Dropped {
    /// Up to when rows of a table may be gone.
    pub(super) before: HashMap<String, DateTime<Utc>>,
    /// How much of the time before that retention may still be at work on.
    pub(super) amid: TimeDelta,
}

/// A claim that is sealed counts as far as a policy allows that is sealed with it or was before, each for
/// as long as it held; one that is newer, as far as the last block's policy allows: whoever drops rows by
/// hand and claims that retention did it has to let a change of policy be sealed, and it is told.
pub(super) async fn dropped(tx: &Transaction<'_>, engine: Engine, audit: &mut Audit) -> Result<Dropped> {
    let mut before = HashMap::new();
    sealed(tx, &mut before, audit).await?;
    unsealed(tx, &mut before).await?;
    noted(tx, audit).await?;
    // Plain PostgreSQL notes a day and deletes its rows after that, some at a time.
    let amid = if engine == Engine::Postgresql { TimeDelta::days(1) } else { TimeDelta::zero() };
    Ok(Dropped { before, amid })
}

/// The policies that were noted, in order: the block that each is sealed in, and until when it held.
macro_rules! policies {
    () => {
        "policy AS (
             SELECT r.table_name, r.drop_after, r.event_at AS since, e.block_number,
                    lead(r.event_at, 1, 'infinity') OVER (PARTITION BY r.table_name ORDER BY r.event_number) AS until
             FROM hitherto.retention_event r LEFT JOIN hitherto.audit_entry e ON e.source = 'retention_event' AND e.key = r.event_number::text
         )"
    };
}

async fn sealed(tx: &Transaction<'_>, dropped: &mut HashMap<String, DateTime<Utc>>, audit: &mut Audit) -> Result<()> {
    let rows = tx
        .query(
            concat!(
                "-- audit_retention_sealed
                 WITH ",
                policies!(),
                "
                 SELECT b.block_number, r.table_name, (r.now ->> 'dropped_before')::timestamptz,
                        greatest(b.sealed_at - (r.now ->> 'drop_after')::interval, b.sealed_at - (r.before ->> 'drop_after')::interval,
                                 (SELECT max(least(n.until, b.sealed_at) - n.drop_after) FROM policy n
                                  WHERE n.table_name = r.table_name AND n.block_number <= b.block_number)),
                        coalesce(justify_hours((r.now ->> 'drop_after')::interval)::text, 'ever'),
                        coalesce(justify_hours((r.before ->> 'drop_after')::interval)::text, 'ever'), p.block_number IS NULL
                 FROM hitherto.audit_block b LEFT JOIN hitherto.audit_block p ON p.block_number = b.block_number - 1,
                      LATERAL (SELECT k AS table_name, b.retention -> k AS now, p.retention -> k AS before
                               FROM jsonb_object_keys(b.retention || coalesce(p.retention, '{}')) AS k) r
                 ORDER BY b.block_number, r.table_name"
            ),
            &[],
        )
        .await
        .map_err(error)?;
    for row in &rows {
        let (block, table): (i64, String) = (row.get(0), row.get(1));
        let (claimed, allowed): (Option<DateTime<Utc>>, Option<DateTime<Utc>>) = (row.get(2), row.get(3));
        let (policy, before, first): (&str, &str, bool) = (row.get(4), row.get(5), row.get(6));
        if !first && policy != before {
            audit.notes.push(format!("block {block}: {table} is kept for {policy} since, for {before} before"));
        }
        let believed = dropped.get(&table).copied();
        let Some(claimed) = claimed.filter(|claimed| believed.is_none_or(|b| *claimed > b)) else { continue };
        if first || allowed.is_some_and(|allowed| claimed <= allowed) {
            dropped.insert(table, claimed);
            continue;
        }
        audit.find(
            Some(block),
            None,
            "retention_horizon",
            format!("says that {table} was dropped before {claimed}, which no sealed policy allows"),
        );
        dropped.extend(allowed.filter(|allowed| believed.is_none_or(|b| *allowed > b)).map(|allowed| (table, allowed)));
    }
    Ok(())
}

async fn unsealed(tx: &Transaction<'_>, dropped: &mut HashMap<String, DateTime<Utc>>) -> Result<()> {
    let rows = tx
        .query(
            "-- audit_retention_unsealed
             SELECT h.table_name, CASE WHEN b.retention IS NULL THEN h.dropped_before WHEN p.drop_after IS NOT NULL
                                       THEN least(h.dropped_before, now() - p.drop_after) END
             FROM hitherto.retention_horizon h
             LEFT JOIN LATERAL (SELECT retention FROM hitherto.audit_block ORDER BY block_number DESC LIMIT 1) b ON true
             LEFT JOIN LATERAL (SELECT (b.retention -> h.table_name ->> 'drop_after')::interval AS drop_after) p ON true",
            &[],
        )
        .await
        .map_err(error)?;
    for row in &rows {
        let (table, claimed): (String, Option<DateTime<Utc>>) = (row.get(0), row.get(1));
        let Some(claimed) = claimed else { continue };
        let believed = dropped.entry(table).or_insert(claimed);
        *believed = claimed.max(*believed);
    }
    Ok(())
}

/// Tells of policies that were replaced before the block that they are sealed in: no block shows them.
async fn noted(tx: &Transaction<'_>, audit: &mut Audit) -> Result<()> {
    let rows = tx
        .query(
            concat!(
                "-- audit_retention_noted
                 WITH ",
                policies!(),
                "
                 SELECT format('block %s: %s was kept for %s from %s to %s', n.block_number, n.table_name,
                               coalesce(justify_hours(n.drop_after)::text, 'ever'), n.since, n.until)
                 FROM policy n JOIN hitherto.audit_block b USING (block_number)
                 WHERE b.block_number > 1 AND n.drop_after IS DISTINCT FROM (b.retention -> n.table_name ->> 'drop_after')::interval
                 ORDER BY n.block_number, n.since, n.table_name"
            ),
            &[],
        )
        .await
        .map_err(error)?;
    audit.notes.extend(rows.iter().map(|row| row.get::<_, String>(0)));
    Ok(())
}

fn error(error: tokio_postgres::Error) -> Error {
    Error::database("reading what retention has noted", error)
}

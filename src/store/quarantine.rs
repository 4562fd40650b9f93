//! Records that could not be stored: shown, tried again, given up.
//!
//! `hitherto.quarantine` is append-only. What became of a row stands in `hitherto.quarantine_resolution`; a row
//! without a line there waits.

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::future::BoxFuture;
use serde::Serialize;
use tokio_postgres::Row;
use uuid::Uuid;

use super::Store;
use crate::error::{Error, ErrorKind, Result};
use crate::records::{Limits, Record, WithRecord, with_record_of};
use crate::writer::Batch;

/// A row of `hitherto.quarantine`, with what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Quarantined {
    /// Its number.
    pub quarantine_id: i64,
    /// The table that it was for.
    pub table_name: String,
    /// Who sent it.
    pub producer: String,
    /// The batch that it came with.
    pub batch_id: Uuid,
    /// The record as it was sent: JSON.
    pub record: String,
    /// The database's code for the reason.
    pub sqlstate: String,
    /// Why it was refused.
    pub reason: String,
    /// When.
    pub quarantined_at: DateTime<Utc>,
    /// What became of it; none while it waits.
    pub resolution: Option<Resolution>,
}

/// A row of `hitherto.quarantine_resolution`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Resolution {
    /// `stored` or `dropped`.
    pub resolution: String,
    /// The batch that it was stored under.
    pub batch_id: Option<Uuid>,
    /// Who did it.
    pub resolved_by: String,
    /// Why it was dropped, or what was corrected.
    pub reason: Option<String>,
    /// When.
    pub resolved_at: DateTime<Utc>,
}

/// Which rows of quarantine.
#[derive(Debug, Clone, Default)]
pub struct QuarantineFilter {
    /// Those of this table alone.
    pub table_name: Option<String>,
    /// Those that are resolved, too.
    pub resolved: bool,
    /// The first so many, oldest first.
    pub limit: Option<i64>,
}

/// What came of an attempt to resolve.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Resolved {
    /// The row's number.
    pub quarantine_id: i64,
    /// What came of it.
    pub outcome: ResolveOutcome,
    /// Why it was refused again, or what there is to know.
    pub reason: Option<String>,
    /// The batch that it is stored under.
    pub batch_id: Option<Uuid>,
}

/// What came of an attempt to resolve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ResolveOutcome {
    /// It is stored.
    Stored,
    /// It was refused again, and waits as before.
    Refused,
    /// It was given up.
    Dropped,
    /// It was resolved before: nothing was done.
    Already,
}

macro_rules! columns {
    () => {
        "q.quarantine_id, q.table_name, q.producer, q.batch_id, q.record, q.sqlstate, q.reason, q.quarantined_at,
         r.resolution, r.batch_id, r.resolved_by, r.reason, r.resolved_at
         FROM hitherto.quarantine q LEFT JOIN hitherto.quarantine_resolution r USING (quarantine_id)"
    };
}

/// Derives batches' ids from rows' numbers.
const NAMESPACE: Uuid = Uuid::from_u128(0x8f1d_3a52_9c0e_4b7a_a1c6_5e2f_7d94_0b38);

/// The batch that a row is stored under when it is tried again: the same at every try, so that it is stored once.
fn retry_batch(quarantine_id: i64) -> Uuid {
    Uuid::new_v5(&NAMESPACE, &quarantine_id.to_be_bytes())
}

/// A row that is tried again.
struct Retry<'a> {
    store: &'a Store,
    batch_id: Uuid,
    row: &'a Quarantined,
    record: &'a str,
}

impl<'a> WithRecord for Retry<'a> {
    type Output = BoxFuture<'a, Result<()>>;

    fn with<R: Record>(self) -> Self::Output {
        Box::pin(async move {
            let mut parsed: R = serde_json::from_str(self.record)
                .map_err(|e| Error::new(ErrorKind::Invalid, format!("the text is no {} record: {e}", self.row.table_name)))?;
            // So it was written before a field that is none was left out, and so people write it.
            parsed.nulls_are_none();
            // It may be old by now; what else its writer allowed is not known here.
            let limits = Limits { oldest: TimeDelta::days(365 * 200), ..Limits::default() };
            parsed.validate(&limits, Utc::now())?;
            let batch = Batch::derived(self.batch_id, self.row.producer.clone(), vec![parsed]).or_nothing();
            self.store.batch_store(&batch).await.map(|_| ())
        })
    }
}

impl Store {
    /// Rows of quarantine, oldest first.
    ///
    /// # Errors
    /// Whatever the database answers.
    pub async fn quarantine_list(&self, filter: &QuarantineFilter) -> Result<Vec<Quarantined>> {
        let rows = self
            .asking()
            .await?
            .query(
                concat!(
                    "-- quarantine_list\nSELECT ",
                    columns!(),
                    " WHERE ($1::text IS NULL OR q.table_name = $1) AND ($2::boolean OR r.resolution IS NULL) ORDER BY q.quarantine_id LIMIT $3::bigint"
                ),
                &[&filter.table_name, &filter.resolved, &filter.limit],
            )
            .await
            .map_err(|e| Error::unanswered("reading hitherto.quarantine", e))?;
        Ok(rows.iter().map(quarantined).collect())
    }

    /// A row of quarantine.
    ///
    /// # Errors
    /// `NotFound` for a number that no row has.
    pub async fn quarantine_get(&self, quarantine_id: i64) -> Result<Quarantined> {
        let row = self
            .asking()
            .await?
            .query_opt(concat!("-- quarantine_get\nSELECT ", columns!(), " WHERE q.quarantine_id = $1"), &[&quarantine_id])
            .await
            .map_err(|e| Error::unanswered("reading hitherto.quarantine", e))?;
        row.as_ref().map(quarantined).ok_or_else(|| {
            Error::new(
                ErrorKind::NotFound,
                format!("there is no row {quarantine_id} in quarantine; hitherto quarantine list shows those that there are"),
            )
        })
    }

    /// Tries to store a row of quarantine, or the corrected record given for it. It goes in as any batch of one,
    /// under an id that is derived from the row's number: however often this is done, interrupted or done twice at once,
    /// it is stored once. Refused again, it stays as it was, and the reason is told.
    ///
    /// # Errors
    /// `NotFound` for a number that no row has; what kept the database from answering.
    pub async fn quarantine_retry(&self, quarantine_id: i64, corrected: Option<&str>, by: Option<&str>) -> Result<Resolved> {
        let row = self.quarantine_get(quarantine_id).await?;
        if let Some(resolution) = &row.resolution {
            return Ok(already(quarantine_id, resolution));
        }
        let batch_id = retry_batch(quarantine_id);
        // An earlier try may have been cut off once it was stored. Of a corrected record the batch's digest tells whether
        // it is what was stored.
        if corrected.is_some() || !self.batch_known(batch_id).await? {
            let record = corrected.unwrap_or(&row.record);
            let attempt = Retry { store: self, batch_id, row: &row, record };
            let stored = match with_record_of(&row.table_name, attempt) {
                Some(retried) => retried.await,
                None => Err(Error::new(
                    ErrorKind::Invalid,
                    format!(
                        "'{}' is no table of records: whatever put it into quarantine tries it again, or it can be dropped",
                        row.table_name
                    ),
                )),
            };
            if let Err(error) = stored {
                if !is_about_the_record(&error) {
                    return Err(error);
                }
                let reason = Some(error.to_string());
                return Ok(Resolved { quarantine_id, outcome: ResolveOutcome::Refused, reason, batch_id: None });
            }
        }
        let note = corrected.map(|_| "stored as corrected");
        self.resolve(quarantine_id, "stored", Some(batch_id), by, note).await
    }

    /// Gives a row of quarantine up. It stays where it is, and is counted no more among those that wait.
    ///
    /// # Errors
    /// `NotFound` for a number that no row has, `Invalid` without a reason.
    pub async fn quarantine_drop(&self, quarantine_id: i64, by: Option<&str>, reason: &str) -> Result<Resolved> {
        if reason.trim().is_empty() {
            return Err(Error::new(ErrorKind::Invalid, "a row is dropped for a reason; say which"));
        }
        let row = self.quarantine_get(quarantine_id).await?;
        if let Some(resolution) = &row.resolution {
            return Ok(already(quarantine_id, resolution));
        }
        let batch_id = retry_batch(quarantine_id);
        if self.batch_known(batch_id).await? {
            let stored = self.resolve(quarantine_id, "stored", Some(batch_id), by, None).await?;
            return Ok(Resolved { reason: Some("an earlier retry has stored it: it can't be dropped".to_owned()), ..stored });
        }
        self.resolve(quarantine_id, "dropped", None, by, Some(reason)).await
    }

    async fn resolve(
        &self,
        quarantine_id: i64,
        resolution: &str,
        batch_id: Option<Uuid>,
        by: Option<&str>,
        reason: Option<&str>,
    ) -> Result<Resolved> {
        let doing = "noting what became of a row in quarantine";
        let noted = self
            .asking()
            .await?
            .execute(
                "-- quarantine_resolve
                 INSERT INTO hitherto.quarantine_resolution (quarantine_id, resolution, batch_id, resolved_by, reason)
                 VALUES ($1, $2, $3, coalesce($4::text, session_user), $5) ON CONFLICT DO NOTHING",
                &[&quarantine_id, &resolution, &batch_id, &by, &reason],
            )
            .await
            .map_err(|e| Error::unanswered(doing, e))?;
        // Somebody else was at it at once: what they noted stands.
        if noted == 0
            && let Some(stands) = self.quarantine_get(quarantine_id).await?.resolution
            && stands.resolution != resolution
        {
            return Ok(already(quarantine_id, &stands));
        }
        let outcome = if resolution == "stored" { ResolveOutcome::Stored } else { ResolveOutcome::Dropped };
        Ok(Resolved { quarantine_id, outcome, reason: reason.map(str::to_owned), batch_id })
    }

    async fn batch_known(&self, batch_id: Uuid) -> Result<bool> {
        let row = self
            .asking()
            .await?
            .query_opt("-- batch_known\nSELECT 1 FROM hitherto.batch_find($1)", &[&batch_id])
            .await
            .map_err(|e| Error::unanswered("looking a batch up in the ledger", e))?;
        Ok(row.is_some())
    }
}

/// The record is to blame, or what stands where it would go: other rows may fare better.
fn is_about_the_record(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Invalid | ErrorKind::Conflict) || error.is_data() || error.sqlstate() == Some("55000")
}

fn already(quarantine_id: i64, resolution: &Resolution) -> Resolved {
    let Resolution { resolution, batch_id, resolved_by, resolved_at, reason } = resolution;
    let why = reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
    Resolved {
        quarantine_id,
        outcome: ResolveOutcome::Already,
        reason: Some(format!("{resolution} by {resolved_by} at {}{why}", resolved_at.format("%Y-%m-%d %H:%M:%S UTC"))),
        batch_id: *batch_id,
    }
}

fn quarantined(row: &Row) -> Quarantined {
    let resolution: Option<String> = row.get(8);
    Quarantined {
        quarantine_id: row.get(0),
        table_name: row.get(1),
        producer: row.get(2),
        batch_id: row.get(3),
        record: row.get(4),
        sqlstate: row.get(5),
        reason: row.get(6),
        quarantined_at: row.get(7),
        resolution: resolution.map(|resolution| Resolution {
            resolution,
            batch_id: row.get(9),
            resolved_by: row.get(10),
            reason: row.get(11),
            resolved_at: row.get(12),
        }),
    }
}

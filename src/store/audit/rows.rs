//! Rows against the ledger.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use deadpool_postgres::Transaction;
use uuid::Uuid;

use super::retention::Dropped;
use super::tuple::Tuples;
use super::verify::Audit;
use crate::error::{Error, Result};
use crate::records::{Kind, Record};
use crate::writer::{COPY_FORM, RowDigest, rows_digest};

/// A batch, as its ledger line has it and as far as its rows have been read.
struct Batch {
    block: Option<i64>,
    row_count: u64,
    digest: Vec<u8>,
    digest_form: i16,
    min_time: Option<DateTime<Utc>>,
    max_time: Option<DateTime<Utc>>,
    seen: u64,
    /// Earliest and latest time of the rows read so far.
    first: DateTime<Utc>,
    last: DateTime<Utc>,
    /// Of the rows read so far; let go once they are all there.
    rows: Vec<RowDigest>,
    differs: bool,
}

/// How far retention came with a table.
#[derive(Clone, Copy)]
struct Horizon {
    /// Rows with an earlier time may be gone,
    before: DateTime<Utc>,
    /// and those with a time before this one are.
    all_before: DateTime<Utc>,
}

/// Reads a table once and compares each batch's rows with its line.
pub(super) async fn compare<R: Record>(tx: &Transaction<'_>, dropped: &Dropped, audit: &mut Audit) -> Result<()> {
    let mut batches = lines(tx, R::TABLE).await?;
    let mut strangers: HashMap<Option<Uuid>, u64> = HashMap::new();
    let mut tuples = Tuples::of(tx, &copy::<R>(), "reading rows").await?;
    while let Some(mut tuple) = tuples.next().await? {
        audit.rows += 1;
        let id = tuple.take().and_then(|id| Uuid::from_slice(&id).ok());
        let time = tuple.take_time();
        match id.and_then(|id| batches.get_mut(&id)) {
            Some(batch) => batch.add(time, tuple.digest()),
            None => *strangers.entry(id).or_default() += 1,
        }
    }
    for (id, count) in strangers {
        audit.find(None, id, R::TABLE, format!("{count} rows are of a batch that is not in the ledger"));
    }
    let horizon = dropped.before.get(R::TABLE).map(|before| Horizon { before: *before, all_before: *before - dropped.amid });
    for (id, batch) in batches {
        audit.unsealed_batches += u64::from(batch.block.is_none());
        batch.conclude(id, R::TABLE, horizon, audit);
    }
    Ok(())
}

/// Counts the ledger lines of tables whose rows change.
pub(super) async fn others(tx: &Transaction<'_>, audit: &mut Audit) -> Result<()> {
    let row = tx
        .query_one(
            "-- audit_other_lines
             SELECT count(*), count(*) FILTER (WHERE NOT EXISTS (SELECT FROM hitherto.audit_entry e
                                                                 WHERE e.source = 'ingest_batch' AND e.key = b.batch_id::text))
             FROM hitherto.ingest_batch b
             WHERE table_name NOT IN ('module_execution', 'health_check', 'signal', 'proposal', 'risk_evaluation', 'order_event', 'portfolio_snapshot')",
            &[],
        )
        .await
        .map_err(|e| Error::database("reading the ledger", e))?;
    let count = |at: usize| u64::try_from(row.get::<_, i64>(at)).unwrap_or_default();
    audit.other_batches = count(0);
    audit.unsealed_batches += count(1);
    Ok(())
}

/// The batch's id, the row's time, then the canonical bytes' fields.
fn copy<R: Record>() -> String {
    let columns: Vec<String> =
        R::COLUMNS.iter().map(|c| if c.kind == Kind::Jsonb { format!("{}::text", c.name) } else { c.name.to_owned() }).collect();
    // A record's first time is its own.
    let time = R::COLUMNS.iter().find(|c| c.kind == Kind::Timestamptz).map_or("NULL::timestamptz", |c| c.name);
    format!("COPY (SELECT batch_id, {time}, {} FROM hitherto.{}) TO STDOUT (FORMAT binary)", columns.join(", "), R::TABLE)
}

async fn lines(tx: &Transaction<'_>, table: &str) -> Result<HashMap<Uuid, Batch>> {
    let rows = tx
        .query(
            "-- audit_lines
             SELECT b.batch_id, e.block_number, b.row_count, coalesce(b.rows_digest, b.digest), b.digest_form, b.min_time, b.max_time
             FROM hitherto.ingest_batch b LEFT JOIN hitherto.audit_entry e ON e.source = 'ingest_batch' AND e.key = b.batch_id::text
             WHERE b.table_name = $1",
            &[&table],
        )
        .await
        .map_err(|e| Error::database("reading the ledger", e))?;
    let batch = |row: &tokio_postgres::Row| Batch {
        block: row.get(1),
        row_count: u64::try_from(row.get::<_, i64>(2)).unwrap_or_default(),
        digest: row.get(3),
        digest_form: row.get(4),
        min_time: row.get(5),
        max_time: row.get(6),
        seen: 0,
        first: DateTime::<Utc>::MAX_UTC,
        last: DateTime::<Utc>::MIN_UTC,
        rows: Vec::new(),
        differs: false,
    };
    // A batch without rows is compared at once: it has none to wait for.
    Ok(rows.iter().map(|row| (row.get(0), batch(row).compared())).collect())
}

impl Batch {
    fn add(&mut self, time: DateTime<Utc>, row: RowDigest) {
        self.seen += 1;
        (self.first, self.last) = (self.first.min(time), self.last.max(time));
        if self.digest_form != COPY_FORM && self.seen <= self.row_count {
            self.rows.push(row);
        }
        if self.seen == self.row_count {
            self.compare();
        }
    }

    fn compared(mut self) -> Self {
        if self.row_count == 0 {
            self.compare();
        }
        self
    }

    fn compare(&mut self) {
        self.differs = self.digest_form != COPY_FORM && rows_digest(std::mem::take(&mut self.rows)) != self.digest;
    }

    /// What became of the batch, once every row of the table has been read.
    fn conclude(self, id: Uuid, table: &str, horizon: Option<Horizon>, audit: &mut Audit) {
        let before = |time: Option<DateTime<Utc>>| time.zip(horizon).is_some_and(|(time, horizon)| time < horizon.before);
        // A line of the first form has the times of the batch as it came, not of what was stored of it.
        let (may_lack, may_be_gone) = (before(self.min_time), before(self.max_time) || self.digest_form == COPY_FORM);
        // What retention leaves of a batch is later than what it dropped, and of the batch's time.
        let may_be_rest = horizon.is_some_and(|h| self.first >= h.all_before) && self.max_time.is_some_and(|max| self.last <= max);
        if self.seen == self.row_count && !self.differs {
            *(if self.digest_form == COPY_FORM { &mut audit.counted_batches } else { &mut audit.batches }) += 1;
        } else if self.seen == self.row_count {
            audit.find(self.block, Some(id), table, "its rows are not those that were stored");
        } else if self.seen > self.row_count {
            audit.find(self.block, Some(id), table, format!("{} rows were stored and {} are there", self.row_count, self.seen));
        } else if self.seen == 0 && may_lack && may_be_gone {
            audit.trimmed_batches += 1;
        } else if self.seen > 0 && may_lack && may_be_rest {
            audit.partly_trimmed_batches += 1;
        } else if self.seen > 0 && may_lack {
            let (stored, seen) = (self.row_count, self.seen);
            let what = format!(
                "{stored} rows were stored and {seen} are there, some of a time that retention has dropped or that none of them was of"
            );
            audit.find(self.block, Some(id), table, what);
        } else {
            audit.find(self.block, Some(id), table, format!("{} rows were stored and {} are there", self.row_count, self.seen));
        }
    }
}

//! Rows against the ledger.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use deadpool_postgres::Transaction;
use uuid::Uuid;

use super::chain::Dropped;
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
    /// Every row of the batch is known to have been stored: the line's times are theirs.
    whole: bool,
    min_time: Option<DateTime<Utc>>,
    max_time: Option<DateTime<Utc>>,
    seen: u64,
    /// Of the rows read so far; let go once they are all there.
    rows: Vec<RowDigest>,
    differs: bool,
}

/// Reads a table once and compares each batch's rows with its line.
pub(super) async fn compare<R: Record>(tx: &Transaction<'_>, dropped: &Dropped, audit: &mut Audit) -> Result<()> {
    let mut batches = lines(tx, R::TABLE).await?;
    let mut strangers: HashMap<Option<Uuid>, u64> = HashMap::new();
    let mut tuples = Tuples::of(tx, &copy::<R>(), "reading rows").await?;
    while let Some(mut tuple) = tuples.next().await? {
        audit.rows += 1;
        let id = tuple.take().and_then(|id| Uuid::from_slice(&id).ok());
        match id.and_then(|id| batches.get_mut(&id)) {
            Some(batch) => batch.add(tuple.digest()),
            None => *strangers.entry(id).or_default() += 1,
        }
    }
    for (id, count) in strangers {
        audit.find(None, id, R::TABLE, format!("{count} rows are of a batch that is not in the ledger"));
    }
    let dropped = dropped.get(R::TABLE).copied();
    for (id, batch) in batches {
        audit.unsealed_batches += u64::from(batch.block.is_none());
        batch.conclude(id, R::TABLE, dropped, audit);
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

/// The batch's id, then the canonical bytes' fields.
fn copy<R: Record>() -> String {
    let columns: Vec<String> =
        R::COLUMNS.iter().map(|c| if c.kind == Kind::Jsonb { format!("{}::text", c.name) } else { c.name.to_owned() }).collect();
    format!("COPY (SELECT batch_id, {} FROM hitherto.{}) TO STDOUT (FORMAT binary)", columns.join(", "), R::TABLE)
}

async fn lines(tx: &Transaction<'_>, table: &str) -> Result<HashMap<Uuid, Batch>> {
    let rows = tx
        .query(
            "-- audit_lines
             SELECT b.batch_id, e.block_number, b.row_count, coalesce(b.rows_digest, b.digest), b.digest_form, b.rows_digest IS NULL, b.min_time, b.max_time
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
        whole: row.get::<_, bool>(5) && row.get::<_, i16>(4) != COPY_FORM,
        min_time: row.get(6),
        max_time: row.get(7),
        seen: 0,
        rows: Vec::new(),
        differs: false,
    };
    // A batch without rows is compared at once: it has none to wait for.
    Ok(rows.iter().map(|row| (row.get(0), batch(row).compared())).collect())
}

impl Batch {
    fn add(&mut self, row: RowDigest) {
        self.seen += 1;
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
    fn conclude(self, id: Uuid, table: &str, dropped: Option<DateTime<Utc>>, audit: &mut Audit) {
        let before = |time: Option<DateTime<Utc>>| time.zip(dropped).is_some_and(|(time, dropped)| time < dropped);
        let (may_lack, may_be_gone) = (before(self.min_time), before(self.max_time) || !self.whole);
        if self.seen == self.row_count && !self.differs {
            *(if self.digest_form == COPY_FORM { &mut audit.counted_batches } else { &mut audit.batches }) += 1;
        } else if self.seen == self.row_count {
            audit.find(self.block, Some(id), table, "its rows are not those that were stored");
        } else if self.seen > self.row_count {
            audit.find(self.block, Some(id), table, format!("{} rows were stored and {} are there", self.row_count, self.seen));
        } else if self.seen == 0 && may_lack && may_be_gone {
            audit.trimmed_batches += 1;
        } else if self.seen > 0 && may_lack {
            audit.partly_trimmed_batches += 1;
        } else {
            audit.find(self.block, Some(id), table, format!("{} rows were stored and {} are there", self.row_count, self.seen));
        }
    }
}

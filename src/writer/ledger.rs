//! A batch's line in the ledger: looked up, and written with what goes to quarantine.

use std::collections::HashMap;

use deadpool_postgres::Transaction;
use postgres_types::ToSql;

use super::batch::{Batch, Stored};
use super::part::{Outcome, Part, Refused};
use super::sql;
use crate::error::{Error, ErrorKind, Result};
use crate::lease::Lease;
use crate::records::Record;

/// What the ledger says of a batch.
pub(super) struct LedgerLine {
    rows: i64,
    digest: Vec<u8>,
    pub(super) digest_form: i16,
    quarantined: i64,
}

impl LedgerLine {
    /// The batch is stored, if it is this one.
    pub(super) fn check<R>(self, batch: &Batch<R>, digest: &[u8]) -> Result<Stored> {
        if self.digest != digest {
            return Err(Error::new(
                ErrorKind::Conflict,
                format!("batch {} stands in the ledger with other content; an id is given once", batch.id),
            ));
        }
        let count = |n: i64| u64::try_from(n).unwrap_or_default();
        let (rows, quarantined) = (count(self.rows), count(self.quarantined));
        Ok(Stored { rows, duplicates: duplicates(batch, rows, quarantined), quarantined, already: true })
    }
}

/// Rows that the table had already: those that were neither stored nor refused.
fn duplicates<R>(batch: &Batch<R>, stored: u64, quarantined: u64) -> u64 {
    (batch.rows.len() as u64).saturating_sub(stored + quarantined)
}

/// The ledger's word on a batch that may have been stored before.
pub(super) async fn find<R: Record>(lease: &mut Lease, batch: &Batch<R>) -> Result<Option<LedgerLine>> {
    let doing = "looking a batch up in the ledger";
    let client = lease.client();
    let statement = client.prepare_cached(sql::LEDGER_FIND).await.map_err(|e| Error::database(doing, e))?;
    let row = client.query_opt(&statement, &[&batch.id]).await.map_err(|e| Error::database(doing, e))?;
    Ok(row.map(|row| LedgerLine { rows: row.get(0), digest: row.get(1), digest_form: row.get(2), quarantined: row.get(3) }))
}

/// Which rows of a batch that stands in the ledger are in quarantine: those whose record reads the same.
pub(super) async fn find_refused<R: Record>(lease: &mut Lease, batch: &Batch<R>) -> Result<Vec<Refused>> {
    let doing = "looking a batch up in quarantine";
    let client = lease.client();
    let statement = client.prepare_cached(sql::QUARANTINE_FIND).await.map_err(|e| Error::database(doing, e))?;
    let rows = client.query(&statement, &[&batch.id]).await.map_err(|e| Error::database(doing, e))?;
    let mut records: HashMap<&str, Vec<(&str, &str)>> = HashMap::new();
    for row in rows.iter().rev() {
        records.entry(row.get(0)).or_default().push((row.get(1), row.get(2)));
    }
    let places = batch.rows.iter().enumerate();
    Ok(places
        .filter_map(|(place, row)| {
            let (sqlstate, reason) = records.get_mut(written(row).as_str())?.pop()?;
            Some(Refused { place, sqlstate: sqlstate.to_owned(), reason: reason.to_owned() })
        })
        .collect())
}

/// Quarantine, ledger line, COMMIT.
///
/// The rows were stored under these numbers of modules, which were asked for before. If they are not the
/// modules' numbers in this transaction, nothing is committed.
pub(super) async fn finish<R: Record>(tx: Transaction<'_>, batch: &Batch<R>, module_ids: &[i64], part: Part) -> Result<Outcome> {
    let doing = || format!("storing batch {} of {}", batch.id, R::TABLE);
    for Refused { place, sqlstate, reason } in &part.refused {
        let record = written(&batch.rows[*place]);
        tracing::warn!(batch = %batch.id, table = R::TABLE, sqlstate, reason, "row quarantined");
        tx.execute(sql::QUARANTINE_INSERT, &[&batch.id, &batch.producer, &R::TABLE, &record, sqlstate, reason])
            .await
            .map_err(|e| Error::database(&doing(), e))?;
    }
    let quarantined = part.refused.len() as u64;
    let duplicates = duplicates(batch, part.stored, quarantined);
    let statement = tx.prepare_cached(sql::LEDGER_INSERT).await.map_err(|e| Error::database(&doing(), e))?;
    let rows = i64::try_from(part.stored).unwrap_or(i64::MAX);
    let (min_time, max_time) = (part.digests.min_time, part.digests.max_time);
    let (digest, rows_digest) = part.digests.finish();
    let mut modules: HashMap<&str, i64> = HashMap::new();
    // Rows of one module tend to come together. One that the database does not take has no number, and its rows
    // are refused.
    let mut last = None;
    for (row, id) in batch.rows.iter().zip(module_ids).filter(|(_, id)| **id != 0) {
        if let Some(name) = row.module().filter(|name| last != Some(*name)) {
            modules.insert(name, *id);
            last = Some(name);
        }
    }
    let (names, ids): (Vec<&str>, Vec<i64>) = modules.into_iter().unzip();
    let line: [&(dyn ToSql + Sync); 10] =
        [&batch.id, &batch.producer, &R::TABLE, &rows, &min_time, &max_time, &digest, &rows_digest, &names, &ids];
    if tx.execute(&statement, &line).await.map_err(|e| Error::database(&doing(), e))? == 0 {
        return Err(Error::new(
            ErrorKind::Unreachable,
            format!(
                "batch {}: its modules go by other numbers here, as in another database under the old one's name; asking anew",
                batch.id
            ),
        ));
    }
    tx.commit().await.map_err(|e| Error::database(&doing(), e))?;
    let stored = Stored { rows: part.stored, duplicates, quarantined, already: false };
    Ok(Outcome { stored, refused: part.refused })
}

/// A record as it stands in quarantine.
fn written<R: Record>(row: &R) -> String {
    serde_json::to_string(row).unwrap_or_default()
}

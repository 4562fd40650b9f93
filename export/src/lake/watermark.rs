//! How far a table of the lake has come, as its Delta log has it: `txn` actions, committed with the data.

use chrono::{DateTime, Utc};
use tokio_postgres::Row;

use super::held::Held;
use crate::dataset::Dataset;
use crate::error::{ExportError, ExportErrorKind, Result};
use crate::snapshot::Snapshot;

/// Which history of transactions the table was last written from; below it, followed by a colon and that
/// history's name, up to which transaction.
const APP: &str = "hitherto-export";
/// The fingerprint of a plain table.
const FINGERPRINT: &str = "hitherto-export:fingerprint";
/// The fingerprint of what the query joins, and up to which number it goes.
const JOINED: &str = "hitherto-export:joined";
const JOINED_UPTO: &str = "hitherto-export:joined-upto";

/// The fingerprint of the last line of the ledger before the watermark.
const ANCHOR: &str = "hitherto-export:anchor";

/// A watermark further behind than that is told of.
const LAG_SECONDS: i64 = 60;

/// The history of transactions that a snapshot is of, and where it stands in it.
pub(super) struct Server {
    identity: String,
    /// Transactions before this one had ended; those that committed are in the snapshot.
    pub(super) xmin: i64,
    /// It follows another one, and may be behind that.
    standby: bool,
}

/// From where on a table is to be brought up to date.
pub(super) enum Since {
    /// From this transaction on.
    Transaction(i64),
    /// It must be written in full: why, and whether that is to be told as a warning.
    Never(String, bool),
}

impl Server {
    /// `None` without a query for the identity.
    pub(super) async fn read(snapshot: &Snapshot<'_>, identity: Option<&str>) -> Result<Option<Self>> {
        let Some(identity) = identity else { return Ok(None) };
        let doing = "asking which server this is";
        let failed = |e| ExportError::database(doing, e);
        let query = format!("SELECT ({identity})::text, pg_snapshot_xmin(pg_current_snapshot())::text::bigint, pg_is_in_recovery()");
        let rows = snapshot.query(doing, &query, &[]).await?;
        let read =
            |row: &Row| Ok::<_, tokio_postgres::Error>(Self { identity: row.try_get(0)?, xmin: row.try_get(1)?, standby: row.try_get(2)? });
        rows.first().map(|row| read(row).map_err(failed)).transpose()
    }

    /// How far the table has come in this history.
    pub(super) async fn since(&self, snapshot: &Snapshot<'_>, dataset: &Dataset, held: &Held) -> Result<Since> {
        let Some(newest) = held.noted(APP).await? else {
            return Ok(Since::Never("the lake has no watermark of it".to_owned(), false));
        };
        if newest != hash(&[&self.identity]) {
            return Ok(Since::Never(
                "the lake was last written from another server, or from this one before it was restored or promoted".to_owned(),
                true,
            ));
        }
        Ok(match held.noted(&format!("{APP}:{}", self.identity)).await? {
            None => Since::Never("the lake has no watermark of it".to_owned(), false),
            Some(watermark) if watermark > self.xmin && self.standby => {
                let message = format!(
                    "dataset {}: this server is a standby that is behind what the lake was last written from (at transaction {}, the lake \
                     at {watermark}); nothing was published. Wait until it has caught up, or export from the primary",
                    dataset.name, self.xmin
                );
                return Err(ExportError::new(ExportErrorKind::Conflict, message));
            }
            Some(watermark) if watermark > self.xmin => Since::Never(
                format!("the server's transactions, at {}, have gone back behind the lake's watermark, {watermark}", self.xmin),
                true,
            ),
            Some(watermark) => match (anchor(snapshot, dataset, watermark).await?, held.noted(ANCHOR).await?) {
                (Some(now), Some(before)) if now != before => Since::Never(
                    "the ledger's last line before the lake's watermark is another one now: the server's files were exchanged".to_owned(),
                    true,
                ),
                _ => Since::Transaction(watermark),
            },
        })
    }

    /// A transaction that was begun long ago and has not ended holds the watermark back, wherever on the server
    /// it is: what was written since is written again by the next export. That is told.
    pub(super) async fn warn_of_lag(&self, snapshot: &Snapshot<'_>, query: Option<&str>) -> Result<()> {
        let doing = "asking what holds the watermark back";
        let failed = |e| ExportError::database(doing, e);
        // Others' transactions show only to those who may see them; the ledger shows what waits for them.
        let holder = "SELECT extract(epoch FROM clock_timestamp() - began)::bigint, who FROM (
                          SELECT a.backend_xid::text::bigint AS xid, a.xact_start AS began,
                                 format('process %s of %s (%s)', a.pid, a.usename, coalesce(nullif(a.application_name, ''), 'no name')) AS who
                          FROM pg_stat_activity a WHERE a.backend_xid IS NOT NULL
                          UNION ALL SELECT p.transaction::text::bigint, p.prepared, format('prepared transaction %s of %s', p.gid, p.owner)
                          FROM pg_prepared_xacts p) AS t
                      WHERE xid = $1::bigint % 4294967296 ORDER BY 1 DESC LIMIT 1";
        let held: Option<(i64, String)> = match snapshot.query(doing, holder, &[&self.xmin]).await?.first() {
            Some(row) => row.try_get::<_, Option<i64>>(0).map_err(failed)?.zip(row.try_get(1).map_err(failed)?),
            None => None,
        };
        let mut waits: Option<DateTime<Utc>> = None;
        if let Some(query) = query {
            let rows = snapshot.query(doing, query, &[&self.xmin.to_string()]).await?;
            waits = rows.first().map(|row| row.try_get(0)).transpose().map_err(failed)?.flatten();
        }
        let waits = waits.map(|since| (Utc::now() - since).num_seconds());
        if let Some(seconds) = held.as_ref().map(|(seconds, _)| *seconds).max(waits).filter(|seconds| *seconds >= LAG_SECONDS) {
            let who = held.map_or_else(|| "somebody".to_owned(), |(_, who)| who);
            tracing::warn!(
                "the watermark is {seconds} s behind: {who} has a transaction open; until it ends, every export writes again what was written since"
            );
        }
        Ok(())
    }

    /// What to note of this snapshot.
    pub(super) async fn notes(&self, snapshot: &Snapshot<'_>, dataset: &Dataset) -> Result<Vec<(String, i64)>> {
        let mut notes = vec![(APP.to_owned(), hash(&[&self.identity])), (format!("{APP}:{}", self.identity), self.xmin)];
        notes.extend(anchor(snapshot, dataset, self.xmin).await?.map(|line| (ANCHOR.to_owned(), line)));
        Ok(notes)
    }

    /// A plain table's fingerprint. Whether a row is the same is told by where it lies and by its transaction, which
    /// means something on this server alone; and another query shows another table.
    pub(super) async fn fingerprint(&self, snapshot: &Snapshot<'_>, dataset: &Dataset) -> Result<Option<(String, i64)>> {
        let Some(query) = &dataset.fingerprint else { return Ok(None) };
        let doing = format!("asking whether dataset {} has changed", dataset.name);
        let rows = snapshot.query(&doing, query, &[]).await?;
        let fingerprint: i64 = rows.first().map_or(Ok(0), |row| row.try_get(0)).map_err(|e| ExportError::database(&doing, e))?;
        let (sort, dictionary) = (dataset.sort.join(","), dataset.dictionary.join(","));
        Ok(Some((FINGERPRINT.to_owned(), hash(&[&self.identity, &dataset.query, &sort, &dictionary, &fingerprint.to_string()]))))
    }
}

/// The watermark among what is noted.
pub(super) fn noted(notes: &[(String, i64)]) -> Option<i64> {
    let other = [FINGERPRINT, JOINED, JOINED_UPTO, ANCHOR, APP];
    notes.iter().find(|(app, _)| !other.contains(&app.as_str())).map(|(_, version)| *version)
}

async fn anchor(snapshot: &Snapshot<'_>, dataset: &Dataset, before: i64) -> Result<Option<i64>> {
    let Some(query) = &dataset.anchor else { return Ok(None) };
    let doing = format!("looking for the ledger's last line of dataset {}", dataset.name);
    let rows = snapshot.query(&doing, query, &[&before.to_string()]).await?;
    rows.first().map(|row| row.try_get(0).map_err(|e| ExportError::database(&doing, e))).transpose()
}

/// Whether what the dataset's query joins is as it was when the table was written, and what to note of it.
pub(super) async fn joined(snapshot: &Snapshot<'_>, dataset: &Dataset, held: Option<&Held>) -> Result<(bool, Vec<(String, i64)>)> {
    let Some(query) = &dataset.joined else { return Ok((true, Vec::new())) };
    let doing = format!("asking whether what dataset {} joins has changed", dataset.name);
    let failed = |e| ExportError::database(&doing, e);
    let (upto, before) = match held {
        Some(held) => (held.noted(JOINED_UPTO).await?, held.noted(JOINED).await?),
        None => (None, None),
    };
    let rows = snapshot.query(&doing, query, &[&upto]).await?;
    let Some(row) = rows.first() else { return Ok((true, Vec::new())) };
    let [largest, all, same] = [0, 1, 2].map(|at| row.try_get::<_, Option<i64>>(at).map(Option::unwrap_or_default));
    let same = same.map_err(failed)? == before.unwrap_or_default();
    Ok((same, vec![(JOINED_UPTO.to_owned(), largest.map_err(failed)?), (JOINED.to_owned(), all.map_err(failed)?)]))
}

/// What a note in the log is of.
pub(super) enum Note<'a> {
    /// How far the table has come in this history of transactions.
    Watermark(&'a str),
    Other,
}

/// Tells what a note is of by its application's name.
pub(super) fn note(app: &str) -> Note<'_> {
    match app.strip_prefix(APP).and_then(|rest| rest.strip_prefix(':')) {
        Some(server) if ![FINGERPRINT, JOINED, JOINED_UPTO, ANCHOR].contains(&app) => Note::Watermark(server),
        _ => Note::Other,
    }
}

/// FNV-1a, cut to 63 bits: the same in every version of this program.
fn hash(words: &[&str]) -> i64 {
    let bytes = words.iter().flat_map(|word| word.bytes().chain([0]));
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    i64::try_from(hash >> 1).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_stays_what_lakes_have_noted() {
        assert_eq!(hash(&["7123456789:1:16384"]), 1_985_349_450_005_941_137);
        assert_ne!(hash(&["a", "b"]), hash(&["ab", ""]));
    }
}

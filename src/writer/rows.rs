//! A batch's rows: by COPY where the table can, by INSERT where its rows have ids of their own.

use std::collections::{BTreeSet, HashSet};
use std::ops::Range;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use deadpool_postgres::Transaction;
use futures_util::SinkExt;
use postgres_types::ToSql;

use super::batch::Batch;
use super::copy_body::CopyBody;
use super::digest::{RowDigest, row_digests};
use super::encode::arrays;
use super::part::{Part, Refused};
use super::send::batch_id;
use super::sql;
use crate::error::{Error, Result};
use crate::records::{OrderEvent, Record};

/// Rows in one INSERT ... FROM unnest.
const INSERT_ROWS: usize = 5_000;

/// How rows of a batch go in.
pub(super) struct Rows<'a, R> {
    pub(super) tx: &'a Transaction<'a>,
    pub(super) batch: &'a Batch<R>,
    /// Ids of the modules that the rows name.
    pub(super) module_ids: &'a [i64],
    /// The server knows COPY.
    pub(super) copy_in: bool,
}

impl<R: Record> Rows<'_, R> {
    /// Stores rows of the batch and folds the orders they belong to. Rows whose id stands with other
    /// content are refused: the first stays.
    pub(super) async fn store(&self, range: Range<usize>) -> Result<Part> {
        if self.copy_in && sql::can_copy(R::TABLE) {
            return self.copy(range).await;
        }
        let (mut part, mut orders) = (Part::default(), BTreeSet::new());
        for first in range.clone().step_by(INSERT_ROWS) {
            self.insert(first..range.end.min(first + INSERT_ROWS), &mut part, &mut orders).await?;
        }
        if R::TABLE == OrderEvent::TABLE && !orders.is_empty() {
            let orders: Vec<&str> = orders.iter().map(String::as_str).collect();
            let statement = self.tx.prepare_cached(sql::ORDER_FOLD).await.map_err(|e| self.error(e))?;
            self.tx.query(&statement, &[&orders]).await.map_err(|e| self.error(e))?;
        }
        Ok(part)
    }

    fn error(&self, error: tokio_postgres::Error) -> Error {
        Error::database(&format!("storing batch {} of {}", self.batch.id, R::TABLE), error)
    }

    async fn copy(&self, range: Range<usize>) -> Result<Part> {
        let mut part = Part::default();
        let statement = self.tx.prepare_cached(&sql::copy::<R>()).await.map_err(|e| self.error(e))?;
        let sink = self.tx.copy_in::<_, Bytes>(&statement).await.map_err(|e| self.error(e))?;
        let mut sink = std::pin::pin!(sink);
        let mut body = CopyBody::new(&self.batch.rows[range.clone()], &self.module_ids[range], batch_id(self.batch));
        while let Some(piece) = body.piece() {
            sink.feed(piece).await.map_err(|e| self.error(e))?;
            // The driver and the server work on the piece meanwhile.
            body.digests().for_each(|(row, digest)| part.digests.keep(row, digest));
        }
        part.stored = sink.finish().await.map_err(|e| self.error(e))?;
        Ok(part)
    }

    /// Stores rows by one INSERT. Adds to `orders` those that are to be folded.
    async fn insert(&self, range: Range<usize>, part: &mut Part, orders: &mut BTreeSet<String>) -> Result<()> {
        let (rows, module_ids) = (&self.batch.rows[range.clone()], &self.module_ids[range.clone()]);
        let statement = self.tx.prepare_cached(&sql::insert::<R>()).await.map_err(|e| self.error(e))?;
        let (arrays, id) = (arrays(rows, module_ids), batch_id(self.batch));
        let mut params: Vec<&(dyn ToSql + Sync)> = arrays.iter().map(|a| a as &(dyn ToSql + Sync)).collect();
        if let Some(id) = &id {
            params.push(id);
        }
        // The server works on the rows meanwhile.
        let digests = async { row_digests(rows, module_ids).collect::<Vec<RowDigest>>() };
        let inserted = if sql::tells_stored(R::TABLE) {
            let (new, digests) = tokio::join!(self.tx.query(&statement, &params), digests);
            let new = new.map_err(|e| self.error(e))?;
            let mut keys: HashSet<(&str, DateTime<Utc>)> = new.iter().map(|row| (row.get(0), row.get(1))).collect();
            for (row, digest) in rows.iter().zip(digests) {
                // Of two rows with one id the first was stored.
                let kept = row.id().zip(row.time()).is_some_and(|key| keys.remove(&key));
                if kept {
                    part.digests.keep(row, digest);
                    orders.extend(row.order_id().map(str::to_owned));
                } else {
                    part.digests.leave(digest);
                }
            }
            new.len() as u64
        } else {
            let (inserted, digests) = tokio::join!(self.tx.execute(&statement, &params), digests);
            rows.iter().zip(digests).for_each(|(row, digest)| part.digests.keep(row, digest));
            inserted.map_err(|e| self.error(e))?
        };
        part.stored += inserted;
        if let Some(conflicts) = sql::conflicts::<R>()
            && inserted < rows.len() as u64
        {
            let statement = self.tx.prepare_cached(&conflicts).await.map_err(|e| self.error(e))?;
            let params = if sql::notes_conflicts(R::TABLE) { &params[..] } else { &params[..arrays.len()] };
            for row in self.tx.query(&statement, params).await.map_err(|e| self.error(e))? {
                let (n, stands): (i64, String) = (row.get(0), row.get(1));
                let place = range.start + n as usize - 1;
                part.refused.push(Refused::id_taken(place, &stands));
                // Both orders are flagged.
                orders.extend(row.get::<_, Option<String>>(2));
                orders.extend(self.batch.rows[place].order_id().map(str::to_owned));
            }
        }
        Ok(())
    }

    /// Halves the rows until those that the database refuses stand alone; stores the others.
    pub(super) async fn store_halves(&self) -> Result<Part> {
        let step = async |text: &'static str| self.tx.batch_execute(text).await.map_err(|e| Error::database("setting bad rows apart", e));
        let all = 0..self.batch.rows.len();
        let mut ranges = vec![all];
        let mut whole = Part::default();
        while let Some(range) = ranges.pop() {
            step("SAVEPOINT part").await?;
            match self.store(range.clone()).await {
                Ok(part) => {
                    whole.append(part);
                    step("RELEASE part").await?;
                }
                Err(error) if error.is_data() => {
                    step("ROLLBACK TO part; RELEASE part").await?;
                    if range.len() == 1 {
                        whole.refused.push(Refused::by(range.start, &error));
                        let digests = row_digests(&self.batch.rows[range.clone()], &self.module_ids[range]);
                        digests.for_each(|digest| whole.digests.leave(digest));
                    } else {
                        let middle = range.start + range.len() / 2;
                        ranges.push(middle..range.end);
                        ranges.push(range.start..middle);
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(whole)
    }
}

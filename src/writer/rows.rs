//! A batch's rows: by COPY where the table can, by INSERT where its rows have ids of their own.

use std::borrow::Cow;
use std::collections::HashSet;
use std::ops::Range;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use deadpool_postgres::Transaction;
use futures_util::SinkExt;
use postgres_types::ToSql;

use super::batch::Batch;
use super::copy_body::CopyBody;
use super::digest::{RowDigest, row_digests};
use super::encode::Columns;
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
    /// Rows that name a module which the database refuses.
    pub(super) unnamed: &'a [Refused],
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
        let (mut part, mut orders) = (Part::default(), Vec::new());
        let (mut columns, mut ahead) = (Columns::default(), Columns::default());
        let of = |first: usize| first..range.end.min(first + INSERT_ROWS);
        self.encode(of(range.start), &mut columns);
        for first in range.clone().step_by(INSERT_ROWS) {
            self.insert(of(first), &columns, (of(first + INSERT_ROWS), &mut ahead), &mut part, &mut orders).await?;
            std::mem::swap(&mut columns, &mut ahead);
        }
        if R::TABLE == OrderEvent::TABLE && !orders.is_empty() {
            orders.sort_unstable();
            orders.dedup();
            let statement = self.tx.prepare_cached(sql::ORDER_FOLD).await.map_err(|e| self.error(e))?;
            self.tx.query(&statement, &[&orders]).await.map_err(|e| self.error(e))?;
        }
        Ok(part)
    }

    /// Encodes rows, of which there may be none.
    fn encode(&self, range: Range<usize>, columns: &mut Columns) {
        if !range.is_empty() {
            columns.encode(&self.batch.rows[range.clone()], &self.module_ids[range]);
        }
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

    /// Stores rows, encoded as `columns`, by one INSERT, and encodes those that come next. Adds to `orders` those that are to be folded.
    async fn insert<'a>(
        &'a self,
        range: Range<usize>,
        columns: &Columns,
        (next, ahead): (Range<usize>, &mut Columns),
        part: &mut Part,
        orders: &mut Vec<Cow<'a, str>>,
    ) -> Result<()> {
        let (rows, module_ids) = (&self.batch.rows[range.clone()], &self.module_ids[range.clone()]);
        let statement = self.tx.prepare_cached(&sql::insert::<R>()).await.map_err(|e| self.error(e))?;
        let (arrays, id) = (columns.arrays(), batch_id(self.batch));
        let mut params: Vec<&(dyn ToSql + Sync)> = arrays.iter().map(|a| a as &(dyn ToSql + Sync)).collect();
        if let Some(id) = &id {
            params.push(id);
        }
        // The server works on the rows meanwhile.
        let digests = async {
            self.encode(next, ahead);
            row_digests(rows, module_ids).collect::<Vec<RowDigest>>()
        };
        let inserted = if sql::tells_stored(R::TABLE) {
            let (new, digests) = tokio::join!(self.tx.query(&statement, &params), digests);
            let new = new.map_err(|e| self.error(e))?;
            let all = new.len() == rows.len();
            let told = if all { &[][..] } else { &new[..] };
            let mut keys: HashSet<(&str, DateTime<Utc>)> = told.iter().map(|row| (row.get(0), row.get(1))).collect();
            for (row, digest) in rows.iter().zip(digests) {
                // Of two rows with one id the first was stored.
                let kept = all || row.id().zip(row.time()).is_some_and(|key| keys.remove(&key));
                if kept {
                    part.digests.keep(row, digest);
                    // Events of one order tend to come together.
                    if let Some(order) = row.order_id().filter(|order| orders.last().is_none_or(|last| last != order)) {
                        orders.push(Cow::Borrowed(order));
                    }
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
        let noted = sql::notes_conflicts(R::TABLE) && !self.batch.whole;
        if let Some(conflicts) = sql::conflicts::<R>(noted)
            && inserted < rows.len() as u64
        {
            let statement = self.tx.prepare_cached(&conflicts).await.map_err(|e| self.error(e))?;
            let params = if noted { &params[..] } else { &params[..arrays.len()] };
            for row in self.tx.query(&statement, params).await.map_err(|e| self.error(e))? {
                let (n, stands): (i64, String) = (row.get(0), row.get(1));
                let place = range.start + n as usize - 1;
                part.refused.push(Refused::id_taken(place, &stands));
                // Both orders are flagged.
                orders.extend(row.get::<_, Option<String>>(2).map(Cow::Owned));
                orders.extend(self.batch.rows[place].order_id().map(Cow::Borrowed));
            }
        }
        Ok(())
    }

    /// Takes the digest of a row that is not stored.
    fn leave(&self, place: usize, part: &mut Part) {
        let digests = row_digests(&self.batch.rows[place..=place], &self.module_ids[place..=place]);
        digests.for_each(|digest| part.digests.leave(digest));
    }

    /// Halves the rows until those that the database refuses stand alone; stores the others.
    pub(super) async fn store_halves(&self) -> Result<Part> {
        let step = async |text: &'static str| self.tx.batch_execute(text).await.map_err(|e| Error::database("setting bad rows apart", e));
        let (mut ranges, mut whole, mut from) = (Vec::new(), Part::default(), 0);
        for unnamed in self.unnamed {
            ranges.push(from..unnamed.place);
            from = unnamed.place + 1;
            whole.refused.push(unnamed.clone());
            self.leave(unnamed.place, &mut whole);
        }
        ranges.push(from..self.batch.rows.len());
        // Taken from the end: the rows go in as they come.
        ranges.reverse();
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
                        self.leave(range.start, &mut whole);
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

//! Puts a batch into the database: rows and ledger line in one transaction, once.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ops::Range;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use deadpool_postgres::{Pool, Transaction};
use futures_util::SinkExt;
use postgres_types::ToSql;
use tokio::time::timeout;
use tokio_postgres::IsolationLevel;
use uuid::Uuid;

use super::batch::{Batch, Stored};
use super::digest::{digest, row_digests};
use super::encode::{CopyRows, arrays};
use super::part::{Part, Refused};
use super::sql;
use crate::config::Config;
use crate::engine::Capabilities;
use crate::error::{Error, ErrorKind, Result};
use crate::lease::{Lease, pool_error};
use crate::records::{OrderEvent, Record};

/// Rows in one INSERT ... FROM unnest.
const INSERT_ROWS: usize = 5_000;

/// How many times longer it may take when bad rows are set apart one by one.
const HALVING: u32 = 20;

/// How long to go on after failures that may pass.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Patience {
    /// For ever.
    Endless,
    /// So many tries.
    Tries(usize),
}

/// Sends batches. Clones share what is known of modules.
#[derive(Clone)]
pub(crate) struct Sender {
    pool: Pool,
    capabilities: Capabilities,
    config: Config,
    deadline: Duration,
    modules: Arc<RwLock<HashMap<String, i64>>>,
}

impl Sender {
    pub(crate) fn new(pool: Pool, capabilities: Capabilities, config: Config, deadline: Duration) -> Self {
        Self { pool, capabilities, config, deadline, modules: Arc::default() }
    }

    /// Sends until it is stored, a failure that can't pass comes up, or patience ends. Tells
    /// `on_retry` of every failure in between.
    pub(crate) async fn send<R: Record>(
        &self,
        batch: &Batch<R>,
        patience: Patience,
        mut on_retry: impl FnMut(&Error) + Send,
    ) -> Result<Stored> {
        let backoff =
            ExponentialBuilder::default().with_min_delay(Duration::from_millis(50)).with_max_delay(Duration::from_secs(5)).with_jitter();
        let mut pauses = match patience {
            Patience::Endless => backoff.without_max_times().build(),
            Patience::Tries(tries) => backoff.with_max_times(tries.saturating_sub(1)).build(),
        };
        let (mut known, mut halve) = (batch.known, false);
        loop {
            let deadline = if halve { self.deadline * HALVING } else { self.deadline };
            let error = match timeout(deadline, self.attempt(batch, known, halve)).await {
                Ok(Ok(stored)) => return Ok(stored),
                Ok(Err(error)) => error,
                Err(_) => Error::new(
                    ErrorKind::Timeout,
                    format!("batch {} of {}: the database did not answer within {} s", batch.id, R::TABLE, deadline.as_secs_f64()),
                ),
            };
            // From now on the batch may be there: its COMMIT's answer may be what was lost.
            known = true;
            if error.is_data() && !halve {
                halve = true;
                continue;
            }
            if !error.is_retryable() {
                return Err(error);
            }
            let Some(pause) = pauses.next() else { return Err(error) };
            tracing::warn!(batch = %batch.id, table = R::TABLE, %error, ?pause, "batch not stored, trying again");
            on_retry(&error);
            tokio::time::sleep(pause).await;
        }
    }

    async fn attempt<R: Record>(&self, batch: &Batch<R>, known: bool, halve: bool) -> Result<Stored> {
        let mut lease = Lease::new(self.pool.get().await.map_err(|e| pool_error(e, &self.config))?);
        let result = self.attempt_on(&mut lease, batch, known, halve).await;
        // An error from the server leaves the connection in order once its transaction was rolled
        // back; anything else, a future dropped amid a COPY among it, closes it.
        let whole = match &result {
            Ok(_) => true,
            Err(error) => error.sqlstate().is_some() && lease.client().batch_execute("ROLLBACK").await.is_ok(),
        };
        if whole {
            lease.give_back();
        }
        result
    }

    async fn attempt_on<R: Record>(&self, lease: &mut Lease, batch: &Batch<R>, known: bool, halve: bool) -> Result<Stored> {
        if halve {
            // A module that was deleted by hand would condemn rows that are good.
            self.modules.write().unwrap_or_else(|e| e.into_inner()).clear();
        }
        let ids = self.module_ids(lease, batch).await?;
        let module_id = |row: &R| row.module().and_then(|name| ids.get(name)).copied().unwrap_or_default();
        if known && let Some(line) = self.find(lease, batch).await? {
            let digest = digest(line.digest_form, batch, module_id);
            return line.check(batch, &digest);
        }
        let tx = self.begin::<R>(lease).await?;
        let part = if halve {
            self.store_halves(&tx, batch, &module_id).await?
        } else {
            self.store_rows(&tx, batch, 0..batch.rows.len(), &module_id).await?
        };
        match self.finish(tx, batch, part).await {
            Err(error) if is_ledger_conflict(&error) => {
                Err(Error::new(ErrorKind::Unreachable, format!("batch {} was sent twice at once; looking it up", batch.id)))
            }
            other => other,
        }
    }

    async fn begin<'a, R: Record>(&self, lease: &'a mut Lease) -> Result<Transaction<'a>> {
        let doing = "opening a transaction";
        // The fold needs to see what others committed while it waited, whatever the database's default.
        let builder = lease.client().build_transaction().isolation_level(IsolationLevel::ReadCommitted);
        let tx = builder.start().await.map_err(|e| Error::database(doing, e))?;
        // The server gives up when this side does: an abandoned statement, or a transaction whose client it
        // can't see any more, would keep its locks, and the batch's next try waits for those.
        let limit = self.deadline.as_millis().clamp(1, i32::MAX as u128);
        let timeout = format!("SET LOCAL statement_timeout = {limit}; SET LOCAL idle_in_transaction_session_timeout = {limit}");
        tx.batch_execute(&timeout).await.map_err(|e| Error::database(doing, e))?;
        if R::TABLE == OrderEvent::TABLE {
            // Ids are claimed and orders folded for the batch as a whole, not by triggers row by row.
            tx.batch_execute("SET LOCAL hitherto.set_based = 'on'").await.map_err(|e| Error::database(doing, e))?;
        }
        if self.capabilities.engine == crate::Engine::Timescaledb && !sql::can_copy(R::TABLE) {
            // A late replay looks its ids up in the columnstore; the default would stop it.
            tx.batch_execute("SET LOCAL timescaledb.max_tuples_decompressed_per_dml_transaction = 0")
                .await
                .map_err(|e| Error::database(doing, e))?;
        }
        Ok(tx)
    }

    /// The ledger's word on a batch that may have been stored before.
    async fn find<R: Record>(&self, lease: &mut Lease, batch: &Batch<R>) -> Result<Option<LedgerLine>> {
        let doing = "looking a batch up in the ledger";
        let client = lease.client();
        let statement = client.prepare_cached(sql::LEDGER_FIND).await.map_err(|e| Error::database(doing, e))?;
        let row = client.query_opt(&statement, &[&batch.id]).await.map_err(|e| Error::database(doing, e))?;
        Ok(row.map(|row| LedgerLine { rows: row.get(0), digest: row.get(1), digest_form: row.get(2), quarantined: row.get(3) }))
    }

    /// Ids of the modules that the rows name; unknown ones are registered.
    async fn module_ids<R: Record>(&self, lease: &mut Lease, batch: &Batch<R>) -> Result<HashMap<String, i64>> {
        let mut ids = HashMap::new();
        let mut missing = Vec::new();
        {
            let cache = self.modules.read().unwrap_or_else(|e| e.into_inner());
            for name in batch.rows.iter().filter_map(Record::module) {
                if ids.contains_key(name) {
                    continue;
                }
                match cache.get(name) {
                    Some(id) => {
                        ids.insert(name.to_owned(), *id);
                    }
                    None => {
                        ids.insert(name.to_owned(), 0);
                        missing.push(name.to_owned());
                    }
                }
            }
        }
        if missing.is_empty() {
            return Ok(ids);
        }
        let doing = "registering modules";
        let client = lease.client();
        let statement = client.prepare_cached(sql::MODULE_ENSURE).await.map_err(|e| Error::database(doing, e))?;
        let rows = client.query(&statement, &[&missing]).await.map_err(|e| Error::database(doing, e))?;
        let mut cache = self.modules.write().unwrap_or_else(|e| e.into_inner());
        for row in rows {
            let (name, id): (String, i64) = (row.get(0), row.get(1));
            cache.insert(name.clone(), id);
            ids.insert(name, id);
        }
        Ok(ids)
    }

    /// Stores rows of the batch and folds the orders they belong to. Rows whose id stands with other
    /// content are refused: the first stays.
    async fn store_rows<R: Record>(
        &self,
        tx: &Transaction<'_>,
        batch: &Batch<R>,
        range: Range<usize>,
        module_id: &(impl Fn(&R) -> i64 + Sync),
    ) -> Result<Part> {
        let doing = || format!("storing batch {} of {}", batch.id, R::TABLE);
        let (rows, mut part) = (&batch.rows[range.clone()], Part::default());
        if self.capabilities.copy_in && sql::can_copy(R::TABLE) {
            let statement = tx.prepare_cached(&sql::copy::<R>()).await.map_err(|e| Error::database(&doing(), e))?;
            let sink = tx.copy_in::<_, Bytes>(&statement).await.map_err(|e| Error::database(&doing(), e))?;
            let mut sink = std::pin::pin!(sink);
            for (piece, rows) in CopyRows::pieces(rows, batch_id(batch), module_id) {
                sink.send(piece).await.map_err(|e| Error::database(&doing(), e))?;
                // The server works on the piece meanwhile.
                rows.iter().zip(row_digests(rows, module_id)).for_each(|(row, digest)| part.digests.keep(row, digest));
            }
            part.stored = sink.finish().await.map_err(|e| Error::database(&doing(), e))?;
            return Ok(part);
        }
        let statement = tx.prepare_cached(&sql::insert::<R>()).await.map_err(|e| Error::database(&doing(), e))?;
        let (id, mut orders) = (batch_id(batch), BTreeSet::new());
        for (slice, first) in rows.chunks(INSERT_ROWS).zip((range.start..).step_by(INSERT_ROWS)) {
            let arrays = arrays(slice, module_id);
            let mut params: Vec<&(dyn ToSql + Sync)> = arrays.iter().map(|a| a as &(dyn ToSql + Sync)).collect();
            if let Some(id) = &id {
                params.push(id);
            }
            let inserted = if sql::tells_stored(R::TABLE) {
                let new = tx.query(&statement, &params).await.map_err(|e| Error::database(&doing(), e))?;
                let mut keys: HashSet<(&str, DateTime<Utc>)> = new.iter().map(|row| (row.get(0), row.get(1))).collect();
                for (row, digest) in slice.iter().zip(row_digests(slice, module_id)) {
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
                slice.iter().zip(row_digests(slice, module_id)).for_each(|(row, digest)| part.digests.keep(row, digest));
                tx.execute(&statement, &params).await.map_err(|e| Error::database(&doing(), e))?
            };
            part.stored += inserted;
            if let Some(conflicts) = sql::conflicts::<R>()
                && inserted < slice.len() as u64
            {
                let statement = tx.prepare_cached(&conflicts).await.map_err(|e| Error::database(&doing(), e))?;
                let params = if sql::notes_conflicts(R::TABLE) { &params[..] } else { &params[..arrays.len()] };
                for row in tx.query(&statement, params).await.map_err(|e| Error::database(&doing(), e))? {
                    let (n, stands): (i64, String) = (row.get(0), row.get(1));
                    let place = first + n as usize - 1;
                    part.refused.push(Refused::id_taken(place, &stands));
                    // Both orders are flagged.
                    orders.extend(row.get::<_, Option<String>>(2));
                    orders.extend(batch.rows[place].order_id().map(str::to_owned));
                }
            }
        }
        if R::TABLE == OrderEvent::TABLE && !orders.is_empty() {
            let orders: Vec<String> = orders.into_iter().collect();
            let statement = tx.prepare_cached(sql::ORDER_FOLD).await.map_err(|e| Error::database(&doing(), e))?;
            tx.query(&statement, &[&orders]).await.map_err(|e| Error::database(&doing(), e))?;
        }
        Ok(part)
    }

    /// Halves the rows until those that the database refuses stand alone; stores the others.
    async fn store_halves<R: Record>(
        &self,
        tx: &Transaction<'_>,
        batch: &Batch<R>,
        module_id: &(impl Fn(&R) -> i64 + Sync),
    ) -> Result<Part> {
        let step = async |text: &'static str| tx.batch_execute(text).await.map_err(|e| Error::database("setting bad rows apart", e));
        let all = 0..batch.rows.len();
        let mut ranges = vec![all];
        let mut whole = Part::default();
        while let Some(range) = ranges.pop() {
            step("SAVEPOINT part").await?;
            match self.store_rows(tx, batch, range.clone(), module_id).await {
                Ok(part) => {
                    whole.append(part);
                    step("RELEASE part").await?;
                }
                Err(error) if error.is_data() => {
                    step("ROLLBACK TO part; RELEASE part").await?;
                    if range.len() == 1 {
                        whole.refused.push(Refused::by(range.start, &error));
                        row_digests(&batch.rows[range], module_id).for_each(|digest| whole.digests.leave(digest));
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

    /// Quarantine, ledger line, COMMIT.
    async fn finish<R: Record>(&self, tx: Transaction<'_>, batch: &Batch<R>, part: Part) -> Result<Stored> {
        let doing = || format!("storing batch {} of {}", batch.id, R::TABLE);
        for Refused { place, sqlstate, reason } in &part.refused {
            let record = serde_json::to_string(&batch.rows[*place]).unwrap_or_default();
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
        let line: [&(dyn ToSql + Sync); 8] = [&batch.id, &batch.producer, &R::TABLE, &rows, &min_time, &max_time, &digest, &rows_digest];
        tx.execute(&statement, &line).await.map_err(|e| Error::database(&doing(), e))?;
        tx.commit().await.map_err(|e| Error::database(&doing(), e))?;
        Ok(Stored { rows: part.stored, duplicates, quarantined, already: false })
    }
}

/// What the ledger says of a batch.
struct LedgerLine {
    rows: i64,
    digest: Vec<u8>,
    digest_form: i16,
    quarantined: i64,
}

impl LedgerLine {
    /// The batch is stored, if it is this one.
    fn check<R>(self, batch: &Batch<R>, digest: &[u8]) -> Result<Stored> {
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

pub(super) fn batch_id<R: Record>(batch: &Batch<R>) -> Option<Uuid> {
    sql::has_batch_id(R::TABLE).then_some(batch.id)
}

/// Another send of the same batch was faster.
fn is_ledger_conflict(error: &Error) -> bool {
    error.sqlstate() == Some("23505") && error.to_string().contains("ingest_batch_pkey")
}

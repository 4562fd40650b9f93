//! Puts a batch into the database: rows and ledger line in one transaction, once.

use std::time::{Duration, Instant};

use backon::{BackoffBuilder, ExponentialBuilder};
use deadpool_postgres::Transaction;
use tokio::time::timeout;
use tokio_postgres::IsolationLevel;
use tracing::Instrument;
use uuid::Uuid;

use super::batch::Batch;
use super::digest::digest;
use super::modules::Modules;
use super::part::Outcome;
use super::rows::Rows;
use super::{count, ledger, sql};
use crate::config::Config;
use crate::engine::{Capabilities, Engine};
use crate::error::{Error, ErrorKind, Result};
use crate::lease::{Lease, pool_error};
use crate::pool::Pool;
use crate::records::Record;

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
    modules: Modules,
}

impl Sender {
    pub(crate) fn new(pool: Pool, capabilities: Capabilities, config: Config, deadline: Duration) -> Self {
        Self { pool, capabilities, config, deadline, modules: Modules::default() }
    }

    /// Sends until it is stored, a failure that can't pass comes up, or patience ends. Tells
    /// `on_retry` of every failure in between.
    pub(crate) async fn send<R: Record>(
        &self,
        batch: &Batch<R>,
        patience: Patience,
        on_retry: impl FnMut(&Error) + Send,
    ) -> Result<Outcome> {
        let span = tracing::debug_span!("writer.batch", table = R::TABLE, batch = %batch.id, rows = batch.rows.len());
        self.send_in_span(batch, patience, on_retry).instrument(span).await
    }

    async fn send_in_span<R: Record>(
        &self,
        batch: &Batch<R>,
        patience: Patience,
        mut on_retry: impl FnMut(&Error) + Send,
    ) -> Result<Outcome> {
        let began = Instant::now();
        let backoff =
            ExponentialBuilder::default().with_min_delay(Duration::from_millis(50)).with_max_delay(Duration::from_secs(5)).with_jitter();
        let mut pauses = match patience {
            Patience::Endless => backoff.without_max_times().build(),
            Patience::Tries(tries) => backoff.with_max_times(tries.saturating_sub(1)).build(),
        };
        let (mut known, mut halve) = (batch.known, false);
        loop {
            let deadline = if halve { self.deadline * HALVING } else { self.deadline };
            let attempt = self.attempt(batch, known, halve).instrument(tracing::debug_span!("writer.attempt", known, halve));
            let error = match timeout(deadline, attempt).await {
                Ok(Ok(outcome)) => {
                    count::stored(batch, &outcome.stored, began.elapsed());
                    return Ok(outcome);
                }
                Ok(Err(error)) => error,
                Err(_) => Error::new(
                    ErrorKind::Timeout,
                    format!("batch {} of {}: the database did not answer within {} s", batch.id, R::TABLE, deadline.as_secs_f64()),
                ),
            };
            // From now on the batch may be there: its COMMIT's answer may be what was lost.
            known = true;
            // A module that was deleted by hand would condemn rows that are good.
            self.modules.forget();
            if error.is_data() && !halve && !batch.whole {
                halve = true;
                continue;
            }
            if !error.is_retryable() {
                return Err(error);
            }
            let Some(pause) = pauses.next() else { return Err(error) };
            tracing::warn!(batch = %batch.id, table = R::TABLE, %error, ?pause, "batch not stored, trying again");
            count::retried(R::TABLE, &error);
            on_retry(&error);
            tokio::time::sleep(pause).await;
        }
    }

    async fn attempt<R: Record>(&self, batch: &Batch<R>, known: bool, halve: bool) -> Result<Outcome> {
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

    async fn attempt_on<R: Record>(&self, lease: &mut Lease, batch: &Batch<R>, known: bool, halve: bool) -> Result<Outcome> {
        let (module_ids, unnamed) = self.modules.ids(lease, &batch.rows, halve).await?;
        if known && let Some(line) = ledger::find(lease, batch).await? {
            let digest = digest(line.digest_form, batch, &module_ids);
            let stored = line.check(batch, &digest)?;
            let refused = if stored.quarantined > 0 { ledger::find_refused(lease, batch).await? } else { Vec::new() };
            return Ok(Outcome { stored, refused });
        }
        let tx = self.begin::<R>(lease).await?;
        #[cfg(feature = "cli")]
        if let Some(guard) = &batch.guard {
            guard.hold(&tx).await?;
        }
        let rows = Rows { tx: &tx, batch, module_ids: &module_ids, unnamed: &unnamed, copy_in: self.capabilities.copy_in };
        let part = async { if halve { rows.store_halves().await } else { rows.store(0..batch.rows.len()).await } }
            .instrument(tracing::debug_span!("writer.rows"))
            .await?;
        if batch.whole
            && let Some(refused) = part.refused.first()
        {
            return Err(Error::new(ErrorKind::Invalid, refused.reason.clone()));
        }
        match ledger::finish(tx, batch, &module_ids, part).instrument(tracing::debug_span!("writer.commit")).await {
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
        let mut settings = format!("SET LOCAL statement_timeout = {limit}; SET LOCAL idle_in_transaction_session_timeout = {limit}");
        if self.capabilities.engine == Engine::Timescaledb && !sql::can_copy(R::TABLE) {
            // A late replay looks its ids up in the columnstore; the default would stop it.
            settings.push_str("; SET LOCAL timescaledb.max_tuples_decompressed_per_dml_transaction = 0");
        }
        tx.batch_execute(&settings).await.map_err(|e| Error::database(doing, e))?;
        Ok(tx)
    }
}

pub(super) fn batch_id<R: Record>(batch: &Batch<R>) -> Option<Uuid> {
    sql::has_batch_id(R::TABLE).then_some(batch.id)
}

/// Another send of the same batch was faster.
fn is_ledger_conflict(error: &Error) -> bool {
    error.sqlstate() == Some("23505") && error.to_string().contains("ingest_batch_pkey")
}

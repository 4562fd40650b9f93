//! What the platform asks and decides: one noun a file, SQL in place.

mod aggregate;
mod ask;
mod audit;
mod database_manager;
mod grant;
mod health_check;
mod ledger;
mod legacy;
mod loose_end;
mod module;
mod open;
mod order;
mod portfolio;
mod preview;
mod proposal;
mod quarantine;
mod regime;
mod retention;
mod upkeep;
mod upkeep_policy;

pub use aggregate::{Freshness, Refreshed};
pub use audit::{Anchor, Audit, Finding, Sealed};
pub use database_manager::{DatabaseManager, ModuleReport};
pub use grant::Granted;
pub use ledger::LedgerTotal;
pub use legacy::ImportedTable;
pub use loose_end::LooseEnd;
pub use module::{ModuleRow, ModuleSilence, ModuleStats};
pub use order::{ExecutionReport, OrderEventRow};
pub use portfolio::PortfolioRow;
pub use preview::Due;
pub use proposal::TrailStep;
pub use quarantine::{QuarantineFilter, Quarantined, Resolution, ResolveOutcome, Resolved};
pub use regime::{RegimeEvent, RegimeRule};
pub use retention::Trimmed;
pub use upkeep_policy::{MIN_RETENTION_DAYS, UpkeepChange, UpkeepPolicy};

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use deadpool_postgres::Transaction;
use tracing::Instrument;

use crate::config::Config;
use crate::engine::Capabilities;
use crate::error::{Error, ErrorKind, Result, Unanswered};
use crate::lease::{Lease, pool_error};
use crate::migrate::{self, SchemaState};
use crate::pool::{self, Object, Pool};
use crate::records::{Json, Record};
use crate::writer::{Batch, Patience, Sender, Stored, Writer, WriterConfig};

/// The future that [`Store::run_tx`] is handed.
pub type TxFuture<'t, T> = Pin<Box<dyn Future<Output = Result<T>> + Send + 't>>;

/// The database, as the platform's modules and tools see it. Cheap to clone; clones share a pool.
#[derive(Clone)]
pub struct Store {
    pool: Pool,
    sender: Sender,
    capabilities: Capabilities,
    config: Config,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store")
            .field("database", &self.config.to_string())
            .field("engine", &self.capabilities.engine)
            .finish_non_exhaustive()
    }
}

impl Store {
    /// Connects, finds out what the server is and whether its schema is this program's.
    ///
    /// # Errors
    /// `Unreachable` when nobody answers; `Refused` when the login, the server or the schema is
    /// not fit (empty, behind, newer or diverged: the message says which and what to do).
    pub async fn connect(config: Config) -> Result<Self> {
        let (store, state) = Self::connect_unchecked(config).await?;
        state.require_current()?;
        Ok(store)
    }

    /// Connects without looking at the schema: for tools that report on it.
    ///
    /// # Errors
    /// As [`Store::connect`], but for the schema's state.
    pub async fn connect_unchecked(config: Config) -> Result<(Self, SchemaState)> {
        let client = config.connect().await?;
        let looking = async {
            let capabilities = Capabilities::detect(&client).await?;
            let state = migrate::schema_state(&client, capabilities.engine).await?;
            Ok((capabilities, state))
        };
        let (capabilities, state) = tokio::time::timeout(config.statement_timeout, looking)
            .await
            .unwrap_or_else(|_| Err(Error::unanswered(&format!("looking at {config}"), Unanswered::Late(config.statement_timeout))))?;
        drop(client);
        Ok((Self::with_capabilities(config, capabilities)?, state))
    }

    fn with_capabilities(config: Config, capabilities: Capabilities) -> Result<Self> {
        let pool = pool::build(&config, config.pool_size.min(capabilities.max_connections))?;
        let sender = Sender::new(pool.clone(), capabilities.clone(), config.clone(), config.statement_timeout);
        Ok(Self { pool, sender, capabilities, config })
    }

    /// What the server can do.
    pub fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    /// The settings that this store was connected with.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// A connection of the pool, for SQL of one's own. It goes back when dropped.
    ///
    /// # Errors
    /// `Timeout` when none is free in time, `Unreachable` when none can be made.
    pub async fn client(&self) -> Result<Object> {
        self.pool.get().await.map_err(|e| pool_error(e, &self.config))
    }

    /// What a writer sends with that is made before the database is reached.
    pub(crate) fn sender(&self, deadline: Duration) -> Sender {
        Sender::new(self.pool.clone(), self.capabilities.clone(), self.config.clone(), deadline)
    }

    /// A writer that hands records to this store.
    pub fn writer(&self, config: WriterConfig) -> Writer {
        Writer::new(self.pool.clone(), self.capabilities.clone(), self.config.clone(), config)
    }

    /// Stores one batch and waits for it: for those who batch themselves, and for single rows. Sent
    /// again under the same id, it is stored once.
    ///
    /// # Errors
    /// What kept it from being stored, after [`Config::max_attempts`] tries where trying helps.
    pub async fn batch_store<R: Record>(&self, batch: &Batch<R>) -> Result<Stored> {
        self.sender.send(batch, Patience::Tries(self.config.max_attempts), |_| ()).await.map(|outcome| outcome.stored)
    }

    /// [`Store::batch_store`] with more patience, or less.
    #[cfg(feature = "cli")]
    pub(crate) async fn batch_send<R: Record>(
        &self,
        batch: &Batch<R>,
        patience: Patience,
        on_retry: impl FnMut(&Error) + Send,
    ) -> Result<Stored> {
        self.sender.send(batch, patience, on_retry).await.map(|outcome| outcome.stored)
    }

    /// Runs `f` in a transaction (READ COMMITTED) and commits it.
    ///
    /// It is run again, with growing pauses, when it fails for a reason that may pass
    /// ([`Error::is_retryable`]), [`Config::max_attempts`] times in all; `f` must therefore have no
    /// effect outside the transaction. A COMMIT whose answer was lost is not retried, because it
    /// may have taken effect: the error says so.
    ///
    /// # Errors
    /// What `f` returns, or what kept the transaction from committing.
    pub async fn run_tx<T, F>(&self, name: &'static str, f: F) -> Result<T>
    where
        T: Send,
        F: for<'t> Fn(&'t Transaction<'t>) -> TxFuture<'t, T> + Send + Sync,
    {
        let backoff = ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(20))
            .with_max_delay(Duration::from_secs(2))
            .with_max_times(self.config.max_attempts.saturating_sub(1))
            .with_jitter();
        let attempt = || async {
            match tokio::time::timeout(self.config.statement_timeout, self.try_tx(name, &f)).await {
                Ok(Ok(value)) => Ok(value),
                Ok(Err(failure)) => Err(failure),
                Err(_) => Err(Failure {
                    error: Error::new(
                        ErrorKind::Timeout,
                        format!("{name}: no answer within {} s", self.config.statement_timeout.as_secs_f64()),
                    ),
                    final_: true,
                }),
            }
        };
        attempt
            .retry(backoff)
            .when(|failure| !failure.final_ && failure.error.is_retryable())
            .notify(|failure, pause| tracing::warn!(name, error = %failure.error, ?pause, "transaction failed, trying again"))
            .instrument(tracing::debug_span!("tx", name))
            .await
            .map_err(|failure| failure.error)
    }

    async fn try_tx<T, F>(&self, name: &'static str, f: &F) -> Result<T, Failure>
    where
        T: Send,
        F: for<'t> Fn(&'t Transaction<'t>) -> TxFuture<'t, T> + Send + Sync,
    {
        let mut lease = Lease::new(self.client().await?);
        let tx = lease.client().transaction().await.map_err(|e| Error::database(name, e))?;
        let value = match f(&tx).await {
            Ok(value) => value,
            Err(error) => {
                // Best effort: a connection that can't roll back is closed with the lease.
                if tx.rollback().await.is_ok() {
                    lease.give_back();
                }
                return Err(error.into());
            }
        };
        if let Err(e) = tx.commit().await {
            let lost = e.code().is_none();
            let mut error = Error::database(name, e);
            if lost {
                error = Error::new(
                    ErrorKind::Unreachable,
                    format!(
                        "{error}; the connection was lost during COMMIT, so the change may or may not have been made: look before trying again"
                    ),
                );
            }
            return Err(Failure { error, final_: lost });
        }
        lease.give_back();
        Ok(value)
    }
}

/// An error, and whether trying again is out of the question whatever its code.
struct Failure {
    error: Error,
    final_: bool,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self { error, final_: false }
    }
}

/// JSON that the server printed as text.
fn json(doing: &str, text: Option<String>) -> Result<Option<Json>> {
    text.map(|text| Json::parse(&text).map_err(|e| Error::new(ErrorKind::Database, format!("{doing}: {e}")))).transpose()
}

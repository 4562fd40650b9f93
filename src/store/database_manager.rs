//! The names of the data layer that this store replaces, for callers that were ported from it.

use super::{ExecutionReport, ModuleRow, ModuleStats, Store, Trimmed};
use crate::error::{Error, ErrorKind, Result};
use crate::records::{
    HealthCheck, Json, Module, ModuleExecution, ModuleStatus, OrderEvent, PortfolioSnapshot, Proposal, Record, RegimeState, RiskEvaluation,
    Signal,
};
use crate::writer::Batch;

/// The old `DatabaseManager`'s methods over a [`Store`]. Each names the newer way, which callers should
/// move to: a [`Writer`](crate::Writer) stores thousands of records in the time that this takes for one,
/// because each call here is a batch and a commit of its own. Sent again after a lost answer, a call's
/// record is stored once.
#[derive(Debug, Clone)]
pub struct DatabaseManager {
    store: Store,
    producer: String,
}

/// A module's figures with its newest health checks.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct ModuleReport {
    /// Its figures.
    pub stats: ModuleStats,
    /// Its ten newest health checks, newest first.
    pub health_checks: Vec<HealthCheck>,
}

impl DatabaseManager {
    /// Over a store; `producer` is who the ledger names for what is written here.
    pub fn new(store: Store, producer: impl Into<String>) -> Self {
        Self { store, producer: producer.into() }
    }

    /// The store beneath.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Registers a module, or updates version and config of one that is known; its status is active from
    /// now on. The newer way: [`Store::module_register`].
    ///
    /// # Errors
    /// `Invalid` when the name or version breaks a rule.
    pub async fn register_module(&self, name: &str, version: &str, config: Option<Json>) -> Result<ModuleRow> {
        let mut module = Module::new(name, version);
        module.config = config;
        self.store.module_register(module).await
    }

    /// Sets a module's status: active, inactive, error or maintenance. The newer way:
    /// [`Store::module_set_status`].
    ///
    /// # Errors
    /// `Invalid` for another word, `NotFound` for a module that is not registered.
    pub async fn update_module_status(&self, name: &str, status: &str, error_message: Option<&str>) -> Result<ModuleRow> {
        let status: ModuleStatus = status.to_lowercase().parse()?;
        self.store.module_set_status(name, status, error_message).await?;
        self.store.module_get(name).await?.ok_or_else(|| gone("module", name))
    }

    /// Stores one run of a module; count, success rate and mean time follow from all runs and are
    /// never written. The newer way: [`Writer::write`](crate::Writer::write) of a [`ModuleExecution`].
    ///
    /// # Errors
    /// `Invalid` when it breaks a rule.
    pub async fn record_module_execution(
        &self,
        name: &str,
        duration_ms: f64,
        success: bool,
        error_message: Option<&str>,
    ) -> Result<ModuleExecution> {
        let mut run = ModuleExecution::new(name, duration_ms);
        run.success = success;
        run.error_message = error_message.map(str::to_owned);
        self.put(run).await
    }

    /// Every module, by name. The newer way: [`Store::module_list`].
    ///
    /// # Errors
    /// Whatever the database answers.
    pub async fn get_all_modules(&self) -> Result<Vec<ModuleRow>> {
        self.store.module_list().await
    }

    /// A module. The newer way: [`Store::module_get`].
    ///
    /// # Errors
    /// Whatever the database answers.
    pub async fn get_module_by_name(&self, name: &str) -> Result<Option<ModuleRow>> {
        self.store.module_get(name).await
    }

    /// A module's figures with its ten newest health checks. The newer way: [`Store::module_stats`] and
    /// [`Store::health_check_latest`].
    ///
    /// # Errors
    /// Whatever the database answers.
    pub async fn get_module_stats(&self, name: &str) -> Result<Option<ModuleReport>> {
        let Some(stats) = self.store.module_stats_of(name).await? else { return Ok(None) };
        Ok(Some(ModuleReport { stats, health_checks: self.store.health_check_latest(name, 10).await? }))
    }

    /// Stores a health check. The newer way: [`Writer::write`](crate::Writer::write).
    ///
    /// # Errors
    /// `Invalid` when it breaks a rule.
    pub async fn record_health_check(&self, check: HealthCheck) -> Result<HealthCheck> {
        self.put(check).await
    }

    /// Proposes a regime; it takes effect at once, in place of the one in force, unless a person has to
    /// confirm it: then it stays proposed, as the answer's status says. The newer way:
    /// [`Store::regime_propose`].
    ///
    /// # Errors
    /// `Invalid` when it breaks a rule.
    pub async fn set_active_regime(&self, regime: RegimeState) -> Result<RegimeState> {
        self.store.regime_propose(regime).await
    }

    /// Records what a person decided on a regime that waits for it: confirmed, it is in force from now on;
    /// rejected, the one in force stays. The newer way: [`Store::regime_confirm`] and
    /// [`Store::regime_reject`].
    ///
    /// # Errors
    /// `Invalid` for an empty name, `NotFound` for an unknown id, `Conflict` when it was decided already: the
    /// message says how and by whom.
    pub async fn update_regime(&self, regime_id: &str, confirmed: bool, decided_by: &str, notes: Option<&str>) -> Result<RegimeState> {
        match confirmed {
            true => self.store.regime_confirm(regime_id, decided_by, notes).await,
            false => self.store.regime_reject(regime_id, decided_by, notes).await,
        }
    }

    /// The regime in force. The newer way: [`Store::regime_active`].
    ///
    /// # Errors
    /// Whatever the database answers.
    pub async fn get_active_regime(&self) -> Result<Option<RegimeState>> {
        self.store.regime_active().await
    }

    /// Stores a verdict on a proposal, known or not. The newer way:
    /// [`Writer::write`](crate::Writer::write).
    ///
    /// # Errors
    /// `Invalid` when it breaks a rule.
    pub async fn store_risk_evaluation(&self, evaluation: RiskEvaluation) -> Result<RiskEvaluation> {
        self.put(evaluation).await
    }

    /// Stores what happened to an order and says where it stands now. A report is no longer written: it
    /// follows from all of the order's events. The newer way: [`Writer::write`](crate::Writer::write) of
    /// each [`OrderEvent`], and [`Store::execution_report`].
    ///
    /// # Errors
    /// `Invalid` without events, with those of several orders, and when one breaks a rule.
    pub async fn store_execution_report(&self, events: Vec<OrderEvent>) -> Result<ExecutionReport> {
        let Some(order_id) = events.first().map(|e| e.order_id.clone()) else {
            return Err(Error::new(ErrorKind::Invalid, "an execution report follows from events, and there are none"));
        };
        if let Some(other) = events.iter().find(|e| e.order_id != order_id) {
            return Err(Error::new(ErrorKind::Invalid, format!("events of two orders, '{order_id}' and '{}'", other.order_id)));
        }
        self.put_all(events).await?;
        self.store.execution_report(&order_id).await?.ok_or_else(|| gone("order", &order_id))
    }

    /// Stores the portfolio as it is. The newer way: [`Writer::write`](crate::Writer::write).
    ///
    /// # Errors
    /// `Invalid` when it breaks a rule.
    pub async fn create_portfolio_snapshot(&self, snapshot: PortfolioSnapshot) -> Result<PortfolioSnapshot> {
        self.put(snapshot).await
    }

    /// Stores a signal and answers with its id. The newer way: [`Writer::write`](crate::Writer::write).
    ///
    /// # Errors
    /// `Invalid` when it breaks a rule.
    pub async fn save_signal(&self, signal: Signal) -> Result<String> {
        Ok(self.put(signal).await?.signal_id)
    }

    /// Stores a proposal and answers with its id. The newer way: [`Writer::write`](crate::Writer::write).
    ///
    /// # Errors
    /// `Invalid` when it breaks a rule.
    pub async fn save_proposal(&self, proposal: Proposal) -> Result<String> {
        Ok(self.put(proposal).await?.proposal_id)
    }

    /// Runs upkeep as it is configured: on every table, not on health checks alone. `days` deletes nothing
    /// that the policies keep; where they keep health checks for longer than that, a warning says so.
    /// The newer way: [`Store::upkeep_set`] once, and [`Store::maintain`].
    ///
    /// # Errors
    /// Whatever the database answers.
    pub async fn cleanup_old_data(&self, days: u32) -> Result<Vec<Trimmed>> {
        for policy in self.store.upkeep_policies().await?.iter().filter(|p| p.table_name == "health_check") {
            if policy.drop_after_seconds.is_none_or(|kept| kept > i64::from(days) * 86_400) {
                tracing::warn!(days, "health checks are kept for longer, as hitherto.upkeep_policy says; see: hitherto retention set");
            }
        }
        self.store.aggregate_refresh().await?;
        self.store.maintain().await
    }

    async fn put<R: Record>(&self, record: R) -> Result<R> {
        self.put_all(vec![record.clone()]).await?;
        Ok(record)
    }

    async fn put_all<R: Record>(&self, records: Vec<R>) -> Result<()> {
        let batch = Batch::new(&*self.producer, records)?;
        match self.store.batch_store(&batch).await?.quarantined {
            0 => Ok(()),
            n => Err(Error::new(
                ErrorKind::Invalid,
                format!("the database refused {n} of {}; the reason is in hitherto.quarantine, batch {}", R::TABLE, batch.id()),
            )),
        }
    }
}

fn gone(what: &str, name: &str) -> Error {
    Error::new(ErrorKind::NotFound, format!("{what} '{name}' is gone: it was deleted meanwhile"))
}

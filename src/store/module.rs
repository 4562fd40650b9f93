//! The platform's modules.

use chrono::{DateTime, Utc};
use serde::Serialize;
use tokio_postgres::Row;

use super::Store;
use crate::error::{Error, ErrorKind, Result};
use crate::records::{Module, ModuleStatus};
use crate::writer::Batch;

/// A row of `hitherto.module`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ModuleRow {
    /// Number that other tables refer to.
    pub module_id: i64,
    /// Name.
    pub name: String,
    /// Version it last registered with; `unknown` if it only wrote.
    pub version: String,
    /// `active`, `inactive`, `error` or `maintenance`.
    pub status: String,
    /// Why its status is error.
    pub error_message: Option<String>,
    /// When it was first heard of.
    pub registered_at: DateTime<Utc>,
    /// When the row last changed.
    pub updated_at: DateTime<Utc>,
}

/// A row of `hitherto.module_stats`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ModuleStats {
    /// Module.
    pub name: String,
    /// Version it last registered with.
    pub version: String,
    /// `active`, `inactive`, `error` or `maintenance`.
    pub status: String,
    /// Runs ever.
    pub execution_count: i64,
    /// Share of runs that succeeded, 0 to 1; `None` without runs.
    pub success_rate: Option<f64>,
    /// Mean duration of a run, milliseconds.
    pub avg_execution_time_ms: Option<f64>,
    /// When the latest run began.
    pub last_execution: Option<DateTime<Utc>>,
    /// Latest health check.
    pub last_check: Option<DateTime<Utc>>,
    /// What it said.
    pub last_status: Option<String>,
    /// Why its status is error.
    pub error_message: Option<String>,
    /// Latest record of any kind.
    pub last_heard_at: Option<DateTime<Utc>>,
}

/// A row of `hitherto.module_silence`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ModuleSilence {
    /// Module.
    pub module: String,
    /// `active`, `inactive`, `error` or `maintenance`.
    pub status: String,
    /// Latest record of any kind.
    pub last_heard_at: Option<DateTime<Utc>>,
    /// What nine in ten of its gaps do not exceed, seconds; `None` for one that said too little.
    pub usual_interval_seconds: Option<f64>,
    /// From its latest word to the latest word of any module, seconds.
    pub silent_for_seconds: Option<f64>,
    /// Whether that is too long.
    pub silent: bool,
}

fn module_row(row: &Row) -> ModuleRow {
    ModuleRow {
        module_id: row.get(0),
        name: row.get(1),
        version: row.get(2),
        status: row.get(3),
        error_message: row.get(4),
        registered_at: row.get(5),
        updated_at: row.get(6),
    }
}

impl Store {
    /// Registers a module, or updates the version, status and config of one that is known.
    ///
    /// # Errors
    /// `Invalid` when the name or version breaks a rule.
    pub async fn module_register(&self, module: Module) -> Result<ModuleRow> {
        let name = module.name.clone();
        self.batch_store(&Batch::new("registry", vec![module])?).await?;
        self.module_get(&name).await?.ok_or_else(|| unknown(&name))
    }

    /// A module by its name.
    ///
    /// # Errors
    /// Whatever the database answers.
    pub async fn module_get(&self, name: &str) -> Result<Option<ModuleRow>> {
        let row = self
            .asking()
            .await?
            .query_opt(
                "-- module_get
                 SELECT module_id, name, version, status, error_message, registered_at, updated_at FROM hitherto.module WHERE name = $1",
                &[&name],
            )
            .await
            .map_err(|e| Error::unanswered("reading a module", e))?;
        Ok(row.as_ref().map(module_row))
    }

    /// Every module, by name.
    ///
    /// # Errors
    /// Whatever the database answers.
    pub async fn module_list(&self) -> Result<Vec<ModuleRow>> {
        let rows = self
            .asking()
            .await?
            .query(
                "-- module_list
                 SELECT module_id, name, version, status, error_message, registered_at, updated_at FROM hitherto.module ORDER BY name",
                &[],
            )
            .await
            .map_err(|e| Error::unanswered("reading modules", e))?;
        Ok(rows.iter().map(module_row).collect())
    }

    /// Sets a module's status, and the reason when it is `error`.
    ///
    /// # Errors
    /// `NotFound` for a module that is not registered.
    pub async fn module_set_status(&self, name: &str, status: ModuleStatus, error_message: Option<&str>) -> Result<()> {
        let changed = self
            .asking()
            .await?
            .execute(
                "-- module_set_status
                 UPDATE hitherto.module SET status = $2, error_message = $3, updated_at = clock_timestamp() WHERE name = $1",
                &[&name, &status.as_str(), &error_message],
            )
            .await
            .map_err(|e| Error::unanswered("setting a module's status", e))?;
        if changed == 0 { Err(unknown(name)) } else { Ok(()) }
    }

    /// How every module has done so far, by name.
    ///
    /// # Errors
    /// Whatever the database answers.
    pub async fn module_stats(&self) -> Result<Vec<ModuleStats>> {
        self.stats(None).await
    }

    /// How one module has done so far; `None` for one that is not registered.
    ///
    /// # Errors
    /// Whatever the database answers.
    pub async fn module_stats_of(&self, name: &str) -> Result<Option<ModuleStats>> {
        Ok(self.stats(Some(name)).await?.pop())
    }

    async fn stats(&self, name: Option<&str>) -> Result<Vec<ModuleStats>> {
        let rows = self
            .asking()
            .await?
            .query(
                "-- module_stats
                 SELECT name, version, status, execution_count, success_rate, avg_execution_time_ms,
                        last_execution, last_check, last_status, error_message, last_heard_at
                 FROM hitherto.module_stats WHERE $1::text IS NULL OR name = $1 ORDER BY name",
                &[&name],
            )
            .await
            .map_err(|e| Error::unanswered("reading hitherto.module_stats", e))?;
        Ok(rows
            .iter()
            .map(|row| ModuleStats {
                name: row.get(0),
                version: row.get(1),
                status: row.get(2),
                execution_count: row.get(3),
                success_rate: row.get(4),
                avg_execution_time_ms: row.get(5),
                last_execution: row.get(6),
                last_check: row.get(7),
                last_status: row.get(8),
                error_message: row.get(9),
                last_heard_at: row.get(10),
            })
            .collect())
    }

    /// Which modules have fallen silent, by name.
    ///
    /// # Errors
    /// Whatever the database answers.
    pub async fn module_silence(&self) -> Result<Vec<ModuleSilence>> {
        let rows = self
            .asking()
            .await?
            .query(
                "-- module_silence
                 SELECT module, status, last_heard_at, extract(epoch FROM usual_interval)::float8, extract(epoch FROM silent_for)::float8, silent
                 FROM hitherto.module_silence ORDER BY module",
                &[],
            )
            .await
            .map_err(|e| Error::unanswered("reading hitherto.module_silence", e))?;
        Ok(rows
            .iter()
            .map(|row| ModuleSilence {
                module: row.get(0),
                status: row.get(1),
                last_heard_at: row.get(2),
                usual_interval_seconds: row.get(3),
                silent_for_seconds: row.get(4),
                silent: row.get(5),
            })
            .collect())
    }

    /// Since when no module has said anything, if that is longer ago than its most talkative module lets
    /// expect. `None` for a store that was not written to as things happened (it holds loaded history), and
    /// for one that has been at rest for more than a week.
    ///
    /// # Errors
    /// Whatever the database answers.
    pub async fn silent_since(&self) -> Result<Option<DateTime<Utc>>> {
        let row = self
            .asking()
            .await?
            .query_opt(
                "-- silent_since
                 SELECT s.last_heard_at FROM (SELECT max(last_heard_at) AS last_heard_at, min(usual_interval) AS usual_interval
                                              FROM hitherto.module_silence WHERE status NOT IN ('inactive', 'maintenance')) s
                 WHERE now() - s.last_heard_at > s.usual_interval * hitherto.silent_after() AND now() - s.last_heard_at < INTERVAL '7 days'
                   -- What was written as it happened reached the ledger within minutes.
                   AND EXISTS (SELECT FROM hitherto.ingest_batch b WHERE b.max_time = s.last_heard_at
                               AND b.table_name IN ('module_execution', 'health_check', 'signal', 'proposal', 'risk_evaluation')
                               AND b.committed_at - b.max_time < INTERVAL '10 minutes')",
                &[],
            )
            .await
            .map_err(|e| Error::unanswered("looking for silence", e))?;
        Ok(row.map(|row| row.get(0)))
    }
}

fn unknown(name: &str) -> Error {
    Error::new(ErrorKind::NotFound, format!("module '{name}' is not registered"))
}

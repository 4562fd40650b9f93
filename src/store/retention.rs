//! Old raw rows go; columnstore comes.

use chrono::Duration;
use serde::Serialize;

use super::Store;
use crate::engine::Engine;
use crate::error::{Error, ErrorKind, Result};

/// What retention or the columnstore did to one table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Trimmed {
    /// The policy: `retention` or `columnstore`.
    pub policy: String,
    /// The table.
    pub table_name: String,
    /// Rows deleted (plain PostgreSQL) or chunks dropped or converted (TimescaleDB).
    pub count: i64,
}

/// Rows deleted in one transaction on plain PostgreSQL: small enough that no lock is held for long.
const DELETE_ROWS: i64 = 10_000;

macro_rules! delete {
    ($table:literal, $time:literal) => {
        concat!(
            "-- retention_delete\nDELETE FROM hitherto.",
            $table,
            " WHERE ctid = ANY (ARRAY(SELECT ctid FROM hitherto.",
            $table,
            " WHERE ",
            $time,
            " < now() - (SELECT drop_after FROM hitherto.retention_policy WHERE table_name = $1) LIMIT $2))"
        )
    };
}

/// The tables that can have a retention policy, each with the statement that deletes a slice of it.
const DELETES: [(&str, &str); 6] = [
    ("module_execution", delete!("module_execution", "started_at")),
    ("health_check", delete!("health_check", "checked_at")),
    ("signal", delete!("signal", "emitted_at")),
    ("risk_evaluation", delete!("risk_evaluation", "evaluated_at")),
    ("order_event", delete!("order_event", "event_at")),
    ("portfolio_snapshot", delete!("portfolio_snapshot", "taken_at")),
];

impl Store {
    /// Keeps a table's raw rows for `drop_after` from now on; `None` keeps them for ever.
    ///
    /// # Errors
    /// `Config` for a table that can't have a policy, or an age that is not positive.
    pub async fn retention_set(&self, table_name: &str, drop_after: Option<Duration>) -> Result<()> {
        if !DELETES.iter().any(|(name, _)| *name == table_name) {
            let known: Vec<&str> = DELETES.iter().map(|(name, _)| *name).collect();
            return Err(Error::new(
                ErrorKind::Config,
                format!("table '{table_name}' can't have a retention policy; these can: {}", known.join(", ")),
            ));
        }
        if drop_after.is_some_and(|age| age <= Duration::zero()) {
            return Err(Error::new(ErrorKind::Config, "a retention policy's age must be more than nothing"));
        }
        let seconds = drop_after.map(|age| age.num_seconds() as f64);
        self.client()
            .await?
            .execute("-- retention_set\nSELECT hitherto.retention_set($1, $2::float8 * INTERVAL '1 second')", &[&table_name, &seconds])
            .await
            .map_err(|e| Error::database("setting a retention policy", e))?;
        Ok(())
    }

    /// Runs what is due: retention, and on TimescaleDB the columnstore.
    ///
    /// # Errors
    /// Whatever the database answers.
    pub async fn maintain(&self) -> Result<Vec<Trimmed>> {
        match self.capabilities().engine {
            Engine::Timescaledb => self.run_policies().await,
            Engine::Postgresql => self.delete_old_rows().await,
        }
    }

    async fn delete_old_rows(&self) -> Result<Vec<Trimmed>> {
        let doing = "deleting old rows";
        let client = self.client().await?;
        let mut trimmed = Vec::new();
        for (table_name, delete) in DELETES {
            let statement = client.prepare_cached(delete).await.map_err(|e| Error::database(doing, e))?;
            let mut count = 0;
            loop {
                let deleted = client.execute(&statement, &[&table_name, &DELETE_ROWS]).await.map_err(|e| Error::database(doing, e))?;
                count += i64::try_from(deleted).unwrap_or(i64::MAX);
                if deleted == 0 {
                    break;
                }
            }
            if count > 0 {
                trimmed.push(Trimmed { policy: "retention".to_owned(), table_name: table_name.to_owned(), count });
            }
        }
        Ok(trimmed)
    }

    async fn run_policies(&self) -> Result<Vec<Trimmed>> {
        let doing = "running policies";
        let client = self.client().await?;
        let jobs = client
            .query(
                "-- policy_jobs
                 SELECT job_id, proc_name, hypertable_name FROM timescaledb_information.jobs
                 WHERE hypertable_schema = 'hitherto' AND proc_name IN ('policy_retention', 'policy_compression') AND scheduled
                 ORDER BY proc_name DESC, hypertable_name",
                &[],
            )
            .await
            .map_err(|e| Error::database(doing, e))?;
        let mut trimmed = Vec::new();
        for job in jobs {
            let (job_id, proc_name, table_name): (i32, String, String) = (job.get(0), job.get(1), job.get(2));
            let retention = proc_name == "policy_retention";
            let before = chunks(&client, &table_name, retention).await?;
            // CALL takes no parameters through the extended protocol everywhere; the id is the catalogue's own.
            client.batch_execute(&format!("CALL run_job({job_id})")).await.map_err(|e| Error::database(doing, e))?;
            let after = chunks(&client, &table_name, retention).await?;
            if before != after {
                let policy = if retention { "retention" } else { "columnstore" };
                trimmed.push(Trimmed { policy: policy.to_owned(), table_name, count: (after - before).abs() });
            }
        }
        Ok(trimmed)
    }
}

/// All chunks of a table, or those in the columnstore.
async fn chunks(client: &tokio_postgres::Client, table_name: &str, all: bool) -> Result<i64> {
    let row = client
        .query_one(
            "-- chunk_count
             SELECT count(*) FROM timescaledb_information.chunks
             WHERE hypertable_schema = 'hitherto' AND hypertable_name = $1 AND ($2 OR is_compressed)",
            &[&table_name, &all],
        )
        .await
        .map_err(|e| Error::database("counting chunks", e))?;
    Ok(row.get(0))
}

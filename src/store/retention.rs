//! Old raw rows go; columnstore comes.

use chrono::Duration;
use serde::Serialize;

use super::Store;
use super::upkeep::{done, when_free};
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

/// The shortest time that raw rows can be kept for, days.
pub const MIN_RETENTION_DAYS: i64 = 8;

/// Rows deleted in one transaction on plain PostgreSQL: small enough that no lock is held for long.
const DELETE_ROWS: i64 = 10_000;

macro_rules! delete {
    ($table:literal, $time:literal, $returning:literal) => {
        concat!(
            "-- retention_delete\nWITH gone AS (DELETE FROM hitherto.",
            $table,
            " WHERE ctid = ANY (ARRAY(SELECT ctid FROM hitherto.",
            $table,
            " WHERE ",
            $time,
            // The horizon never comes back down; the policy may have been loosened since.
            " < (SELECT least(h.dropped_before, now() - p.drop_after) FROM hitherto.retention_policy p
                 JOIN hitherto.retention_horizon h USING (table_name) WHERE p.table_name = $1) LIMIT $2)) RETURNING ",
            $returning,
            ")"
        )
    };
    ($table:literal, $time:literal) => {
        concat!(delete!($table, $time, "1"), " SELECT count(*) FROM gone")
    };
}

/// An order whose events go keeps its report as it is.
const ORDER_EVENT_DELETE: &str = concat!(
    delete!("order_event", "event_at", "order_id"),
    ", noted AS (UPDATE hitherto.execution_report SET events_dropped = true
                 WHERE NOT events_dropped AND order_id IN (SELECT order_id FROM gone))
     SELECT count(*) FROM gone"
);

macro_rules! horizon {
    ($table:literal, $time:literal) => {
        concat!(
            "-- retention_horizon\nINSERT INTO hitherto.retention_horizon AS h (table_name, dropped_before)
             SELECT table_name, now() - drop_after FROM hitherto.retention_policy
             WHERE table_name = '",
            $table,
            "' AND EXISTS (SELECT FROM hitherto.",
            $table,
            " WHERE ",
            $time,
            " < now() - drop_after)
             ON CONFLICT (table_name) DO UPDATE SET dropped_before = greatest(h.dropped_before, excluded.dropped_before)"
        )
    };
}

macro_rules! retained {
    ($table:literal, $time:literal) => {
        Retained { table: $table, horizon: horizon!($table, $time), delete: delete!($table, $time) }
    };
}

/// A table that can have a retention policy.
struct Retained {
    table: &'static str,
    /// Notes what will be dropped, if anything will.
    horizon: &'static str,
    /// Drops a slice of it.
    delete: &'static str,
}

const RETAINED: [Retained; 6] = [
    retained!("module_execution", "started_at"),
    retained!("health_check", "checked_at"),
    retained!("signal", "emitted_at"),
    retained!("risk_evaluation", "evaluated_at"),
    Retained { table: "order_event", horizon: horizon!("order_event", "event_at"), delete: ORDER_EVENT_DELETE },
    retained!("portfolio_snapshot", "taken_at"),
];

impl Store {
    /// Keeps a table's raw rows for `drop_after` from now on; `None` keeps them for ever.
    ///
    /// # Errors
    /// `Config` for a table that can't have a policy, or an age under [`MIN_RETENTION_DAYS`].
    pub async fn retention_set(&self, table_name: &str, drop_after: Option<Duration>) -> Result<()> {
        if !RETAINED.iter().any(|r| r.table == table_name) {
            let known: Vec<&str> = RETAINED.iter().map(|r| r.table).collect();
            return Err(Error::new(
                ErrorKind::Config,
                format!("table '{table_name}' can't have a retention policy; these can: {}", known.join(", ")),
            ));
        }
        if drop_after.is_some_and(|age| age < Duration::days(MIN_RETENTION_DAYS)) {
            return Err(Error::new(
                ErrorKind::Config,
                format!("raw rows are kept for {MIN_RETENTION_DAYS} days at least: aggregates are refreshed from the last week's"),
            ));
        }
        let seconds = drop_after.map(|age| age.num_seconds() as f64);
        self.client()
            .await?
            .execute("-- retention_set\nSELECT hitherto.retention_set($1, $2::float8 * INTERVAL '1 second')", &[&table_name, &seconds])
            .await
            .map_err(|e| Error::database("setting a retention policy", e))?;
        Ok(())
    }

    /// Runs what is due: retention, on TimescaleDB the columnstore, and the expiry of proposed regimes.
    ///
    /// # Errors
    /// Whatever the database answers.
    pub async fn maintain(&self) -> Result<Vec<Trimmed>> {
        self.regime_expire().await?;
        match self.capabilities().engine {
            Engine::Timescaledb => self.run_policies().await,
            Engine::Postgresql => self.delete_old_rows().await,
        }
    }

    async fn delete_old_rows(&self) -> Result<Vec<Trimmed>> {
        let doing = "deleting old rows";
        let client = self.client().await?;
        let mut trimmed = Vec::new();
        for Retained { table, horizon, delete } in RETAINED {
            // Committed before the first row goes: whoever counts rows knows from where on they are whole.
            if client.execute(horizon, &[]).await.map_err(|e| Error::database(doing, e))? == 0 {
                continue;
            }
            let statement = client.prepare_cached(delete).await.map_err(|e| Error::database(doing, e))?;
            let mut count = 0;
            loop {
                let row = client.query_one(&statement, &[&table, &DELETE_ROWS]).await.map_err(|e| Error::database(doing, e))?;
                let deleted: i64 = row.get(0);
                count += deleted;
                if deleted == 0 {
                    break;
                }
            }
            if count > 0 {
                trimmed.push(Trimmed { policy: "retention".to_owned(), table_name: table.to_owned(), count });
            }
        }
        Ok(trimmed)
    }

    async fn run_policies(&self) -> Result<Vec<Trimmed>> {
        let doing = "running policies";
        let mut lease = self.upkeep().await?;
        let client = lease.client();
        let mut trimmed = Vec::new();
        for Retained { table, .. } in RETAINED {
            let before = chunks(client, table, true).await?;
            let apply =
                async || client.execute("CALL hitherto.retention_apply($1)", &[&table]).await.map_err(|e| Error::database(doing, e));
            when_free(apply).await?;
            note(&mut trimmed, "retention", table, before - chunks(client, table, true).await?);
        }
        let jobs = client
            .query(
                "-- policy_jobs
                 SELECT job_id, hypertable_name FROM timescaledb_information.jobs
                 WHERE hypertable_schema = 'hitherto' AND proc_name = 'policy_compression' AND scheduled ORDER BY hypertable_name",
                &[],
            )
            .await
            .map_err(|e| Error::database(doing, e))?;
        for job in jobs {
            let (job_id, table): (i32, String) = (job.get(0), job.get(1));
            let before = chunks(client, &table, false).await?;
            let run = async || client.execute("CALL run_job($1)", &[&job_id]).await.map_err(|e| Error::database(doing, e));
            when_free(run).await?;
            note(&mut trimmed, "columnstore", &table, chunks(client, &table, false).await? - before);
        }
        done(lease).await?;
        Ok(trimmed)
    }
}

fn note(trimmed: &mut Vec<Trimmed>, policy: &str, table_name: &str, count: i64) {
    if count > 0 {
        trimmed.push(Trimmed { policy: policy.to_owned(), table_name: table_name.to_owned(), count });
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

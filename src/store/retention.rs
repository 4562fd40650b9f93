//! Old raw rows go; columnstore comes.

use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;

use super::Store;
use super::upkeep::{done, when_free};
use crate::engine::Engine;
use crate::error::{Error, Result};

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

/// How long a transaction that deletes rows is to take: whoever waits for it waits no longer.
const DELETE_TARGET: Duration = Duration::from_millis(200);

/// Rows deleted in one transaction: from the first guess on, what takes [`DELETE_TARGET`].
const DELETE_ROWS: std::ops::RangeInclusive<i64> = 1..=100_000;
const DELETE_ROWS_FIRST: i64 = 2_000;

const TABLES: &str = "-- upkeep_tables\nSELECT table_name FROM hitherto.upkeep_policy ORDER BY table_name";

impl Store {
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

    /// Day by day, oldest first: what the aggregates say of it is kept, then its rows go.
    async fn delete_old_rows(&self) -> Result<Vec<Trimmed>> {
        let doing = "deleting old rows";
        let mut lease = self.upkeep().await?;
        let client = lease.client();
        let mut trimmed = Vec::new();
        let mut at_most = DELETE_ROWS_FIRST;
        for table in tables(client).await? {
            let days = client
                .query("-- retention_due\nSELECT range_start FROM hitherto.retention_due($1)", &[&table])
                .await
                .map_err(|e| Error::database(doing, e))?;
            let mut count = 0;
            for day in days {
                let day: DateTime<Utc> = day.get(0);
                let keep = async || {
                    client
                        .execute("-- retention_keep\nSELECT hitherto.retention_keep($1, $2)", &[&table, &day])
                        .await
                        .map_err(|e| Error::database(doing, e))
                };
                when_free(keep).await?;
                client
                    .batch_execute("SET statement_timeout = '1s'; SET lock_timeout = '500ms'")
                    .await
                    .map_err(|e| Error::database(doing, e))?;
                // By the hour, so that a transaction does not look through all of a day that is gone already.
                for hour in 0..24 {
                    count += delete_hour(client, &table, day + TimeDelta::hours(hour), &mut at_most).await?;
                }
                client.batch_execute("SET statement_timeout = 0; RESET lock_timeout").await.map_err(|e| Error::database(doing, e))?;
            }
            note(&mut trimmed, "retention", &table, count);
        }
        done(lease).await?;
        Ok(trimmed)
    }

    async fn run_policies(&self) -> Result<Vec<Trimmed>> {
        let doing = "running policies";
        let mut lease = self.upkeep().await?;
        let client = lease.client();
        let mut trimmed = Vec::new();
        for table in tables(client).await? {
            let before = chunks(client, &table, true).await?;
            let apply =
                async || client.execute("CALL hitherto.retention_apply($1)", &[&table]).await.map_err(|e| Error::database(doing, e));
            when_free(apply).await?;
            note(&mut trimmed, "retention", &table, before - chunks(client, &table, true).await?);
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

async fn tables(client: &tokio_postgres::Client) -> Result<Vec<String>> {
    let rows = client.query(TABLES, &[]).await.map_err(|e| Error::database("reading hitherto.upkeep_policy", e))?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Deletes an hour's rows in transactions that are as large as [`DELETE_TARGET`] allows.
async fn delete_hour(client: &tokio_postgres::Client, table: &str, from: DateTime<Utc>, at_most: &mut i64) -> Result<i64> {
    let until = from + TimeDelta::hours(1);
    let mut count = 0;
    loop {
        let (began, asked) = (Instant::now(), *at_most);
        let delete = async || {
            client
                .query_one("-- retention_delete\nSELECT hitherto.retention_delete($1, $2, $3, $4)", &[&table, &from, &until, &asked])
                .await
                .map_err(|e| Error::database("deleting old rows", e))
        };
        let deleted: i64 = match when_free(delete).await {
            Ok(row) => row.get(0),
            // The server stopped it: it was more than a second's work.
            Err(e) if e.sqlstate() == Some("57014") && asked > *DELETE_ROWS.start() => {
                *at_most = (asked / 8).max(*DELETE_ROWS.start());
                continue;
            }
            Err(e) => return Err(e),
        };
        count += deleted;
        if deleted < asked {
            return Ok(count);
        }
        *at_most = next_size(asked, began.elapsed());
    }
}

/// At most twice as many as the last time.
fn next_size(rows: i64, took: Duration) -> i64 {
    let factor = (DELETE_TARGET.as_secs_f64() / took.as_secs_f64().max(0.001)).min(2.0);
    ((rows as f64 * factor) as i64).clamp(*DELETE_ROWS.start(), *DELETE_ROWS.end())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transactions_grow_while_they_are_quick_and_shrink_when_they_are_slow() {
        assert_eq!(next_size(1_000, Duration::from_millis(10)), 2_000);
        assert_eq!(next_size(1_000, Duration::from_millis(400)), 500);
        assert_eq!(next_size(100_000, Duration::ZERO), 100_000);
        assert_eq!(next_size(1, Duration::from_secs(60)), 1);
    }
}

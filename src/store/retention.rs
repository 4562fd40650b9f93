//! Old raw rows go; columnstore comes.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::Store;
use super::upkeep::{done, run_under, when_free};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::pool::Object;

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

/// Pages that a transaction looks through: from the first guess on, what takes [`DELETE_TARGET`].
const DELETE_PAGES: std::ops::RangeInclusive<i64> = 1..=1_000;
const DELETE_PAGES_FIRST: i64 = 20;

const TABLES: &str = "-- upkeep_tables\nSELECT table_name FROM hitherto.upkeep_policy ORDER BY table_name";

impl Store {
    /// Runs what is due: retention, on TimescaleDB the columnstore, and the expiry of proposed regimes.
    ///
    /// # Errors
    /// Whatever the database answers. On plain PostgreSQL, a table that fails does not keep the others
    /// from being trimmed.
    pub async fn maintain(&self) -> Result<Vec<Trimmed>> {
        self.regime_expire().await?;
        let trimmed = match self.capabilities().engine {
            Engine::Timescaledb => self.run_policies().await,
            Engine::Postgresql => self.delete_old_rows().await,
        };
        // Old code's deletions hide rows until retention has dropped them.
        self.client()
            .await?
            .execute("-- legacy_tombstone_clean\nSELECT hitherto.legacy_tombstone_clean()", &[])
            .await
            .map_err(|e| Error::database("forgetting rows that are gone", e))?;
        trimmed
    }

    /// Each table by itself; the first that failed is told, once the others are done.
    async fn delete_old_rows(&self) -> Result<Vec<Trimmed>> {
        let mut lease = self.upkeep().await?;
        let client = lease.client();
        let (mut trimmed, mut failed) = (Vec::new(), None);
        for table in tables(client).await? {
            match delete_old_rows_of(client, &table).await {
                Ok(count) => note(&mut trimmed, "retention", &table, count),
                Err(error) => {
                    tracing::error!(%table, %error, "retention failed");
                    failed.get_or_insert(error);
                }
            }
        }
        let ended = done(lease).await;
        failed.map_or(ended.map(|()| trimmed), Err)
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

/// Day by day, oldest first, what can't be added up later is kept; then the pages that hold such rows
/// are gone through, in transactions that are as large as [`DELETE_TARGET`] allows.
async fn delete_old_rows_of(client: &mut Object, table: &str) -> Result<i64> {
    let doing = format!("deleting old rows of {table}");
    let told = |e| Error::database(&doing, e);
    for day in client.query("-- retention_due\nSELECT range_start FROM hitherto.retention_due($1)", &[&table]).await.map_err(told)? {
        let day: DateTime<Utc> = day.get(0);
        let keep = async || {
            run_under(client, PATIENT, "-- retention_keep\nSELECT hitherto.retention_keep($1, $2)", &[&table, &day]).await.map_err(told)
        };
        when_free(keep).await?;
    }
    let pages = "-- retention_pages\nSELECT page_from, page_until FROM hitherto.retention_pages($1)";
    let Some(pages) = client.query_opt(pages, &[&table]).await.map_err(told)? else { return Ok(0) };
    let (mut from, end): (i64, i64) = (pages.get(0), pages.get(1));
    let (mut count, mut step, mut settings) = (0, DELETE_PAGES_FIRST, HURRIED);
    while from < end {
        let (began, until) = (Instant::now(), (from + step).min(end));
        let delete = async || {
            run_under(client, settings, "-- retention_delete\nSELECT hitherto.retention_delete($1, $2, $3)", &[&table, &from, &until])
                .await
                .map_err(told)
        };
        match when_free(delete).await {
            Ok(rows) => {
                count += rows.first().map_or(0, |row| row.get::<_, i64>(0));
                from = until;
                step = next_size(step, began.elapsed());
            }
            // The server stopped it: it was more than a second's work. A single page takes what it takes.
            Err(e) if e.sqlstate() == Some("57014") && step > *DELETE_PAGES.start() => {
                step = (step / 8).max(*DELETE_PAGES.start());
                if step == *DELETE_PAGES.start() {
                    settings = UNHURRIED;
                }
            }
            Err(e) => return Err(e),
        }
    }
    Ok(count)
}

/// What a day's sums take they take.
const PATIENT: &str = "SET LOCAL statement_timeout = 0";
/// A deletion keeps nobody waiting for long, and waits for nobody.
const HURRIED: &str = "SET LOCAL statement_timeout = '1s'; SET LOCAL lock_timeout = '500ms'";
const UNHURRIED: &str = "SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = '500ms'";

/// At most twice as many as the last time.
fn next_size(pages: i64, took: Duration) -> i64 {
    let factor = (DELETE_TARGET.as_secs_f64() / took.as_secs_f64().max(0.001)).min(2.0);
    ((pages as f64 * factor) as i64).clamp(*DELETE_PAGES.start(), *DELETE_PAGES.end())
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
        assert_eq!(next_size(100, Duration::from_millis(10)), 200);
        assert_eq!(next_size(100, Duration::from_millis(400)), 50);
        assert_eq!(next_size(1_000, Duration::ZERO), 1_000);
        assert_eq!(next_size(1, Duration::from_secs(60)), 1);
    }
}

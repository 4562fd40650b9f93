//! How each table is kept: retention, columnstore, refresh.

use chrono::{DateTime, Duration, Utc};
use serde::Serialize;
use tokio_postgres::Row;

use super::Store;
use crate::error::{Error, ErrorKind, Result};

/// The shortest time that raw rows can be kept for, days.
pub const MIN_RETENTION_DAYS: i64 = 8;

/// The youngest that a chunk may go to the columnstore, days.
const MIN_COLUMNSTORE_DAYS: i64 = 1;

/// How often aggregates may be refreshed, seconds: from ten to a day.
const REFRESH_SECONDS: std::ops::RangeInclusive<i64> = 10..=86_400;

/// A row of `hitherto.upkeep_policy`. Ages are in seconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UpkeepPolicy {
    /// The table.
    pub table_name: String,
    /// Age at which raw rows go; `None`: never.
    pub drop_after_seconds: Option<i64>,
    /// Age at which chunks go to the columnstore; `None`: never. Of no use on plain PostgreSQL.
    pub columnstore_after_seconds: Option<i64>,
    /// How often the server refreshes the table's aggregates; `None` for a table that has none.
    pub refresh_every_seconds: Option<i64>,
    /// Retention has dropped rows from before this time.
    pub dropped_before: Option<DateTime<Utc>>,
}

/// What is to change in a table's [`UpkeepPolicy`]; what is `None` stays as it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UpkeepChange {
    /// Raw rows go at this age; `Some(None)`: never.
    pub drop_after: Option<Option<Duration>>,
    /// Chunks go to the columnstore at this age; `Some(None)`: never.
    pub columnstore_after: Option<Option<Duration>>,
    /// Aggregates are refreshed this often.
    pub refresh_every: Option<Duration>,
}

const POLICIES: &str = "-- upkeep_policies
SELECT p.table_name, extract(epoch FROM p.drop_after)::bigint, extract(epoch FROM p.columnstore_after)::bigint,
       extract(epoch FROM p.refresh_every)::bigint, h.dropped_before
FROM hitherto.upkeep_policy p LEFT JOIN hitherto.retention_horizon h USING (table_name) ORDER BY p.table_name";

impl Store {
    /// How each table is kept, by name.
    ///
    /// # Errors
    /// Whatever the database answers.
    pub async fn upkeep_policies(&self) -> Result<Vec<UpkeepPolicy>> {
        let rows = self.asking().await?.query(POLICIES, &[]).await.map_err(|e| Error::unanswered("reading hitherto.upkeep_policy", e))?;
        Ok(rows.iter().map(policy).collect())
    }

    /// Changes how a table is kept. The server's jobs follow at once.
    ///
    /// # Errors
    /// `Config` for a table that has no policy, for ages out of bounds, and for rows that would go
    /// before they reach the columnstore: the message says what is allowed.
    pub async fn upkeep_set(&self, table_name: &str, change: UpkeepChange) -> Result<UpkeepPolicy> {
        let table_name = table_name.to_owned();
        self.run_tx("upkeep_set", move |tx| {
            let table_name = table_name.clone();
            Box::pin(async move {
                let doing = "setting an upkeep policy";
                // Two that change one table take turns, so that each checks what will be there.
                tx.execute("-- upkeep_lock\nSELECT FROM hitherto.upkeep_policy WHERE table_name = $1 FOR UPDATE", &[&table_name])
                    .await
                    .map_err(|e| Error::unanswered(doing, e))?;
                let all: Vec<UpkeepPolicy> =
                    tx.query(POLICIES, &[]).await.map_err(|e| Error::unanswered(doing, e))?.iter().map(policy).collect();
                let Some(mut new) = all.iter().find(|p| p.table_name == table_name).cloned() else {
                    let aggregate = tx
                        .query_opt(
                            "-- upkeep_aggregate\nSELECT source_table FROM hitherto.aggregate WHERE $1 IN (view_name, aggregate_name)",
                            &[&table_name],
                        )
                        .await
                        .map_err(|e| Error::unanswered(doing, e))?;
                    return Err(without_policy(&table_name, aggregate.map(|row| row.get(0)), &all));
                };
                change.apply(&mut new)?;
                // Whole days are told as days, so that people read them so in SQL too.
                tx.execute(
                    "-- upkeep_set
                     UPDATE hitherto.upkeep_policy SET
                         drop_after = make_interval(days => ($2::bigint / 86400)::int, secs => $2::bigint % 86400),
                         columnstore_after = make_interval(days => ($3::bigint / 86400)::int, secs => $3::bigint % 86400),
                         refresh_every = make_interval(secs => $4::bigint)
                     WHERE table_name = $1",
                    &[&table_name, &new.drop_after_seconds, &new.columnstore_after_seconds, &new.refresh_every_seconds],
                )
                .await
                .map_err(|e| Error::unanswered(doing, e))?;
                Ok(new)
            })
        })
        .await
    }

    /// Keeps a table's raw rows for `drop_after` from now on; `None` keeps them for ever.
    ///
    /// # Errors
    /// As [`Store::upkeep_set`]; rows may go before they reach the columnstore.
    pub async fn retention_set(&self, table_name: &str, drop_after: Option<Duration>) -> Result<()> {
        let known = self.upkeep_policies().await?;
        if !known.iter().any(|p| p.table_name == table_name) {
            return Err(without_policy(table_name, None, &known));
        }
        let seconds = kept(drop_after)?;
        self.asking()
            .await?
            .execute(
                "-- retention_set
                 SELECT hitherto.retention_set($1, make_interval(days => ($2::bigint / 86400)::int, secs => $2::bigint % 86400))",
                &[&table_name, &seconds],
            )
            .await
            .map_err(|e| Error::unanswered("setting a retention policy", e))?;
        Ok(())
    }
}

impl UpkeepChange {
    fn apply(&self, to: &mut UpkeepPolicy) -> Result<()> {
        if let Some(age) = self.drop_after {
            to.drop_after_seconds = kept(age)?;
        }
        if let Some(age) = self.columnstore_after {
            if age.is_some_and(|age| age < Duration::days(MIN_COLUMNSTORE_DAYS)) {
                return Err(refused(format!(
                    "chunks go to the columnstore after {MIN_COLUMNSTORE_DAYS} day at least: younger rows are still written"
                )));
            }
            to.columnstore_after_seconds = age.map(|age| age.num_seconds());
        }
        if let Some(every) = self.refresh_every {
            if to.refresh_every_seconds.is_none() {
                return Err(refused(format!("{} has no aggregates that could be refreshed", to.table_name)));
            }
            if !REFRESH_SECONDS.contains(&every.num_seconds()) {
                return Err(refused("aggregates are refreshed every 10 s to every day (10s to 1d)".to_owned()));
            }
            to.refresh_every_seconds = Some(every.num_seconds());
        }
        match (to.drop_after_seconds, to.columnstore_after_seconds) {
            (Some(kept), Some(columnstore)) if columnstore >= kept => Err(refused(format!(
                "rows of {} would be kept for {} days and go to the columnstore after {}: they would be gone before; \
                 set both (--columnstore-after), or keep them out of it (--columnstore-after never)",
                to.table_name,
                kept / 86_400,
                columnstore / 86_400
            ))),
            _ => Ok(()),
        }
    }
}

fn kept(drop_after: Option<Duration>) -> Result<Option<i64>> {
    match drop_after {
        Some(age) if age < Duration::days(MIN_RETENTION_DAYS) => Err(refused(format!(
            "raw rows are kept for {MIN_RETENTION_DAYS} days at least, or for ever: aggregates are refreshed from the last week's"
        ))),
        age => Ok(age.map(|age| age.num_seconds())),
    }
}

fn without_policy(name: &str, source_table: Option<String>, all: &[UpkeepPolicy]) -> Error {
    let known: Vec<&str> = all.iter().map(|p| p.table_name.as_str()).collect();
    match source_table {
        Some(table) => {
            refused(format!("'{name}' is an aggregate: it is kept for ever, and refreshed as its table says; name {table} instead"))
        }
        None => refused(format!("table '{name}' can't have a retention policy; these can: {}", known.join(", "))),
    }
}

fn refused(message: String) -> Error {
    Error::new(ErrorKind::Config, message)
}

fn policy(row: &Row) -> UpkeepPolicy {
    UpkeepPolicy {
        table_name: row.get(0),
        drop_after_seconds: row.get(1),
        columnstore_after_seconds: row.get(2),
        refresh_every_seconds: row.get(3),
        dropped_before: row.get(4),
    }
}

//! One consistent state of the database, read dataset by dataset.

use std::sync::Arc;

use chrono::{DateTime, Days, NaiveDate, NaiveTime, Utc};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Column as PgColumn, IsolationLevel, Row, Transaction};
use uuid::Uuid;

use crate::column::{Column, Modifiers, Place};
use crate::dataset::{Dataset, Progress, quote};
use crate::error::{ExportError, ExportErrorKind, Result};

/// A read-only transaction that sees one instant.
pub(crate) struct Snapshot<'a> {
    tx: Transaction<'a>,
}

/// Takes note of how far an export is.
pub(crate) type OnProgress<'a> = &'a mut (dyn FnMut(Progress<'_>) + Send);

impl<'a> Snapshot<'a> {
    /// Locks the tables first, because chunks that are dropped or rewritten after the snapshot was
    /// taken would be missing from it, and takes the snapshot with the first query after that.
    pub(crate) async fn open(client: &'a mut Client, datasets: &[Dataset]) -> Result<Self> {
        let doing = "opening a snapshot";
        let tx = client
            .build_transaction()
            .isolation_level(IsolationLevel::RepeatableRead)
            .read_only(true)
            .start()
            .await
            .map_err(|e| ExportError::database(doing, e))?;
        // Compiling a query that only copies rows costs more than it saves. Writing files may take long, while nothing is asked.
        tx.batch_execute("SET LOCAL jit = off; SET LOCAL idle_in_transaction_session_timeout = 0")
            .await
            .map_err(|e| ExportError::database(doing, e))?;
        if let Some(lock) = lock_tables(datasets) {
            tx.batch_execute(&lock).await.map_err(|e| ExportError::database("locking the tables against being dropped meanwhile", e))?;
        }
        tx.batch_execute("SELECT 1").await.map_err(|e| ExportError::database(doing, e))?;
        Ok(Self { tx })
    }

    /// A name by which other transactions can see the same instant, as long as this one lasts.
    pub(crate) async fn share(&self) -> Result<String> {
        let doing = "sharing the snapshot";
        let row = self.tx.query_one("SELECT pg_export_snapshot()", &[]).await.map_err(|e| ExportError::database(doing, e))?;
        row.try_get(0).map_err(|e| ExportError::database(doing, e))
    }

    /// Whether a column of a dataset comes from a table's column that is declared NOT NULL.
    pub(crate) async fn has_no_nulls(&self, dataset: &Dataset, column: &str) -> Result<bool> {
        let doing = format!("looking at the columns of dataset {}", dataset.name);
        let statement = self.tx.prepare(&dataset.query).await.map_err(|e| ExportError::database(&doing, e))?;
        let found = statement.columns().iter().find(|c| c.name() == column);
        let Some((table, number)) = found.and_then(|c| c.table_oid().zip(c.column_id())) else { return Ok(false) };
        let query = "SELECT attnotnull FROM pg_catalog.pg_attribute WHERE attrelid = $1 AND attnum = $2";
        let row = self.tx.query_opt(query, &[&table, &number]).await.map_err(|e| ExportError::database(&doing, e))?;
        Ok(row.is_some_and(|row| row.get(0)))
    }

    pub(crate) fn client(&self) -> &Client {
        self.tx.client()
    }

    /// What a query of a few rows gives, in the snapshot.
    pub(crate) async fn query(&self, doing: &str, query: &str, values: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>> {
        self.tx.query(query, values).await.map_err(|e| ExportError::database(doing, e))
    }

    pub(crate) async fn close(self) -> Result<()> {
        self.tx.commit().await.map_err(|e| ExportError::database("closing the snapshot", e))
    }

    /// The dataset's columns, each with its exact place, or an error that names the one without.
    pub(crate) async fn columns(&self, dataset: &Dataset, place: Place) -> Result<Vec<Column>> {
        let failed = |e| ExportError::database(&format!("dataset {}", dataset.name), e);
        let statement = self.tx.prepare(&dataset.query).await.map_err(failed)?;
        let modifiers = Modifiers::read(self.client(), statement.columns()).await.map_err(failed)?;
        if let Some((name, _)) = dataset.numeric.iter().find(|(name, _)| statement.columns().iter().all(|c| c.name() != name)) {
            let known: Vec<&str> = statement.columns().iter().map(PgColumn::name).collect();
            let message = format!("dataset {} has no column {name} to write as a numeric; it has {}", dataset.name, known.join(", "));
            return Err(ExportError::new(ExportErrorKind::Config, message));
        }
        let mut columns: Vec<Column> = Vec::new();
        for column in statement.columns() {
            if columns.iter().any(|c| c.name == column.name()) {
                let message = format!("dataset {} has two columns named {}", dataset.name, column.name());
                return Err(ExportError::new(ExportErrorKind::Config, message));
            }
            columns.push(Column::new(dataset, column, &modifiers, place)?);
        }
        if let Some(time) = &dataset.time_column
            && !columns.iter().any(|c| c.name == *time && c.is_timestamptz())
        {
            let message = format!("dataset {}: its time column {time} is not a timestamptz of its query", dataset.name);
            return Err(ExportError::new(ExportErrorKind::Config, message));
        }
        Ok(columns)
    }

    /// Rows that the dataset must hold at least within these times.
    pub(crate) async fn expected_rows(
        &self,
        dataset: &Dataset,
        from: Option<DateTime<Utc>>,
        to: Option<DateTime<Utc>>,
    ) -> Result<Option<u64>> {
        let Some(query) = &dataset.expected_rows else { return Ok(None) };
        let doing = format!("asking how many rows dataset {} must have", dataset.name);
        let row = self.tx.query_one(query, &[&from, &to]).await.map_err(|e| ExportError::database(&doing, e))?;
        Ok(Some(u64::try_from(row.get::<_, i64>(0)).unwrap_or_default()))
    }

    /// The first day from which on no row was dropped from the database.
    pub(crate) async fn first_whole_day(&self, dataset: &Dataset) -> Result<Option<NaiveDate>> {
        let Some(query) = &dataset.dropped_before else { return Ok(None) };
        let doing = format!("asking what retention has dropped of dataset {}", dataset.name);
        let row = self.tx.query_one(query, &[]).await.map_err(|e| ExportError::database(&doing, e))?;
        let dropped_before: Option<DateTime<Utc>> = row.try_get(0).map_err(|e| ExportError::database(&doing, e))?;
        Ok(dropped_before.map(|time| day_end(time).date_naive()))
    }
}

/// The statement that locks the datasets' tables against being dropped or rewritten.
pub(crate) fn lock_tables(datasets: &[Dataset]) -> Option<String> {
    let mut tables: Vec<&str> = datasets.iter().flat_map(|d| d.tables.iter().map(String::as_str)).collect();
    tables.sort_unstable();
    tables.dedup();
    (!tables.is_empty()).then(|| format!("LOCK TABLE {} IN ACCESS SHARE MODE", tables.join(", ")))
}

/// Which rows of a dataset.
#[derive(Debug, Clone)]
pub(crate) enum Rows {
    All,
    /// From the first time on, before the second.
    Between(Option<DateTime<Utc>>, Option<DateTime<Utc>>),
    /// Those of these batches alone, within such times.
    Batches {
        from: Option<DateTime<Utc>>,
        to: Option<DateTime<Utc>>,
        batches: Arc<[Uuid]>,
    },
}

impl Rows {
    pub(crate) fn day(day: NaiveDate) -> Self {
        Self::Between(Some(midnight(day)), Some(midnight(day + Days::new(1))))
    }

    pub(crate) fn batches(day: NaiveDate, batches: Arc<[Uuid]>) -> Self {
        Self::Batches { from: Some(midnight(day)), to: Some(midnight(day + Days::new(1))), batches }
    }

    /// Says which rows, behind "row 5".
    pub(crate) fn words(&self) -> String {
        let (Self::Between(from, to) | Self::Batches { from, to, .. }) = self else { return String::new() };
        let from = from.map(|t| format!(" from {t:?} on")).unwrap_or_default();
        let to = to.map(|t| format!(" before {t:?}")).unwrap_or_default();
        if from.is_empty() && to.is_empty() { String::new() } else { format!(" of those{from}{to}") }
    }

    /// The SELECT of these rows.
    pub(crate) fn select(&self, dataset: &Dataset) -> String {
        let mut conditions = Vec::new();
        if let (Some(time), Self::Between(from, to) | Self::Batches { from, to, .. }) = (&dataset.time_column, self) {
            let time = quote(time);
            conditions.extend(from.map(|t| format!("{time} >= {}", literal(t))));
            conditions.extend(to.map(|t| format!("{time} < {}", literal(t))));
        }
        if let (Some(batch), Self::Batches { batches, .. }) = (&dataset.batch_column, self) {
            let batches: Vec<String> = batches.iter().map(Uuid::to_string).collect();
            conditions.push(format!("{} = ANY ('{{{}}}'::uuid[])", quote(batch), batches.join(",")));
        }
        // As it stands, a query keeps its order, and one that writes is told so.
        if conditions.is_empty() {
            return dataset.query.clone();
        }
        format!("SELECT * FROM ({}) AS dataset WHERE {}", dataset.query, conditions.join(" AND "))
    }
}

/// Midnight before a time, or at it.
pub(crate) fn day_start(time: DateTime<Utc>) -> DateTime<Utc> {
    midnight(time.date_naive())
}

/// Midnight after a time, or at it.
pub(crate) fn day_end(time: DateTime<Utc>) -> DateTime<Utc> {
    let start = day_start(time);
    if start == time { start } else { start + Days::new(1) }
}

pub(crate) fn midnight(day: NaiveDate) -> DateTime<Utc> {
    day.and_time(NaiveTime::MIN).and_utc()
}

/// COPY takes no parameters: a time of our own making is written out.
pub(crate) fn literal(time: DateTime<Utc>) -> String {
    format!("TIMESTAMPTZ '{}'", time.format("%Y-%m-%d %H:%M:%S%.6f+00"))
}

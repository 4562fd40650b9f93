//! Takes over the database of the system that this store replaces.

use serde::Serialize;
use tokio_postgres::Client;

use super::Store;
use crate::config::Config;
use crate::error::{Error, ErrorKind, Result};

/// What became of an old table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ImportedTable {
    /// The old table.
    pub table_name: String,
    /// Rows that it has now.
    pub old_rows: i64,
    /// Rows stored by this run.
    pub stored_now: i64,
    /// Rows stored by this and earlier runs.
    pub stored: i64,
    /// Rows that are refused; they are in `hitherto.quarantine`, with the reason, and are tried again by the next run.
    pub refused: i64,
    /// Rows that were taken care of by an earlier run and that the old table has no more; here they stay.
    pub gone: i64,
}

/// Rows handed over in one transaction.
const ROWS: usize = 2_000;

struct Table {
    name: &'static str,
    count: &'static str,
    /// Ids past $1, some of them.
    ids: &'static str,
    /// The rows with these ids, as one JSON array.
    read: &'static str,
    /// They are few, and what has become of them since they were copied matters: all are handed over each time.
    whole: bool,
}

macro_rules! table {
    ($name:literal, $whole:literal) => {
        table!(
            $name,
            $whole,
            concat!("-- import_read\nSELECT json_agg(t ORDER BY t.id)::text FROM ", $name, " t WHERE t.id = ANY ($1::bigint[])")
        )
    };
    ($name:literal, $whole:literal, $read:expr) => {
        Table {
            name: $name,
            count: concat!("-- import_count\nSELECT count(*) FROM ", $name),
            ids: concat!(
                "-- import_ids\nSELECT coalesce(array_agg(t.id), '{}') FROM (SELECT id::bigint FROM ",
                $name,
                " WHERE id > $1::bigint ORDER BY id LIMIT 50000) t"
            ),
            read: $read,
            whole: $whole,
        }
    };
}

/// Regimes in the order in which they began. A regime was in force if it is active, or has an end, or
/// began before the newest active one did; where it has no end of its own, it ends where the next begins.
const REGIMES: &str = "-- import_read
WITH regime AS (
    SELECT r.*, coalesce(r.effective_from, r.created_at) AS starts,
           coalesce(r.id = (SELECT a.id FROM regime_states a WHERE a.is_active ORDER BY coalesce(a.effective_from, a.created_at) DESC, a.id DESC LIMIT 1), false) AS newest,
           (SELECT max(coalesce(a.effective_from, a.created_at)) FROM regime_states a WHERE a.is_active) AS newest_starts
    FROM regime_states r
), known AS (
    SELECT *, coalesce(is_active, false) OR effective_from IS NOT NULL AND (effective_until IS NOT NULL OR newest_starts IS NULL OR starts < newest_starts) AS period
    FROM regime
), told AS (
    SELECT *, CASE WHEN period AND NOT newest THEN lead(starts) OVER (PARTITION BY period ORDER BY starts, id) END AS next_from FROM known
)
SELECT json_agg(t ORDER BY t.starts, t.id)::text FROM told t WHERE t.id = ANY ($1::bigint[])";

const TABLES: [Table; 6] = [
    table!("module_registry", true),
    table!("module_health_checks", false),
    table!("regime_states", true, REGIMES),
    table!("risk_evaluations", false),
    table!("execution_reports", false),
    table!("portfolio_snapshots", false),
];

impl Store {
    /// Copies an old database's tables over, from its schema `schema`. Run again, it adds what is new: which
    /// ids have been copied is noted with the rows. Rows that break a rule of this store go to quarantine.
    ///
    /// # Errors
    /// `Unreachable` when either database is, `NotFound` when the schema has none of the old tables,
    /// `Refused` when it is this store's own.
    pub async fn legacy_import(&self, from: &Config, schema: &str, mut on_progress: impl FnMut(&str, i64)) -> Result<Vec<ImportedTable>> {
        let old = from.connect().await?;
        let doing = "preparing to read the old database";
        // One state of all its tables, whoever still writes there; what is set ends with the transaction.
        old.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await.map_err(|e| Error::database(doing, e))?;
        old.query_one("-- import_schema\nSELECT set_config('search_path', quote_ident($1), true)", &[&schema])
            .await
            .map_err(|e| Error::database(doing, e))?;
        // JSON says floats and times as the session does, and a role or a database may have settings of its own that round them.
        old.batch_execute(
            "SET LOCAL extra_float_digits = 3; SET LOCAL DateStyle = 'ISO, MDY'; SET LOCAL IntervalStyle = postgres; SET LOCAL TimeZone = 'UTC'",
        )
        .await
        .map_err(|e| Error::database(doing, e))?;
        let source = identity(&old, schema).await?;
        let mut imported = Vec::new();
        for table in &TABLES {
            let row = old
                .query_one(
                    "-- import_find
                     SELECT EXISTS (SELECT FROM pg_class WHERE oid = to_regclass($1) AND relkind IN ('r', 'p'))",
                    &[&table.name],
                )
                .await
                .map_err(|e| Error::database(doing, e))?;
            if row.get(0) {
                imported.push(self.import_table(&old, &source, table, &mut on_progress).await?);
            }
        }
        if imported.is_empty() {
            let names: Vec<&str> = TABLES.iter().map(|t| t.name).collect();
            return Err(Error::new(
                ErrorKind::NotFound,
                format!("schema '{schema}' of {from} has none of the tables {}", names.join(", ")),
            ));
        }
        Ok(imported)
    }

    async fn import_table(
        &self,
        old: &Client,
        source: &str,
        table: &Table,
        on_progress: &mut impl FnMut(&str, i64),
    ) -> Result<ImportedTable> {
        let doing = format!("reading the old table {}", table.name);
        let old_rows: i64 = old.query_one(table.count, &[]).await.map_err(|e| Error::database(&doing, e))?.get(0);
        let (before, _) = self.imported(source, table.name).await?;
        let mut stored = before;
        let mut after = i64::MIN;
        loop {
            let row = old.query_one(table.ids, &[&after]).await.map_err(|e| Error::database(&doing, e))?;
            let mut ids: Vec<i64> = row.get(0);
            let Some(last) = ids.last() else { break };
            after = *last;
            let rows = if table.whole { ids.len() } else { ROWS };
            if !table.whole {
                ids = self.import_missing(source, table.name, &ids).await?;
            }
            for ids in ids.chunks(rows) {
                let row = old.query_one(table.read, &[&ids]).await.map_err(|e| Error::database(&doing, e))?;
                stored += self.import_rows(source, table.name, row.get(0)).await?;
                on_progress(table.name, stored - before);
            }
        }
        // Every row that is there now has been taken care of; what is counted beyond them is there no more.
        let (stored, refused) = self.imported(source, table.name).await?;
        let gone = stored + refused - old_rows;
        Ok(ImportedTable { table_name: table.name.to_owned(), old_rows, stored_now: stored - before, stored, refused, gone })
    }

    async fn import_missing(&self, source: &str, table_name: &str, ids: &[i64]) -> Result<Vec<i64>> {
        let row = self
            .client()
            .await?
            .query_one("-- legacy_import_missing\nSELECT legacy.import_missing($1, $2, $3)", &[&source, &table_name, &ids])
            .await
            .map_err(|e| Error::database("reading hitherto.legacy_import_row", e))?;
        Ok(row.get(0))
    }

    /// How many were stored.
    async fn import_rows(&self, source: &str, name: &'static str, rows: String) -> Result<i64> {
        let source = source.to_owned();
        self.run_tx("legacy_import", move |tx| {
            let (source, rows) = (source.clone(), rows.clone());
            Box::pin(async move {
                tx.query_one("-- legacy_import\nSELECT stored FROM legacy.import($1, $2, $3::text::json)", &[&source, &name, &rows])
                    .await
                    .map(|row| row.get::<_, i64>(0))
                    .map_err(|e| Error::database(&format!("storing rows of the old table {name}"), e))
            })
        })
        .await
    }

    /// Rows stored, rows refused.
    async fn imported(&self, source: &str, table_name: &str) -> Result<(i64, i64)> {
        let row = self
            .client()
            .await?
            .query_one(
                "-- legacy_imported
                 SELECT count(*) FILTER (WHERE NOT r.refused), count(*) FILTER (WHERE r.refused)
                 FROM hitherto.legacy_import i JOIN hitherto.legacy_import_row r USING (import_id) WHERE i.source = $1 AND i.table_name = $2",
                &[&source, &table_name],
            )
            .await
            .map_err(|e| Error::database("reading hitherto.legacy_import_row", e))?;
        Ok((row.get(0), row.get(1)))
    }
}

/// The same however the database is reached.
async fn identity(old: &Client, schema: &str) -> Result<String> {
    let row = old
        .query_one(
            "-- import_identity
             SELECT format('%s/%s/%s', (SELECT system_identifier FROM pg_control_system()), current_database(), $1::text),
                    to_regclass('hitherto.schema_migration') IS NOT NULL AND $1 IN ('legacy', 'hitherto')",
            &[&schema],
        )
        .await
        .map_err(|e| Error::database("asking the old database who it is", e))?;
    if row.get(1) {
        return Err(Error::new(
            ErrorKind::Refused,
            format!("schema '{schema}' there is this store's own; name the one with the old tables"),
        ));
    }
    Ok(row.get(0))
}

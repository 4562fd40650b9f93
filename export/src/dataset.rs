//! What is exported, and what came of it.

use chrono::{DateTime, NaiveDate, Utc};
use serde::Serialize;

use crate::error::{ExportError, ExportErrorKind, Result};

/// A named SELECT.
#[derive(Debug, Clone, Default)]
pub struct Dataset {
    /// Its name, and its folder in the lake: lower-case letters, digits and `_`.
    pub name: String,
    /// A SELECT without ORDER BY and without semicolon.
    pub query: String,
    /// A `timestamptz` column of the query that is never NULL; the dataset is partitioned by its day,
    /// UTC. `None` for a plain table, which has no partitions.
    pub time_column: Option<String>,
    /// Columns of the query that rows are sorted by, within a day.
    pub sort: Vec<String>,
    /// Text columns with few distinct values: written as dictionary-coded strings.
    pub dictionary: Vec<String>,
    /// Tables that the query reads, as SQL names: locked against being dropped or rewritten meanwhile.
    pub tables: Vec<String>,
    /// A SELECT of one `bigint`: rows that the dataset holds at least, in the same snapshot, from the time
    /// `$1` on and before the time `$2` (`timestamptz`, NULL for no bound).
    pub expected_rows: Option<String>,
    /// A SELECT of one `timestamptz`, or NULL: earlier rows may have been dropped from the database. A lake
    /// keeps the days that it has from before.
    pub dropped_before: Option<String>,
}

/// How to export.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The first time to export; a lake's days are exported whole.
    pub from: Option<DateTime<Utc>>,
    /// The time to stop before; a lake's days are exported whole.
    pub to: Option<DateTime<Utc>>,
    /// Publish even when fewer rows were read than [`Dataset::expected_rows`] asks for.
    pub unverified: bool,
    /// What is exported, for a lake to remember: it takes nothing from another source later.
    pub source: Option<String>,
}

/// One dataset, exported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Exported {
    /// The dataset.
    pub dataset: String,
    /// Rows written.
    pub rows: u64,
    /// Bytes of Parquet written.
    pub bytes: u64,
    /// Files written.
    pub files: u64,
    /// Days written; 0 for a plain table.
    pub days: u64,
    /// The Delta table's version that shows them; `None` for a flat file.
    pub version: Option<u64>,
    /// The table's folder, or the file.
    pub path: String,
}

/// How far an export is.
#[derive(Debug, Clone, Copy)]
pub struct Progress<'a> {
    /// The dataset that is being read.
    pub dataset: &'a str,
    /// Its day, where it has days.
    pub day: Option<NaiveDate>,
    /// Rows of it read so far.
    pub rows: u64,
    /// Rows of it to be read in all, where that is known.
    pub total_rows: Option<u64>,
}

impl Dataset {
    pub(crate) fn check(&self) -> Result<()> {
        let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        if self.name.is_empty() || !self.name.chars().all(good) || self.name.starts_with('_') {
            let message = format!("dataset name '{}': use lower-case letters, digits and _, a letter first", self.name);
            return Err(ExportError::new(ExportErrorKind::Config, message));
        }
        Ok(())
    }

    /// `ORDER BY` over the sort columns and the time.
    pub(crate) fn order_by(&self) -> String {
        let mut columns: Vec<String> = self.sort.iter().map(|c| quote(c)).collect();
        if let Some(time) = self.time_column.as_ref().filter(|time| !self.sort.contains(time)) {
            columns.push(quote(time));
        }
        if columns.is_empty() { String::new() } else { format!(" ORDER BY {}", columns.join(", ")) }
    }
}

/// An identifier in double quotes.
pub(crate) fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

//! What is exported, and what came of it.

use chrono::{DateTime, NaiveDate, Utc};
use serde::Serialize;

use crate::column::NumericAs;
use crate::connect::Connector;
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
    /// Columns of the query that rows are sorted by, smallest first, texts by their bytes, NULLs last. The order
    /// holds within stretches of a file of some 30 MB in memory: most days are one.
    pub sort: Vec<String>,
    /// Text columns with few distinct values: written as dictionary-coded strings.
    pub dictionary: Vec<String>,
    /// Columns and what their numerics are written as, those within arrays, ranges and composites included:
    /// needed where the database doesn't say how many digits they have, heeded everywhere.
    pub numeric: Vec<(String, NumericAs)>,
    /// Tables that the query reads, as SQL names: locked against being dropped or rewritten meanwhile.
    pub tables: Vec<String>,
    /// A SELECT of one `bigint`: rows that the dataset holds at least, in the same snapshot, from the time
    /// `$1` on and before the time `$2` (`timestamptz`, NULL for no bound).
    pub expected_rows: Option<String>,
    /// A SELECT of two `timestamptz`: between which times the rows are, or nearly. Without it they are
    /// looked up among the rows, where the time has an index.
    pub span: Option<String>,
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
    /// How many connections read at once; by default one a core, four at most.
    pub connections: Option<usize>,
    /// Opens those past the first; without it there is one connection.
    pub connect: Option<Connector>,
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
        for (column, numeric) in &self.numeric {
            let refuse = |why| ExportError::new(ExportErrorKind::Config, format!("{}.{column} as numeric {numeric}: {why}", self.name));
            numeric.check().map_err(refuse)?;
        }
        Ok(())
    }

    /// The columns that rows are sorted by: the sort columns, then the time.
    pub(crate) fn order(&self) -> impl Iterator<Item = &String> {
        let time = self.time_column.iter().filter(|time| !self.sort.contains(time));
        self.sort.iter().chain(time)
    }
}

/// An identifier in double quotes.
pub(crate) fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

//! What is exported, and what came of it.

use std::collections::BTreeMap;

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
    /// A SELECT of the lines of a ledger of what was written into the dataset's table, each line by one
    /// transaction with its rows: `from` and `to` (`timestamptz`: its rows' first and last time; NULL where
    /// there is no time), rows (`bigint`) and the batch (`uuid`). Lines of one day, UTC, may come summed up, without
    /// batch. `$1` (`text`): lines of this transaction (`xid8`) and later ones; `$2` and `$3` (`timestamptz`,
    /// NULL for no bound): lines that have, or may have, rows from `$2` on and before `$3`. It tells which days
    /// an export must write anew and how many rows there must be. Rows must never be changed, and deleted only
    /// as [`Dataset::dropped_before`] says.
    pub ledger: Option<String>,
    /// A SELECT of one `bigint`: a fingerprint of the last line of the ledger before the transaction `$1` (`text`). It
    /// stays what it is, unless the server's files were exchanged for older ones: then the dataset is written in full.
    pub anchor: Option<String>,
    /// The column of the query that names a row's batch in the ledger, a `uuid`: tells which rows a lake has
    /// already of a day that the database has dropped rows of, and which days a line has rows of.
    pub batch_column: Option<String>,
    /// For a plain table without ledger: a SELECT of one `bigint` that differs when the table does. An export writes
    /// the dataset when it is another one than last time's.
    pub fingerprint: Option<String>,
    /// For a query that joins what may change: a SELECT of three `bigint`s over what it joins, of which new rows have
    /// larger numbers: the largest number, a fingerprint of all of it, and one of what is numbered up to `$1`
    /// (`bigint`). When that has changed, the dataset is written in full.
    pub joined: Option<String>,
}

/// How to export.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The first time to export; a lake's days are exported whole.
    pub from: Option<DateTime<Utc>>,
    /// The time to stop before; a lake's days are exported whole.
    pub to: Option<DateTime<Utc>>,
    /// Write everything anew, whatever a lake holds already. Without it, and without a range, a lake's
    /// datasets that have a ledger or a fingerprint are brought up to date.
    pub full: bool,
    /// Publish even when more or fewer rows were read than [`Dataset::ledger`] or [`Dataset::expected_rows`] tell.
    pub unverified: bool,
    /// What is exported, for a lake to remember: it takes nothing from another source later.
    pub source: Option<String>,
    /// How many connections read at once; by default one a core, four at most.
    pub connections: Option<usize>,
    /// Opens those past the first; without it there is one connection.
    pub connect: Option<Connector>,
    /// A SELECT of one `text`: which history of transactions the snapshot is of. Another one's watermarks
    /// mean nothing here: on a restored or promoted server, datasets are written in full. Without it they
    /// always are.
    pub identity: Option<String>,
    /// A SELECT of one `timestamptz`, or NULL: when the earliest line of the ledgers was written that belongs to
    /// the transaction `$1` (`text`, an `xid8`) or a later one: what the next export looks at again.
    pub lag: Option<String>,
}

/// Why a dataset is written, or is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// All of it is written.
    Full,
    /// The days of the range that was asked for are.
    Range,
    /// What has changed is.
    Incremental,
    /// It is as the lake has it.
    Unchanged,
}

/// One dataset, exported.
#[derive(Debug, Clone, PartialEq, Serialize)]
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
    /// Days that stay as the lake had them.
    pub days_kept: u64,
    /// What was written of it.
    pub mode: Mode,
    /// Why, in words.
    pub reason: String,
    /// How many days were written for which reason.
    pub why: BTreeMap<Why, u64>,
    /// The Delta table's version that shows them; `None` for a flat file.
    pub version: Option<u64>,
    /// The transaction before which the lake has all that was committed, on this server; `None` where that is
    /// not kept: for a flat file, a range, or without [`Options::identity`].
    pub watermark: Option<i64>,
    /// Seconds from the export's beginning until this was visible, or found to be up to date.
    pub seconds: f64,
    /// The table's folder, or the file.
    pub path: String,
}

/// One dataset, as an export would find it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Planned {
    /// The dataset.
    pub dataset: String,
    /// What would be written of it.
    pub mode: Mode,
    /// Why, in words.
    pub reason: String,
    /// Rows that would be written by what the ledger says, where there is one.
    pub rows: Option<u64>,
    /// Days that would be written or taken out; none for a plain table.
    pub days: Vec<PlannedDay>,
    /// The Delta table's version now; `None` where the lake doesn't have the dataset.
    pub version: Option<u64>,
}

/// A day that an export would write.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlannedDay {
    /// The day, UTC.
    pub day: NaiveDate,
    /// Rows that would be written, at least and at most, by what the ledger says.
    pub rows: (u64, u64),
    /// Rows that the lake holds of it.
    pub held: u64,
    /// Why it would be.
    pub why: Why,
}

/// Why a day is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// The lake doesn't have the day.
    New,
    /// Rows came to the newest day that the lake has.
    Grown,
    /// Rows came to an earlier day.
    Late,
    /// Rows came to a day that the database has dropped rows of: they are added to what the lake has.
    Added,
    /// The dataset, or the range, is written whatever came.
    Asked,
    /// The database has no rows of it any more, though retention has not dropped it: it is taken out.
    Gone,
}

impl Why {
    /// In words.
    pub fn words(self) -> &'static str {
        match self {
            Self::New => "new day",
            Self::Grown => "more rows",
            Self::Late => "late rows",
            Self::Added => "late rows, added to a day that retention has dropped",
            Self::Asked => "written anew",
            Self::Gone => "no longer in the database; taken out",
        }
    }
}

/// How far an export is.
#[derive(Debug, Clone, Copy)]
pub struct Progress<'a> {
    /// The dataset that was read last.
    pub dataset: &'a str,
    /// Its day, where it has days.
    pub day: Option<NaiveDate>,
    /// Rows read so far, of all datasets.
    pub rows: u64,
    /// Rows to be read in all, as far as that is known beforehand.
    pub total_rows: Option<u64>,
    /// Bytes that the server has sent for them.
    pub bytes: u64,
    /// Days, of all datasets, that are read.
    pub days: u64,
    /// Days to be read; 0 where nothing is written by the day.
    pub total_days: u64,
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

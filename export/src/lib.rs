//! PostgreSQL to Arrow to Parquet and Delta.
//!
//! A [`Dataset`] is a name and a SELECT. [`export_lake`] brings any number of them up to date, as one snapshot,
//! in Delta tables: `LAKE/<dataset>/day=YYYY-MM-DD/*.parquet` where the dataset has a time column,
//! `LAKE/<dataset>/*.parquet` where it has none. [`export_file`] writes one flat Parquet file. Types are
//! exact or refused; [`Dataset::numeric`] settles what the database leaves open. Data files are written and synced before the commit that makes them visible, so
//! that readers see the old state or the new one. Files that a commit replaces stay on disk, for
//! readers of the version before.
//!
//! This crate knows nothing of what the rows mean.

mod column;
mod connect;
mod cut;
mod dataset;
mod encoding;
mod error;
#[doc(hidden)]
pub mod fault;
mod fields;
mod file;
mod lake;
mod nans;
mod order;
mod parquet_file;
mod place;
mod query;
mod read;
mod readers;
mod snapshot;
mod sql;

pub use column::NumericAs;
pub use connect::Connector;
pub use dataset::{Dataset, Exported, Mode, Options, Planned, PlannedDay, Progress, Why};
pub use error::{ExportError, ExportErrorKind};
pub use file::export_file;
pub use lake::{
    CompactOptions, Compacted, Finding, History, VacuumOptions, Vacuumed, Verified, VerifiedTable, VerifyOptions, Version, check_lake,
    compact_lake, compare_with_ledger, export_lake, lake_history, plan_lake, publishing_ended, vacuum_lake, verify_lake,
};

//! A table of a lake as its commands see it: any version of it, whoever wrote it.

use std::collections::BTreeMap;

use arrow::datatypes::{Schema, SchemaRef};
use chrono::NaiveDate;
use deltalake_core::kernel::Remove;
use deltalake_core::kernel::engine::arrow_conversion::TryIntoArrow;
use deltalake_core::{DeltaTable, DeltaTableError};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::DAY;
use crate::dataset::Dataset;
use crate::error::{ExportError, ExportErrorKind, Result};
use crate::place::Place;

/// In a table's configuration: the columns that its files are sorted by, with commas between.
pub(super) const SORT: &str = "hitherto.sort";
/// In a table's configuration: the column whose day, UTC, is the partition.
pub(super) const TIME: &str = "hitherto.time";

/// A version of a table.
pub(super) struct Table {
    pub(super) name: String,
    pub(super) delta: DeltaTable,
    pub(super) version: u64,
    pub(super) files: Vec<DataFile>,
    /// What the files are sorted by; `None` where nobody knows.
    pub(super) sort: Option<Vec<String>>,
    pub(super) time: Option<String>,
    /// Its columns, but for the partition's.
    pub(super) schema: SchemaRef,
}

/// A data file of it, as the log has it.
pub(super) struct DataFile {
    /// Below the table.
    pub(super) path: String,
    pub(super) size: u64,
    pub(super) day: Option<NaiveDate>,
    pub(super) stats: Stats,
    pub(super) remove: Remove,
}

/// What the log says of its values.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Stats {
    pub(super) num_records: Option<u64>,
    pub(super) null_count: BTreeMap<String, Box<RawValue>>,
    pub(super) min_values: BTreeMap<String, Box<RawValue>>,
    pub(super) max_values: BTreeMap<String, Box<RawValue>>,
}

impl Table {
    /// The newest version of a table, or the one that is asked for. What its configuration doesn't say of its order,
    /// the dataset of its name says.
    pub(super) async fn load(place: &Place, name: &str, version: Option<u64>, datasets: &[Dataset]) -> Result<Self> {
        let doing = format!("reading the table {}", place.shown_in(name));
        let failed = |e: DeltaTableError| ExportError::lake(&doing, e);
        let mut delta = place.table(name)?;
        match version {
            None => delta.load().await.map_err(failed)?,
            Some(version) => delta
                .load_version(version)
                .await
                .map_err(|e| failed(e).with("name a version that `hitherto lake history` lists as readable"))?,
        }
        let state = delta.snapshot().map_err(failed)?;
        let version = state.version();
        let whole: Schema = state.schema().as_ref().try_into_arrow().map_err(|e| ExportError::lake(&doing, e))?;
        let partitions = state.metadata().partition_columns().to_vec();
        let columns: Vec<_> = whole.fields().iter().filter(|f| !partitions.contains(f.name())).cloned().collect();
        let config = state.metadata().configuration();
        let dataset = datasets.iter().find(|dataset| dataset.name == name);
        let names = |list: &String| list.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect();
        let sort = config.get(SORT).map(names).or_else(|| dataset.map(|dataset| dataset.order().cloned().collect()));
        let time = config.get(TIME).cloned().or_else(|| dataset.and_then(|dataset| dataset.time_column.clone()));
        let mut files = Vec::new();
        for view in state.log_data() {
            if view.deletion_vector_descriptor().is_some() {
                let message = format!("{doing}: rows of {} are marked as deleted, which this program doesn't know of", view.path());
                return Err(ExportError::new(ExportErrorKind::Lake, message));
            }
            let remove = view.remove_action(true);
            let stats = view.stats().and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
            files.push(DataFile {
                path: view.path().into_owned(),
                size: u64::try_from(view.size()).unwrap_or_default(),
                day: day_of(&remove),
                stats,
                remove,
            });
        }
        files.sort_unstable_by(|a, b| (a.day, &a.path).cmp(&(b.day, &b.path)));
        Ok(Self { name: name.to_owned(), delta, version, files, sort, time, schema: Schema::new(columns).into() })
    }
}

/// The day that a file is of; `None` where it has none.
pub(super) fn day_of(file: &Remove) -> Option<NaiveDate> {
    file.partition_values.as_ref()?.get(DAY)?.as_deref()?.parse().ok()
}

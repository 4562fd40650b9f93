//! What a lake holds of a dataset: the newest version of its Delta table.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs::File;
use std::path::Path;

use arrow::array::AsArray;
use arrow::compute::cast;
use arrow::datatypes::DataType as ArrowType;
use chrono::NaiveDate;
use deltalake_core::kernel::{Remove, StructField};
use deltalake_core::{DeltaTable, DeltaTableError};
use futures_util::TryStreamExt;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::Value;
use uuid::Uuid;

use super::table::day_of;
use crate::error::{ExportError, ExportErrorKind, Result};
use crate::place::Place;

/// Features of the Delta protocol that change nothing for who writes as this crate does.
const FEATURES: [&str; 3] = ["appendOnly", "invariants", "timestampNtz"];

/// A table's newest version.
pub(super) struct Held {
    place: Place,
    /// The dataset.
    name: String,
    pub(super) table: DeltaTable,
    pub(super) version: u64,
    /// Its files by day; `None` for files without one.
    pub(super) days: BTreeMap<Option<NaiveDate>, Vec<HeldFile>>,
    /// What its newest commit has noted, by application.
    notes: HashMap<String, i64>,
}

/// A file of it.
pub(super) struct HeldFile {
    pub(super) rows: u64,
    pub(super) remove: Remove,
}

impl Held {
    /// The newest version of a dataset's table; `None` where there is no table.
    pub(super) async fn load(place: &Place, dataset: &str) -> Result<Option<Self>> {
        let doing = format!("reading the table {}", place.shown_in(dataset));
        let failed = |e: DeltaTableError| ExportError::lake(&doing, e);
        if !place.has_log(dataset).await? {
            return Ok(None);
        }
        let mut table = place.table(dataset)?;
        table.load().await.map_err(|e| understood(failed(e)))?;
        let state = table.snapshot().map_err(failed)?;
        let version = state.version();
        let mut days = BTreeMap::<_, Vec<HeldFile>>::new();
        for view in state.log_data() {
            let remove = view.remove_action(true);
            let rows = view.num_records().map_or(u64::MAX, |rows| rows as u64);
            days.entry(day_of(&remove)).or_default().push(HeldFile { rows, remove });
        }
        let entry = table.log_store().read_commit_entry(version).await.map_err(failed)?.unwrap_or_default();
        let held = Self { place: place.clone(), name: dataset.to_owned(), table, version, days, notes: notes(&entry) };
        held.check_protocol()?;
        Ok(Some(held))
    }

    /// A table that asks for what this crate doesn't know is left alone.
    fn check_protocol(&self) -> Result<()> {
        let doing = format!("the table {}", self.shown());
        let state = self.table.snapshot().map_err(|e| ExportError::lake(&doing, e))?;
        let protocol = serde_json::to_value(state.protocol()).map_err(|e| ExportError::lake(&doing, e))?;
        let version = |key: &str| protocol[key].as_i64().unwrap_or(i64::MAX);
        let features = ["readerFeatures", "writerFeatures"].into_iter().filter_map(|key| protocol[key].as_array()).flatten();
        let mut unknown: BTreeSet<&str> = features.map(|f| f.as_str().unwrap_or("?")).filter(|f| !FEATURES.contains(f)).collect();
        if !matches!(version("minReaderVersion"), 1 | 3) {
            unknown.insert("a later reader protocol");
        }
        if !matches!(version("minWriterVersion"), 1 | 2 | 7) {
            unknown.insert("another writer protocol");
        }
        if state.metadata().configuration().get("delta.appendOnly").is_some_and(|v| v == "true") {
            unknown.insert("delta.appendOnly");
        }
        if unknown.is_empty() {
            return Ok(());
        }
        let unknown: Vec<&str> = unknown.into_iter().collect();
        Err(ExportError::new(
            ExportErrorKind::Lake,
            format!(
                "{doing} asks for what this program doesn't write ({}): upgrade this program, or export into another folder",
                unknown.join(", ")
            ),
        ))
    }

    fn shown(&self) -> String {
        self.place.shown_in(&self.name)
    }

    pub(super) fn fields(&self) -> Result<Vec<StructField>> {
        let state = self.table.snapshot().map_err(|e| ExportError::lake(&format!("reading the table {}", self.shown()), e))?;
        Ok(state.schema().fields().cloned().collect())
    }

    /// The newest version that an application has noted in the log.
    pub(super) async fn noted(&self, app: &str) -> Result<Option<i64>> {
        // An export notes all there is in each of its commits; to look through the log for it takes far longer.
        if let Some(version) = self.notes.get(app) {
            return Ok(Some(*version));
        }
        let doing = format!("reading the table {}", self.shown());
        let state = self.table.snapshot().map_err(|e| ExportError::lake(&doing, e))?;
        state.transaction_version(self.table.log_store().as_ref(), app).await.map_err(|e| ExportError::lake(&doing, e))
    }

    /// Rows of a day.
    pub(super) fn rows(&self, day: NaiveDate) -> u64 {
        self.days.get(&Some(day)).map_or(0, |files| files.iter().fold(0, |sum, file| sum.saturating_add(file.rows)))
    }

    /// The newest day.
    pub(super) fn last_day(&self) -> Option<NaiveDate> {
        self.days.keys().next_back().copied().flatten()
    }

    /// Every data file that this version shows, or says was shown.
    pub(super) async fn named(&self) -> Result<HashSet<String>> {
        let doing = format!("reading the table {}", self.shown());
        let state = self.table.snapshot().map_err(|e| ExportError::lake(&doing, e))?;
        let gone =
            state.all_tombstones(self.table.log_store().as_ref()).map_ok(|file| file.path().to_string()).try_collect::<Vec<_>>().await;
        let mut named: HashSet<String> = gone.map_err(|e| ExportError::lake(&doing, e))?.into_iter().collect();
        named.extend(self.days.values().flatten().map(|file| file.remove.path.clone()));
        Ok(named)
    }

    /// The batches that the files of a day have rows of.
    pub(super) async fn batches(&self, day: NaiveDate, column: &str) -> Result<HashSet<Uuid>> {
        let mut batches = HashSet::new();
        for file in self.days.get(&Some(day)).into_iter().flatten() {
            let path = self.place.fetch(&format!("{}/{}", self.name, file.remove.path)).await?;
            let read = read_batches(&path, column, &mut batches);
            self.place.forget(&path);
            read.map_err(|why| {
                ExportError::new(ExportErrorKind::Lake, format!("reading the batches in {}/{}: {why}", self.shown(), file.remove.path))
            })?;
        }
        Ok(batches)
    }
}

fn notes(commit: &[u8]) -> HashMap<String, i64> {
    let lines = commit.split(|byte| *byte == b'\n').filter(|line| line.starts_with(b"{\"txn\""));
    let actions = lines.filter_map(|line| serde_json::from_slice::<Value>(line).ok());
    actions.filter_map(|action| Some((action["txn"]["appId"].as_str()?.to_owned(), action["txn"]["version"].as_i64()?))).collect()
}

fn read_batches(path: &Path, column: &str, batches: &mut HashSet<Uuid>) -> std::result::Result<(), Box<dyn std::error::Error>> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(File::open(path)?)?;
    let mask = ProjectionMask::columns(builder.parquet_schema(), [column]);
    let mut last = String::new();
    for batch in builder.with_projection(mask).build()? {
        let batch = batch?;
        let values = batch.column_by_name(column).ok_or_else(|| format!("it has no column {column}"))?;
        let values = cast(values, &ArrowType::Utf8)?;
        for value in values.as_string::<i32>().iter().flatten() {
            if value != last {
                value.clone_into(&mut last);
                batches.insert(value.parse()?);
            }
        }
    }
    Ok(())
}

/// The library's words for a table of a later protocol say what, but not what to do.
fn understood(error: ExportError) -> ExportError {
    let words = error.to_string().to_lowercase();
    if ["feature", "protocol", "unsupported"].iter().any(|word| words.contains(word)) {
        return error.with("upgrade this program, or export into another folder");
    }
    error
}

//! Files of one day, made into one.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use chrono::{NaiveDate, Utc};
use deltalake_core::DeltaTableError;
use deltalake_core::kernel::transaction::{CommitBuilder, TableReference};
use deltalake_core::kernel::{Action, Add};
use deltalake_core::protocol::DeltaOperation;
use serde::Serialize;

use super::commit::{checkpoint_if_due, told};
use super::draft::new_file;
use super::folder::{self, Entered};
use super::leftover::{Files, tidy};
use super::merge::{Merged, merge};
use super::table::{DataFile, Table};
use super::{DAY, PUBLISHING, stats, versions};
use crate::dataset::{Dataset, Progress};
use crate::error::{ExportError, ExportErrorKind, Result};
use crate::place::Place;
use crate::snapshot::OnProgress;

/// What to compact.
#[derive(Debug, Clone)]
pub struct CompactOptions {
    /// Datasets; all without any.
    pub datasets: Vec<String>,
    /// Files of at least so many bytes are left as they are.
    pub below: u64,
    /// Write nothing, say what would be.
    pub dry_run: bool,
}

impl Default for CompactOptions {
    fn default() -> Self {
        Self { datasets: Vec::new(), below: 128 << 20, dry_run: false }
    }
}

/// What became of a table's small files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Compacted {
    /// The dataset.
    pub dataset: String,
    /// Days whose files were merged.
    pub days: u64,
    /// Files that were merged.
    pub files_before: u64,
    /// Files that they became.
    pub files_after: u64,
    /// Their rows, before and after.
    pub rows: u64,
    /// Bytes of the files that were merged.
    pub bytes_before: u64,
    /// Bytes of the files that they became; 0 for what was only asked about.
    pub bytes_after: u64,
    /// The version that shows them, or the newest.
    pub version: u64,
}

/// Merges the files of each day of a lake's tables into one, in the order of the dataset; the rows stay what they are.
/// Each table becomes visible at once, and says in its log that no data has changed. Files that were merged stay for
/// readers of earlier versions: [`crate::vacuum_lake`] removes them in time. `datasets` tell the order of tables
/// whose log doesn't.
///
/// # Errors
/// See [`crate::ExportErrorKind`]; the table that failed is as it was.
pub async fn compact_lake(lake: &str, datasets: &[Dataset], options: &CompactOptions, progress: OnProgress<'_>) -> Result<Vec<Compacted>> {
    let place = Place::new(lake)?;
    folder::must_be_lake(&place).await?;
    let lock = Arc::new(folder::lock(&place).await?);
    tidy(&place).await?;
    let mut all = Vec::new();
    for name in place.tables(&options.datasets).await? {
        let table = Table::load(&place, &name, None, datasets).await?;
        all.push(compact(&place, &lock, table, options, progress).await?);
    }
    if let Some(lock) = Arc::into_inner(lock) {
        lock.leave().await;
    }
    Ok(all)
}

async fn compact(
    place: &Place,
    lock: &Arc<Entered>,
    table: Table,
    options: &CompactOptions,
    progress: OnProgress<'_>,
) -> Result<Compacted> {
    let mut days = BTreeMap::<Option<NaiveDate>, Vec<&DataFile>>::new();
    for file in table.files.iter().filter(|file| file.size < options.below) {
        days.entry(file.day).or_default().push(file);
    }
    days.retain(|_, files| files.len() > 1);
    let merged = || days.values().flatten();
    let mut compacted = Compacted {
        dataset: table.name.clone(),
        days: days.len() as u64,
        files_before: merged().count() as u64,
        files_after: days.len() as u64,
        rows: merged().filter_map(|file| file.stats.num_records).sum(),
        bytes_before: merged().map(|file| file.size).sum(),
        bytes_after: 0,
        version: table.version,
    };
    if days.is_empty() || options.dry_run {
        return Ok(compacted);
    }
    let Some(sort) = &table.sort else {
        let message = format!("nobody knows what the files of {} are sorted by; export it with --full", place.shown_in(&table.name));
        return Err(ExportError::new(ExportErrorKind::Config, message));
    };
    let mut files = Files::new(place);
    let names: Vec<String> = days.keys().map(|day| new_file(&table.name, *day)).collect();
    files.note(&names, &[]).await?;
    let mut adds = Vec::new();
    let mut rows = 0;
    for ((day, inputs), name) in days.iter().zip(&names) {
        let add = write(place, &table, sort, *day, inputs, name).await?;
        rows += inputs.iter().filter_map(|file| file.stats.num_records).sum::<u64>();
        compacted.bytes_after += u64::try_from(add.size).unwrap_or_default();
        progress(Progress {
            dataset: &table.name,
            day: *day,
            rows,
            total_rows: Some(compacted.rows),
            bytes: compacted.bytes_after,
            days: adds.len() as u64 + 1,
            total_days: compacted.days,
        });
        adds.push(add);
    }
    if let Some(root) = place.folder() {
        for file in &names {
            let folder = root.join(file);
            let folder = folder.parent().unwrap_or(root);
            crate::file::sync_folder(folder).map_err(|e| ExportError::lake(&format!("writing to {}", folder.display()), e))?;
        }
    }
    let removes = merged().map(|file| {
        let mut remove = file.remove.clone();
        remove.data_change = false;
        remove.deletion_timestamp = Some(Utc::now().timestamp_millis());
        Action::Remove(remove)
    });
    let actions: Vec<Action> = removes.chain(adds.into_iter().map(Action::Add)).collect();
    drop(days);
    let publishing = PUBLISHING.read().await;
    let (place, lock, below) = (place.clone(), lock.clone(), options.below);
    // Whoever is told to stop between the commit and its answer must not take away what it shows.
    let task = tokio::spawn(async move {
        let published = publish(&place, &lock, &table, actions, below, files, &names[0]).await;
        drop((lock, publishing));
        published
    });
    compacted.version = task.await.unwrap_or_else(|e| Err(ExportError::lake("publishing what was merged", e)))?;
    Ok(compacted)
}

/// Shows the merged files, the first of which is named, in place of those that they were made of.
async fn publish(
    place: &Place,
    lock: &Entered,
    table: &Table,
    actions: Vec<Action>,
    below: u64,
    mut files: Files,
    first: &str,
) -> Result<u64> {
    let doing = format!("committing to {}", place.shown_in(&table.name));
    if let Err(e) = lock.check() {
        files.lost();
        return Err(e);
    }
    let version = match send(table, actions, below).await {
        Ok(version) => version,
        Err(e) => match Table::load(place, &table.name, None, &[]).await {
            // Its answer was an error, yet it is there.
            Ok(newest) if newest.files.iter().any(|file| first == format!("{}/{}", table.name, file.path)) => {
                tracing::warn!("{doing}: it went through, though with an error: {e}");
                newest.version
            }
            newest => {
                let error = told(&doing, e);
                files.unless_refused(&error, newest.is_ok());
                return Err(error);
            }
        },
    };
    files.published(|_| true);
    files.end().await;
    checkpoint_if_due(place, &table.name, version).await;
    versions::moved(place, &table.name, table.version, version).await?;
    Ok(version)
}

/// Merges files into one and brings it to its place.
async fn write(place: &Place, table: &Table, sort: &[String], day: Option<NaiveDate>, inputs: &[&DataFile], name: &str) -> Result<Add> {
    let mut copies: Vec<PathBuf> = Vec::new();
    for file in inputs {
        copies.push(place.fetch(&format!("{}/{}", table.name, file.path)).await?);
    }
    let out = place.work().join(name);
    let (schema, sort): (SchemaRef, Vec<String>) = (table.schema.clone(), sort.to_vec());
    let (from, to) = (copies.clone(), out.clone());
    let task = tokio::task::spawn_blocking(move || merge(&from, &to, &schema, &sort));
    let merged = task.await.unwrap_or_else(|e| Err(ExportError::lake("merging files", e)));
    copies.iter().for_each(|copy| place.forget(copy));
    let Merged { schema, written, read } = merged?;
    let said: Option<u64> = inputs.iter().map(|file| file.stats.num_records).sum();
    if written.rows != read || said.is_some_and(|said| said != written.rows) {
        let said = said.map_or_else(|| "nothing".to_owned(), |said| said.to_string());
        return Err(ExportError::new(
            ExportErrorKind::Incomplete,
            format!(
                "{}: {read} rows were read and {} written, the log says {said}; nothing was changed. Look with `hitherto lake verify`",
                place.shown_in(&table.name),
                written.rows
            ),
        ));
    }
    let stats = stats::of_file(&out, schema.fields(), &written)?;
    let size = i64::try_from(written.bytes).unwrap_or(i64::MAX);
    place.send(name).await?;
    Ok(Add {
        path: name.split_once('/').map_or(name, |(_, file)| file).to_owned(),
        partition_values: day.map(|day| [(DAY.to_owned(), Some(day.to_string()))].into()).unwrap_or_default(),
        size,
        modification_time: Utc::now().timestamp_millis(),
        data_change: false,
        stats: Some(stats),
        tags: None,
        deletion_vector: None,
        base_row_id: None,
        default_row_commit_version: None,
        clustering_provider: None,
    })
}

async fn send(table: &Table, actions: Vec<Action>, below: u64) -> std::result::Result<u64, DeltaTableError> {
    let operation = DeltaOperation::Optimize { predicate: None, target_size: i64::try_from(below).unwrap_or(i64::MAX) };
    let state = table.delta.snapshot()?;
    let commit = CommitBuilder::default().with_max_retries(0).with_actions(actions).build(
        Some(state as &dyn TableReference),
        table.delta.log_store(),
        operation,
    );
    Ok(commit.await?.version())
}

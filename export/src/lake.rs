//! A lake: one Delta table a dataset.

use std::collections::HashMap;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use chrono::{NaiveDate, Utc};
use deltalake_core::kernel::transaction::CommitBuilder;
use deltalake_core::kernel::{Action, Add, DataType, PrimitiveType, StructField};
use deltalake_core::operations::create::CreateBuilder;
use deltalake_core::protocol::{DeltaOperation, SaveMode};
use deltalake_core::{DeltaTable, DeltaTableBuilder, DeltaTableError};
use futures_util::TryStreamExt;
use serde_json::json;
use tokio_postgres::Client;
use url::Url;

use crate::column::Column;
use crate::dataset::{Dataset, Exported, Options, Progress};
use crate::error::{ExportError, ExportErrorKind, Result};
use crate::file::sync_folder;
use crate::snapshot::{OnProgress, Rows, Snapshot, verify};

/// Says that a folder is a lake of this crate's, and is locked by the exporter at work.
const MARKER: &str = "_lake.json";
/// The partition column.
const DAY: &str = "day";

/// Exports datasets into a lake, all of them as of one instant. Datasets become visible one after the
/// other, each at once and whole: every data file of every dataset is on disk before the first commit.
/// With [`Options::from`] or [`Options::to`], the days in that range are replaced and others left alone.
///
/// `lake` is a folder, made if missing, or a `file://` URL.
///
/// # Errors
/// See [`crate::ExportErrorKind`]; what was visible before still is, and files of the failed export
/// are removed.
pub async fn export_lake(
    client: &mut Client,
    lake: &str,
    datasets: &[Dataset],
    options: &Options,
    progress: OnProgress<'_>,
) -> Result<Vec<Exported>> {
    for dataset in datasets {
        dataset.check()?;
    }
    let root = folder(lake)?;
    let _lock = enter(&root)?;
    let snapshot = Snapshot::open(client, datasets).await?;
    let mut drafts = Vec::with_capacity(datasets.len());
    let mut files = Files::default();
    for dataset in datasets {
        drafts.push(draft(&snapshot, &root, dataset, options, &mut files, progress).await?);
    }
    snapshot.close().await?;
    let mut exported = Vec::with_capacity(drafts.len());
    for draft in drafts {
        let kept: Vec<PathBuf> = draft.adds.iter().map(|add| draft.path.join(&add.path)).collect();
        exported.push(draft.commit(options).await?);
        files.0.retain(|file| !kept.contains(file));
    }
    Ok(exported)
}

/// Data files that no commit shows yet; removed when they are given up.
#[derive(Default)]
struct Files(Vec<PathBuf>);

impl Drop for Files {
    fn drop(&mut self) {
        for file in &self.0 {
            let _ = fs::remove_file(file);
            // A day's folder that is empty now; one that is not stays.
            let _ = file.parent().map(fs::remove_dir);
        }
    }
}

/// A dataset whose files are written and whose commit is still to come.
struct Draft<'a> {
    dataset: &'a Dataset,
    path: PathBuf,
    columns: Vec<Column>,
    adds: Vec<Add>,
    rows: u64,
    days: u64,
}

async fn draft<'a>(
    snapshot: &Snapshot<'_>,
    root: &Path,
    dataset: &'a Dataset,
    options: &Options,
    files: &mut Files,
    progress: OnProgress<'_>,
) -> Result<Draft<'a>> {
    let path = root.join(&dataset.name);
    let columns = snapshot.columns(dataset).await?;
    let mut draft = Draft { dataset, path, columns, adds: Vec::new(), rows: 0, days: 0 };
    let whole = options.from.is_none() && options.to.is_none() || dataset.time_column.is_none();
    let expected = if whole { snapshot.expected_rows(dataset).await? } else { None };
    match &dataset.time_column {
        Some(time) => {
            let days = snapshot.days(dataset, time, options).await?;
            let total: u64 = days.iter().map(|(_, rows)| rows).sum();
            for (day, rows) in days {
                let before = draft.rows;
                let on_rows =
                    |rows| progress(Progress { dataset: &dataset.name, day: Some(day), rows: before + rows, total_rows: Some(total) });
                draft.add(snapshot, Some(day), files, on_rows).await?;
                if draft.rows - before != rows {
                    let message = format!(
                        "dataset {}: {rows} rows of {day} were counted, {} read; nothing was published",
                        dataset.name,
                        draft.rows - before
                    );
                    return Err(ExportError::new(ExportErrorKind::Incomplete, message));
                }
                draft.days += 1;
            }
        }
        None => {
            let on_rows = |rows| progress(Progress { dataset: &dataset.name, day: None, rows, total_rows: expected });
            draft.add(snapshot, None, files, on_rows).await?;
        }
    }
    verify(dataset, draft.rows, expected, options)?;
    Ok(draft)
}

impl Draft<'_> {
    /// Writes a data file and notes how the log will name it.
    async fn add(
        &mut self,
        snapshot: &Snapshot<'_>,
        day: Option<NaiveDate>,
        files: &mut Files,
        on_rows: impl FnMut(u64) + Send,
    ) -> Result<()> {
        let name = format!("part-{}.parquet", uuid::Uuid::new_v4());
        let relative = day.map_or_else(|| name.clone(), |day| format!("{DAY}={day}/{name}"));
        let file = self.path.join(&relative);
        let folder = file.parent().unwrap_or(&self.path);
        let doing = format!("writing {}", file.display());
        fs::create_dir_all(folder).map_err(|e| ExportError::lake(&doing, e))?;
        files.0.push(file.clone());
        let rows = day.map_or(Rows::All, Rows::day);
        let written = snapshot.write(self.dataset, &self.columns, rows, &file, on_rows).await?;
        sync_folder(folder).map_err(|e| ExportError::lake(&doing, e))?;
        let nulls: serde_json::Map<String, serde_json::Value> =
            self.columns.iter().zip(&written.nulls).map(|(column, nulls)| (column.name.clone(), json!(nulls))).collect();
        self.rows += written.rows;
        self.adds.push(Add {
            path: relative,
            partition_values: day.map(|day| HashMap::from([(DAY.to_owned(), Some(day.to_string()))])).unwrap_or_default(),
            size: i64::try_from(written.bytes).unwrap_or(i64::MAX),
            modification_time: Utc::now().timestamp_millis(),
            data_change: true,
            // Smallest and largest values are in the files' own footers.
            stats: Some(json!({"numRecords": written.rows, "nullCount": nulls}).to_string()),
            tags: None,
            deletion_vector: None,
            base_row_id: None,
            default_row_commit_version: None,
            clustering_provider: None,
        });
        Ok(())
    }

    fn delta_columns(&self) -> Result<Vec<StructField>> {
        let mut fields: Vec<StructField> = self.columns.iter().map(Column::delta_field).collect::<Result<_>>()?;
        if self.dataset.time_column.is_some() {
            fields.push(StructField::new(DAY, DataType::Primitive(PrimitiveType::Date), true));
        }
        Ok(fields)
    }

    async fn commit(self, options: &Options) -> Result<Exported> {
        let doing = format!("committing {}", self.path.display());
        let failed = |e: DeltaTableError| match e {
            DeltaTableError::Transaction { .. } | DeltaTableError::VersionAlreadyExists(_) => ExportError::new(
                ExportErrorKind::Conflict,
                format!("{doing}: somebody else changed the table meanwhile ({e}); run the export again"),
            ),
            e => ExportError::lake(&doing, e),
        };
        fs::create_dir_all(&self.path).map_err(|e| ExportError::lake(&doing, e))?;
        let url = url_of(&self.path)?;
        let mut table = DeltaTableBuilder::from_url(url.clone()).and_then(DeltaTableBuilder::build).map_err(failed)?;
        let exists = table.verify_deltatable_existence().await.map_err(failed)?;
        if exists {
            table.load().await.map_err(failed)?;
        }
        let fields = self.delta_columns()?;
        let partial = self.dataset.time_column.is_some() && (options.from.is_some() || options.to.is_some());
        let version = if exists && partial {
            self.replace_days(&table, &fields, options).await.map_err(failed)?
        } else {
            let mut create = CreateBuilder::new()
                .with_location(url.as_str())
                .with_table_name(&self.dataset.name)
                .with_save_mode(if exists { SaveMode::Overwrite } else { SaveMode::ErrorIfExists })
                .with_columns(fields)
                .with_actions(self.adds.iter().cloned().map(Action::Add));
            if self.dataset.time_column.is_some() {
                create = create.with_partition_columns([DAY]);
            }
            let table = create.await.map_err(failed)?;
            table.version().unwrap_or_default()
        };
        Ok(Exported {
            dataset: self.dataset.name.clone(),
            rows: self.rows,
            bytes: self.adds.iter().map(|add| u64::try_from(add.size).unwrap_or_default()).sum(),
            files: self.adds.len() as u64,
            days: self.days,
            version: Some(version),
            path: self.path.display().to_string(),
        })
    }

    /// Replaces the files of the days in range.
    async fn replace_days(&self, table: &DeltaTable, fields: &[StructField], options: &Options) -> Result<u64, DeltaTableError> {
        let state = table.snapshot()?;
        let same = state.schema().fields().map(|f| (f.name(), f.data_type())).eq(fields.iter().map(|f| (f.name(), f.data_type())));
        if !same {
            let message = format!("the columns of {} have changed; export it in full, without --from and --to", self.dataset.name);
            return Err(DeltaTableError::Generic(message));
        }
        let from = options.from.map(|t| t.date_naive().to_string());
        let to = options.to.map(|t| (t - chrono::TimeDelta::microseconds(1)).date_naive().to_string());
        let in_range = |day: &str| from.as_deref().is_none_or(|from| day >= from) && to.as_deref().is_none_or(|to| day <= to);
        let mut actions: Vec<Action> = self.adds.iter().cloned().map(Action::Add).collect();
        let mut views = table.get_active_add_actions_by_partitions(&[]);
        while let Some(view) = views.try_next().await? {
            let remove = view.remove_action(true);
            let day = remove.partition_values.as_ref().and_then(|values| values.get(DAY)).and_then(Option::as_deref);
            if day.is_some_and(in_range) {
                actions.push(Action::Remove(remove));
            }
        }
        drop(views);
        let operation = DeltaOperation::Write { mode: SaveMode::Overwrite, partition_by: Some(vec![DAY.to_owned()]), predicate: None };
        let commit = CommitBuilder::default().with_actions(actions).build(Some(state), table.log_store(), operation).await?;
        Ok(commit.version())
    }
}

fn url_of(path: &Path) -> Result<Url> {
    Url::from_directory_path(path)
        .map_err(|()| ExportError::new(ExportErrorKind::Config, format!("{} is not an absolute path", path.display())))
}

/// The lake's folder, absolute.
fn folder(lake: &str) -> Result<PathBuf> {
    let path = match lake.split_once("://") {
        Some(("file", _)) => Url::parse(lake).ok().and_then(|url| url.to_file_path().ok()),
        Some((scheme, _)) => {
            let message = format!("lakes on {scheme}:// are not supported yet; name a folder");
            return Err(ExportError::new(ExportErrorKind::Config, message));
        }
        None => std::path::absolute(lake).ok(),
    };
    // The Delta library decodes a path once too often.
    if path.as_deref().is_some_and(|p| p.to_string_lossy().contains('%')) {
        return Err(ExportError::new(
            ExportErrorKind::Config,
            format!("the path '{lake}' holds a %, which Delta readers take for an escape; name another folder"),
        ));
    }
    path.ok_or_else(|| ExportError::new(ExportErrorKind::Config, format!("'{lake}' is neither a folder nor a file:// URL")))
}

/// Makes sure that the folder is a lake, or makes it one, and locks it.
fn enter(root: &Path) -> Result<File> {
    let doing = format!("the lake {}", root.display());
    fs::create_dir_all(root).map_err(|e| ExportError::lake(&doing, e))?;
    let marker = root.join(MARKER);
    if !marker.exists() {
        let stranger = fs::read_dir(root).map_err(|e| ExportError::lake(&doing, e))?.next();
        if let Some(entry) = stranger {
            let name = entry.map_err(|e| ExportError::lake(&doing, e))?.file_name();
            let message = format!("{doing} holds something else ({}); name an empty folder", name.to_string_lossy());
            return Err(ExportError::new(ExportErrorKind::Lake, message));
        }
        fs::write(&marker, json!({"format": 1, "layout": "one Delta table a folder"}).to_string() + "\n")
            .map_err(|e| ExportError::lake(&doing, e))?;
    }
    let file = File::options().read(true).write(true).open(&marker).map_err(|e| ExportError::lake(&doing, e))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(ExportError::new(
            ExportErrorKind::Conflict,
            format!("{doing} is being written by another export; wait for it, then run this again"),
        )),
        Err(TryLockError::Error(e)) => Err(ExportError::lake(&doing, e)),
    }
}

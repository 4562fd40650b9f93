//! One dataset's Delta table: data files first, then the commit that shows them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use chrono::{NaiveDate, Utc};
use deltalake_core::kernel::transaction::CommitBuilder;
use deltalake_core::kernel::{Action, Add, DataType, PrimitiveType, Remove, StructField};
use deltalake_core::operations::create::CreateBuilder;
use deltalake_core::protocol::{DeltaOperation, SaveMode};
use deltalake_core::{DeltaTable, DeltaTableBuilder, DeltaTableError};
use futures_util::TryStreamExt;
use serde_json::json;
use url::Url;

use crate::column::{Column, Place};
use crate::dataset::{Dataset, Exported, Options, Progress};
use crate::error::{ExportError, ExportErrorKind, Result};
use crate::file::sync_folder;
use crate::parquet_file::{ParquetFile, Written};
use crate::read::schema;
use crate::readers::{Readers, Task};
use crate::snapshot::{OnProgress, Rows, day_end, day_start, verify};

/// The partition column.
const DAY: &str = "day";

/// Data files that no commit shows yet; removed when they are given up.
#[derive(Default)]
pub(crate) struct Files(Vec<PathBuf>);

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
pub(crate) struct Draft {
    dataset: Dataset,
    path: PathBuf,
    columns: Vec<Column>,
    parts: Vec<Part>,
    /// Days before this one may be thinner in the database than in the lake.
    first_whole_day: Option<NaiveDate>,
}

/// A data file, written.
struct Part {
    day: Option<NaiveDate>,
    rows: u64,
    add: Add,
}

impl Draft {
    /// Writes the data files of datasets and notes them in `files`.
    pub(crate) async fn write_all(
        readers: &Readers<'_>,
        root: &Path,
        datasets: &[Dataset],
        options: &Options,
        files: &mut Files,
        progress: OnProgress<'_>,
    ) -> Result<Vec<Self>> {
        let snapshot = &readers.snapshot;
        let (mut drafts, mut columns) = (Vec::new(), Vec::new());
        let (mut tasks, mut counted, mut expected, mut totals) = (Vec::new(), Vec::new(), Vec::new(), HashMap::new());
        for (at, dataset) in datasets.iter().enumerate() {
            let path = root.join(&dataset.name);
            columns.push(snapshot.columns(dataset, Place::Lake).await?);
            let first_whole_day = snapshot.first_whole_day(dataset).await?;
            let (days, least) = match &dataset.time_column {
                Some(time) => {
                    let least = snapshot.expected_rows(dataset, options.from.map(day_start), options.to.map(day_end)).await?;
                    let days = snapshot.days(dataset, time, options).await?;
                    (days.into_iter().map(|(day, rows)| (Some(day), Some(rows))).collect(), least)
                }
                None => (vec![(None, None)], snapshot.expected_rows(dataset, None, None).await?),
            };
            totals.insert(dataset.name.clone(), days.iter().map(|(_, rows)| *rows).sum::<Option<u64>>().or(least));
            for (day, rows) in days {
                tasks.push(Task { dataset: at, day, rows: day.map_or(Rows::All, Rows::day), path: new_file(&path, day)? });
                counted.push(rows);
            }
            expected.push(least);
            drafts.push(Self { dataset: dataset.clone(), path, columns: columns[at].clone(), parts: Vec::new(), first_whole_day });
        }
        files.0.extend(tasks.iter().map(|task| task.path.clone()));
        let mut on_rows = |p: Progress<'_>| progress(Progress { total_rows: totals.get(p.dataset).copied().flatten(), ..p });
        let written = readers.run(datasets, &columns, tasks.clone(), &mut on_rows).await?;
        for ((task, mut written), rows) in tasks.into_iter().zip(written).zip(counted) {
            let draft = &mut drafts[task.dataset];
            let name = &draft.dataset.name;
            if let (Some(day), Some(rows)) = (task.day, rows)
                && written.rows != rows
            {
                let message = format!("dataset {name}: {rows} rows of {day} were counted, {} read; nothing was published", written.rows);
                return Err(ExportError::new(ExportErrorKind::Incomplete, message));
            }
            if written.rows == 0 {
                written = ParquetFile::write_empty(&task.path, schema(&draft.columns))?;
            }
            draft.add(&task, written)?;
        }
        for (draft, expected) in drafts.iter().zip(expected) {
            verify(&draft.dataset, draft.rows(), expected, options)?;
        }
        Ok(drafts)
    }

    fn rows(&self) -> u64 {
        self.parts.iter().map(|part| part.rows).sum()
    }

    pub(crate) fn name(&self) -> &str {
        &self.dataset.name
    }

    /// Makes sure that the log can be written to, before any table's is.
    pub(crate) fn try_log(&self) -> Result<()> {
        let log = self.path.join("_delta_log");
        let folder = if log.exists() { &log } else { &self.path };
        let doing = format!("committing {}", self.path.display());
        let probe = folder.join(format!(".probe-{}", uuid::Uuid::new_v4()));
        fs::create_dir_all(folder)
            .and_then(|()| fs::write(&probe, ""))
            .and_then(|()| fs::remove_file(&probe))
            .map_err(|e| ExportError::lake(&doing, e))
    }

    /// Notes how the log will name a data file.
    fn add(&mut self, task: &Task, written: Written) -> Result<()> {
        let folder = task.path.parent().unwrap_or(&self.path);
        sync_folder(folder).map_err(|e| ExportError::lake(&format!("writing {}", task.path.display()), e))?;
        let nulls: serde_json::Map<String, serde_json::Value> = self
            .columns
            .iter()
            .zip(&written.nulls)
            .filter(|(c, _)| c.has_null_count())
            .map(|(column, nulls)| (column.name.clone(), json!(nulls)))
            .collect();
        let add = Add {
            path: task.path.strip_prefix(&self.path).unwrap_or(&task.path).to_string_lossy().into_owned(),
            partition_values: task.day.map(|day| HashMap::from([(DAY.to_owned(), Some(day.to_string()))])).unwrap_or_default(),
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
        };
        self.parts.push(Part { day: task.day, rows: written.rows, add });
        Ok(())
    }

    fn delta_columns(&self) -> Result<Vec<StructField>> {
        let mut fields: Vec<StructField> = self.columns.iter().map(Column::delta_field).collect::<Result<_>>()?;
        if self.dataset.time_column.is_some() {
            fields.push(StructField::new(DAY, DataType::Primitive(PrimitiveType::Date), true));
        }
        Ok(fields)
    }

    pub(crate) async fn commit(mut self, options: &Options, files: &mut Files) -> Result<Exported> {
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
        let (kept, removed) = if exists { self.compare(&table, options).await.map_err(failed)? } else { Default::default() };
        // A day that stays as it is needs no file; one with a file is no longer anybody's to remove: a
        // commit may have gone through even where its answer is an error.
        self.parts.retain(|part| part.day.is_none_or(|day| !kept.contains(&day)));
        for part in &self.parts {
            let file = self.path.join(&part.add.path);
            files.0.retain(|f| *f != file);
        }
        let adds = self.parts.iter().map(|part| Action::Add(part.add.clone()));
        let version = if kept.is_empty() {
            let mut create = CreateBuilder::new()
                .with_location(url.as_str())
                .with_table_name(&self.dataset.name)
                .with_save_mode(if exists { SaveMode::Overwrite } else { SaveMode::ErrorIfExists })
                .with_columns(fields)
                .with_actions(adds);
            if self.dataset.time_column.is_some() {
                create = create.with_partition_columns([DAY]);
            }
            let table = create.await.map_err(failed)?;
            table.version().unwrap_or_default()
        } else {
            self.same_columns(&table, &fields).map_err(failed)?;
            let actions = adds.chain(removed.into_iter().map(Action::Remove)).collect();
            let operation = DeltaOperation::Write { mode: SaveMode::Overwrite, partition_by: Some(vec![DAY.to_owned()]), predicate: None };
            let state = table.snapshot().map_err(failed)?;
            let commit = CommitBuilder::default().with_actions(actions).build(Some(state), table.log_store(), operation);
            commit.await.map_err(failed)?.version()
        };
        Ok(Exported {
            dataset: self.dataset.name.clone(),
            rows: self.rows(),
            bytes: self.parts.iter().map(|part| u64::try_from(part.add.size).unwrap_or_default()).sum(),
            files: self.parts.len() as u64,
            days: self.parts.iter().filter(|part| part.day.is_some()).count() as u64,
            version: Some(version),
            path: self.path.display().to_string(),
        })
    }

    /// Which of the table's days stay as they are, and which of its files go. A day that retention may
    /// have thinned is replaced only if the database has as many rows of it as the lake.
    async fn compare(&self, table: &DeltaTable, options: &Options) -> Result<(BTreeSet<NaiveDate>, Vec<Remove>), DeltaTableError> {
        if self.dataset.time_column.is_none() {
            return Ok(Default::default());
        }
        let (mut removed, mut by_day) = (Vec::new(), BTreeMap::<NaiveDate, (u64, Vec<Remove>)>::new());
        let mut views = table.get_active_add_actions_by_partitions(&[]);
        while let Some(view) = views.try_next().await? {
            let (rows, remove) = (view.num_records().unwrap_or(usize::MAX) as u64, view.remove_action(true));
            let day = remove.partition_values.as_ref().and_then(|values| values.get(DAY)).and_then(Option::as_deref);
            match day.and_then(|day| day.parse().ok()) {
                Some(day) => {
                    let entry = by_day.entry(day).or_default();
                    entry.0 = entry.0.saturating_add(rows);
                    entry.1.push(remove);
                }
                None => removed.push(remove),
            }
        }
        drop(views);
        let from = options.from.map(|t| day_start(t).date_naive());
        let to = options.to.map(|t| day_end(t).date_naive());
        let in_range = |day: NaiveDate| from.is_none_or(|from| day >= from) && to.is_none_or(|to| day < to);
        let read: HashMap<NaiveDate, u64> = self.parts.iter().filter_map(|part| Some((part.day?, part.rows))).collect();
        let mut kept = BTreeSet::new();
        for (day, (rows, removes)) in by_day {
            let now = read.get(&day).copied().unwrap_or_default();
            let thinned = self.first_whole_day.is_some_and(|first| day < first) && now < rows;
            if in_range(day) && !thinned {
                removed.extend(removes);
                continue;
            }
            if in_range(day) && now > 0 {
                tracing::warn!(
                    "dataset {}: {day} stays as the lake has it, {rows} rows; the database has dropped rows of that day and holds {now}",
                    self.dataset.name
                );
            }
            kept.insert(day);
        }
        Ok((kept, removed))
    }

    fn same_columns(&self, table: &DeltaTable, fields: &[StructField]) -> Result<(), DeltaTableError> {
        let state = table.snapshot()?;
        let same = state.schema().fields().map(|f| (f.name(), f.data_type())).eq(fields.iter().map(|f| (f.name(), f.data_type())));
        if same {
            return Ok(());
        }
        Err(DeltaTableError::Generic(format!(
            "the columns of {} have changed, and days of the lake would stay as they are; export into another folder, or in full",
            self.dataset.name
        )))
    }
}

/// A data file to be, whose folder is there.
fn new_file(table: &Path, day: Option<NaiveDate>) -> Result<PathBuf> {
    let name = format!("part-{}.parquet", uuid::Uuid::new_v4());
    let folder = day.map_or_else(|| table.to_owned(), |day| table.join(format!("{DAY}={day}")));
    let doing = format!("writing {}", folder.join(&name).display());
    fs::create_dir_all(&folder).map_err(|e| ExportError::lake(&doing, e))?;
    Ok(folder.join(name))
}

fn url_of(path: &Path) -> Result<Url> {
    Url::from_directory_path(path)
        .map_err(|()| ExportError::new(ExportErrorKind::Config, format!("{} is not an absolute path", path.display())))
}

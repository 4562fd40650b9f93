//! The data files of what was planned: written, checked, and noted as the log will name them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use chrono::{NaiveDate, Utc};
use deltalake_core::kernel::Add;

use super::DAY;
use super::ledger::Bounds;
use super::leftover::Files;
use super::plan::{Plan, Take};
use super::stats;
use crate::column::Column;
use crate::dataset::{Dataset, Mode, Progress};
use crate::error::{ExportError, ExportErrorKind, Result};
use crate::fault;
use crate::file::sync_folder;
use crate::parquet_file::Written;
use crate::readers::{Readers, Task};
use crate::snapshot::{OnProgress, Rows};

/// A plan whose files are written and whose commit is still to come.
pub(super) struct Draft {
    pub(super) root: PathBuf,
    pub(super) plan: Plan,
    pub(super) parts: Vec<Part>,
    /// When the export began.
    pub(super) began: Instant,
}

/// A data file, written.
pub(super) struct Part {
    pub(super) day: Option<NaiveDate>,
    pub(super) rows: u64,
    pub(super) file: PathBuf,
    pub(super) add: Add,
}

/// The files that plans ask for.
fn tasks(root: &Path, plans: &[Plan]) -> Vec<Task> {
    let mut tasks = Vec::new();
    for (dataset, plan) in plans.iter().enumerate() {
        let mut task = |day: Option<NaiveDate>, rows| {
            let name = format!("part-{}.parquet", uuid::Uuid::new_v4());
            let folder = root.join(&plan.dataset.name);
            let path = day.map_or_else(|| folder.join(&name), |day| folder.join(format!("{DAY}={day}")).join(&name));
            tasks.push(Task { dataset, day, rows, path });
        };
        match plan.dataset.time_column {
            None if plan.mode != Mode::Unchanged => task(None, Rows::All),
            None => {}
            Some(_) => {
                for (day, wanted) in &plan.days {
                    let rows = match &wanted.take {
                        Take::Whole => Rows::day(*day),
                        Take::Batches(batches) => Rows::batches(*day, batches.clone()),
                    };
                    task(Some(*day), rows);
                }
            }
        }
    }
    tasks
}

/// Writes the tasks' files and syncs them; one without rows is not there then. The results are in the order
/// of the tasks.
async fn write_all(readers: &Readers<'_>, plans: &[Plan], tasks: &[Task], progress: OnProgress<'_>) -> Result<Vec<Written>> {
    let datasets: Vec<Dataset> = plans.iter().map(|plan| plan.dataset.clone()).collect();
    let columns: Vec<Vec<Column>> = plans.iter().map(|plan| plan.columns.clone()).collect();
    // Of tables that the ledger does not know it is not known, and they are small.
    let total = plans.iter().filter_map(|plan| plan.owed.map(|(_, most)| most).filter(|most| *most < u64::MAX)).sum();
    let total_rows = Some(total).filter(|total| *total > 0);
    let mut on_rows = |p: Progress<'_>| progress(Progress { total_rows, ..p });
    readers.run(&datasets, &columns, tasks.to_vec(), &mut on_rows).await
}

/// Writes the files of all plans; `files` removes them should it be dropped before they are published.
pub(super) async fn write(
    readers: &Readers<'_>,
    root: &Path,
    began: Instant,
    plans: Vec<Plan>,
    unverified: bool,
    files: &mut Files,
    progress: OnProgress<'_>,
) -> Result<Vec<Draft>> {
    let tasks = tasks(root, &plans);
    let doing = format!("writing to {}", root.display());
    let failed = |e| ExportError::lake(&doing, e);
    let paths: Vec<PathBuf> = tasks.iter().map(|task| task.path.clone()).collect();
    files.note(&paths).map_err(failed)?;
    let folders: BTreeSet<&Path> = paths.iter().filter_map(|path| path.parent()).collect();
    for folder in &folders {
        fault::step(folder).and_then(|()| fs::create_dir_all(folder)).map_err(failed)?;
    }
    let written = write_all(readers, &plans, &tasks, progress).await?;
    // A file's name is on disk when its folder is, and a folder's when the one above is.
    let above: BTreeSet<&Path> = folders.iter().filter_map(|folder| folder.parent()).filter(|above| above.starts_with(root)).collect();
    for folder in folders.into_iter().chain(above).chain([root]) {
        fault::step(folder).and_then(|()| sync_folder(folder)).map_err(failed)?;
    }
    let mut drafts: Vec<Draft> = plans.into_iter().map(|plan| Draft { root: root.to_owned(), plan, parts: Vec::new(), began }).collect();
    for (task, written) in tasks.into_iter().zip(written) {
        if written.rows > 0 {
            drafts[task.dataset].add(task, &written)?;
        }
    }
    drafts.iter().try_for_each(|draft| if unverified { Ok(()) } else { draft.verify() })?;
    Ok(drafts)
}

impl Draft {
    fn add(&mut self, task: Task, written: &Written) -> Result<()> {
        let folder = task.path.ancestors().nth(if task.day.is_some() { 2 } else { 1 }).unwrap_or(&task.path);
        let add = Add {
            path: task.path.strip_prefix(folder).unwrap_or(&task.path).display().to_string(),
            partition_values: task.day.map(|day| HashMap::from([(DAY.to_owned(), Some(day.to_string()))])).unwrap_or_default(),
            size: i64::try_from(written.bytes).unwrap_or(i64::MAX),
            modification_time: Utc::now().timestamp_millis(),
            data_change: true,
            stats: Some(stats::of_file(&task.path, &self.plan.columns, written)?),
            tags: None,
            deletion_vector: None,
            base_row_id: None,
            default_row_commit_version: None,
            clustering_provider: None,
        };
        self.parts.push(Part { day: task.day, rows: written.rows, file: task.path, add });
        Ok(())
    }

    pub(super) fn rows(&self) -> u64 {
        self.parts.iter().map(|part| part.rows).sum()
    }

    /// What was read must be what the ledger tells of.
    fn verify(&self) -> Result<()> {
        let plan = &self.plan;
        if plan.mode == Mode::Unchanged {
            return Ok(());
        }
        let name = &plan.dataset.name;
        plan.owed.map_or(Ok(()), |owed| compare(&format!("dataset {name}"), self.rows(), owed))?;
        let mut by_day = BTreeMap::<NaiveDate, u64>::new();
        for part in &self.parts {
            if let Some(day) = part.day {
                *by_day.entry(day).or_default() += part.rows;
            }
        }
        plan.days.iter().try_for_each(|(day, wanted)| {
            compare(&format!("dataset {name}, {day}"), by_day.get(day).copied().unwrap_or_default(), wanted.owed)
        })
    }
}

fn compare(what: &str, rows: u64, (least, most): Bounds) -> Result<()> {
    if rows < least {
        return Err(ExportError::new(
            ExportErrorKind::Incomplete,
            format!(
                "{what}: {rows} rows were read, but {least} must be there; nothing was published. \
                 Rows were deleted by hand, or lost: find out with `hitherto audit verify`, or publish all the same with --unverified"
            ),
        ));
    }
    if rows > most {
        return Err(ExportError::new(
            ExportErrorKind::Surplus,
            format!(
                "{what}: {rows} rows were read, but the ledger tells of {most}; nothing was published. \
                 Rows were added by hand, or twice: find out with `hitherto audit verify`, or publish all the same with --unverified"
            ),
        ));
    }
    Ok(())
}

//! The data files of what was planned: written, checked, and noted as the log will name them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use chrono::{NaiveDate, Utc};
use deltalake_core::kernel::Add;

use super::DAY;
use super::ledger::Bounds;
use super::leftover::Files;
use super::plan::{Plan, Take};
use super::stats;
use crate::dataset::{Mode, Progress};
use crate::error::{ExportError, ExportErrorKind, Result};
use crate::fault;
use crate::file::sync_folder;
use crate::snapshot::{OnProgress, Rows, Snapshot, Written};

/// A file to write: which rows of which plan's dataset.
pub(super) struct Task {
    pub(super) dataset: usize,
    pub(super) day: Option<NaiveDate>,
    pub(super) rows: Rows,
    pub(super) path: PathBuf,
}

/// A plan whose files are written and whose commit is still to come.
pub(super) struct Draft {
    pub(super) root: PathBuf,
    pub(super) plan: Plan,
    pub(super) parts: Vec<Part>,
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
async fn write_all(snapshot: &Snapshot<'_>, plans: &[Plan], tasks: &[Task], progress: OnProgress<'_>) -> Result<Vec<Written>> {
    let mut all = Vec::with_capacity(tasks.len());
    let mut before = vec![0; plans.len()];
    for task in tasks {
        let plan = &plans[task.dataset];
        let (done, total_rows) = (before[task.dataset], plan.owed.map(|(_, most)| most).filter(|most| *most < u64::MAX));
        let on_rows = |rows| progress(Progress { dataset: &plan.dataset.name, day: task.day, rows: done + rows, total_rows });
        let written = snapshot.write(&plan.dataset, &plan.columns, &task.rows, &task.path, on_rows).await?;
        before[task.dataset] += written.rows;
        if written.rows == 0 {
            fs::remove_file(&task.path).map_err(|e| ExportError::lake(&format!("removing {}", task.path.display()), e))?;
        }
        all.push(written);
    }
    Ok(all)
}

/// Writes the files of all plans; `files` removes them should it be dropped before they are published.
pub(super) async fn write(
    snapshot: &Snapshot<'_>,
    root: &Path,
    plans: Vec<Plan>,
    unverified: bool,
    files: &mut Files,
    progress: OnProgress<'_>,
) -> Result<Vec<Draft>> {
    let tasks = tasks(root, &plans);
    let doing = format!("writing to {}", root.display());
    let failed = |e| ExportError::lake(&doing, e);
    let paths: Vec<PathBuf> = tasks.iter().map(|task| task.path.clone()).collect();
    let changed: Vec<&str> = plans.iter().filter(|plan| plan.mode != Mode::Unchanged).map(|plan| plan.dataset.name.as_str()).collect();
    files.note(&paths, &changed).map_err(failed)?;
    let folders: BTreeSet<&Path> = paths.iter().filter_map(|path| path.parent()).collect();
    for folder in &folders {
        fault::step(folder).and_then(|()| fs::create_dir_all(folder)).map_err(failed)?;
    }
    let written = write_all(snapshot, &plans, &tasks, progress).await?;
    // A file's name is on disk when its folder is, and a folder's when the one above is.
    let above: BTreeSet<&Path> = folders.iter().filter_map(|folder| folder.parent()).filter(|above| above.starts_with(root)).collect();
    for folder in folders.into_iter().chain(above).chain([root]) {
        fault::step(folder).and_then(|()| sync_folder(folder)).map_err(failed)?;
    }
    let mut drafts: Vec<Draft> = plans.into_iter().map(|plan| Draft { root: root.to_owned(), plan, parts: Vec::new() }).collect();
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

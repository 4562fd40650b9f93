//! The data files of what was planned: written, checked, and noted as the log will name them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use arrow::datatypes::Field;
use chrono::{NaiveDate, Utc};
use deltalake_core::kernel::Add;
use futures_util::{StreamExt, TryStreamExt};

use super::DAY;
use super::ledger::compare;
use super::leftover::Files;
use super::plan::{Plan, Take};
use super::stats;
use crate::column::Column;
use crate::dataset::{Dataset, Mode, Progress};
use crate::error::{ExportError, Result};
use crate::fault;
use crate::file::sync_folder;
use crate::parquet_file::Written;
use crate::place::Place;
use crate::readers::{Readers, Task};
use crate::snapshot::{OnProgress, Rows};

/// Data files that are sent to an object store at once.
const SENDS: usize = 3;

/// A plan whose files are written and whose commit is still to come.
pub(super) struct Draft {
    pub(super) place: Place,
    pub(super) plan: Plan,
    pub(super) parts: Vec<Part>,
    /// When the export began.
    pub(super) began: Instant,
}

/// A data file, written.
pub(super) struct Part {
    pub(super) day: Option<NaiveDate>,
    pub(super) rows: u64,
    /// Its name in the lake.
    pub(super) name: String,
    pub(super) add: Add,
}

/// The files that plans ask for.
fn tasks(place: &Place, plans: &[Plan]) -> (Vec<Task>, Vec<String>) {
    let (mut tasks, mut names) = (Vec::new(), Vec::new());
    for (dataset, plan) in plans.iter().enumerate() {
        let mut task = |day: Option<NaiveDate>, rows| {
            let name = new_file(&plan.dataset.name, day);
            tasks.push(Task { dataset, day, rows, path: place.work().join(&name) });
            names.push(name);
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
    (tasks, names)
}

/// A data file to be, by its name in the lake.
pub(super) fn new_file(table: &str, day: Option<NaiveDate>) -> String {
    let file = format!("part-{}.parquet", uuid::Uuid::new_v4());
    day.map_or_else(|| format!("{table}/{file}"), |day| format!("{table}/{DAY}={day}/{file}"))
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

/// Writes the files of all plans and leaves the database; `files` removes them should it be dropped before they are published.
pub(super) async fn write(
    readers: Readers<'_>,
    place: &Place,
    began: Instant,
    plans: Vec<Plan>,
    unverified: bool,
    files: &mut Files,
    progress: OnProgress<'_>,
) -> Result<Vec<Draft>> {
    let (tasks, names) = tasks(place, &plans);
    let doing = format!("writing to {}", place.shown());
    let failed = |e| ExportError::lake(&doing, e);
    let changed: Vec<&str> = plans.iter().filter(|plan| plan.mode != Mode::Unchanged).map(|plan| plan.dataset.name.as_str()).collect();
    files.note(&names, &changed).await?;
    let folders: BTreeSet<&Path> = tasks.iter().filter_map(|task| task.path.parent()).collect();
    for folder in &folders {
        fault::step(folder).and_then(|()| fs::create_dir_all(folder)).map_err(failed)?;
    }
    let written = write_all(&readers, &plans, &tasks, progress).await?;
    // Sending may take long: nobody's work on the tables waits for it.
    readers.close().await?;
    // A file's name is on disk when its folder is, and a folder's when the one above is.
    if let Some(root) = place.folder() {
        let above: BTreeSet<&Path> = folders.iter().filter_map(|folder| folder.parent()).filter(|above| above.starts_with(root)).collect();
        for folder in folders.into_iter().chain(above).chain([root]) {
            fault::step(folder).and_then(|()| sync_folder(folder)).map_err(failed)?;
        }
    }
    let mut drafts: Vec<Draft> = plans.into_iter().map(|plan| Draft { place: place.clone(), plan, parts: Vec::new(), began }).collect();
    for ((task, name), written) in tasks.into_iter().zip(names).zip(written) {
        if written.rows > 0 {
            drafts[task.dataset].add(task, name, &written)?;
        }
    }
    drafts.iter().try_for_each(|draft| if unverified { Ok(()) } else { draft.verify() })?;
    if place.folder().is_none() {
        let names = drafts.iter().flat_map(|draft| &draft.parts).map(|part| part.name.as_str());
        futures_util::stream::iter(names).map(|name| place.send(name)).buffer_unordered(SENDS).try_collect::<()>().await?;
    }
    Ok(drafts)
}

impl Draft {
    fn add(&mut self, task: Task, name: String, written: &Written) -> Result<()> {
        let fields: Vec<Arc<Field>> = self.plan.columns.iter().map(|column| Arc::new(column.field())).collect();
        let add = Add {
            path: name.split_once('/').map_or(name.as_str(), |(_, file)| file).to_owned(),
            partition_values: task.day.map(|day| HashMap::from([(DAY.to_owned(), Some(day.to_string()))])).unwrap_or_default(),
            size: i64::try_from(written.bytes).unwrap_or(i64::MAX),
            modification_time: Utc::now().timestamp_millis(),
            data_change: true,
            stats: Some(stats::of_file(&task.path, &fields, written)?),
            tags: None,
            deletion_vector: None,
            base_row_id: None,
            default_row_commit_version: None,
            clustering_provider: None,
        };
        self.parts.push(Part { day: task.day, rows: written.rows, name, add });
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

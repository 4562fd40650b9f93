//! Removing the files of a lake that nobody reads any more.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use chrono::Utc;
use deltalake_core::protocol::checkpoints;
use deltalake_core::{DeltaTable, DeltaTableError};
use futures_util::TryStreamExt;
use serde::Serialize;

use super::table::Table;
use super::{folder, history, versions};
use crate::error::{ExportError, ExportErrorKind, Result};
use crate::place::Place;

/// What to remove.
#[derive(Debug, Clone)]
pub struct VacuumOptions {
    /// Datasets; all without any.
    pub datasets: Vec<String>,
    /// Files stay that a version shows which was the newest within this time.
    pub keep: Duration,
    /// Remove nothing, say what would be.
    pub dry_run: bool,
}

/// What was removed of a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Vacuumed {
    /// The dataset.
    pub dataset: String,
    /// Data files that were removed.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Of those files, how many no version has ever shown, as far as the log tells.
    pub leftovers: u64,
    /// Files of the log that were removed: commits older than a checkpoint and than 30 days.
    pub log_files: u64,
    /// The data files, by their names in the lake.
    pub removed: Vec<String>,
}

/// Removes the data files that no version shows which was the newest within [`VacuumOptions::keep`], and what exports that
/// were killed have left, when it is older than that. What the newest version shows, and the version that `_snapshot.json`
/// names, stays whatever its age. The lake is locked meanwhile, so nobody's files are under way.
///
/// # Errors
/// See [`crate::ExportErrorKind`]: no lake there, no such dataset, somebody writes to the lake.
pub async fn vacuum_lake(lake: &str, options: &VacuumOptions) -> Result<Vec<Vacuumed>> {
    let place = Place::new(lake)?;
    folder::must_be_lake(&place).await?;
    let lock = folder::lock(&place).await?;
    let noted = versions::read(&place).await?;
    let keep = i64::try_from(options.keep.as_millis()).unwrap_or(i64::MAX);
    let before = Utc::now().timestamp_millis().saturating_sub(keep);
    let mut all = Vec::new();
    for name in place.tables(&options.datasets).await? {
        let table = Table::load(&place, &name, None, &[]).await?;
        let mut named: HashSet<String> = table.files.iter().map(|file| file.path.clone()).collect();
        if let Some(noted) = noted.get(&name).filter(|noted| noted.version < table.version) {
            match Table::load(&place, &name, Some(noted.version), &[]).await {
                Ok(shown) => named.extend(shown.files.into_iter().map(|file| file.path)),
                Err(e) if matches!(e.kind(), ExportErrorKind::Unreachable | ExportErrorKind::Denied) => return Err(e),
                // A version that can't be read any more, since its log is gone, needs no files.
                Err(_) => {}
            }
        }
        let (gone, begins) = removed_at(&place, &table).await?;
        let mut vacuumed = Vacuumed { dataset: name.clone(), files: 0, bytes: 0, leftovers: 0, log_files: 0, removed: Vec::new() };
        for (file, meta) in place.list(&name).await? {
            let data = file.ends_with(".parquet") && !file.split('/').any(|part| part.starts_with(['_', '.']));
            if !data || named.contains(&file) {
                continue;
            }
            let made = meta.last_modified.timestamp_millis();
            let known = gone.get(&file).copied();
            if known.flatten().or(begins).unwrap_or(made).max(made) < before {
                vacuumed.files += 1;
                vacuumed.bytes += meta.size;
                vacuumed.leftovers += u64::from(known.is_none());
                vacuumed.removed.push(format!("{name}/{file}"));
            }
        }
        if !options.dry_run {
            lock.check()?;
            place.remove_all(vacuumed.removed.clone()).await?;
            vacuumed.log_files = shorten(&table.delta)
                .await
                .map_err(|e| ExportError::lake(&format!("shortening the log of {}", place.shown_in(&name)), e))?;
        }
        all.push(vacuumed);
    }
    lock.leave().await;
    Ok(all)
}

/// When each file was removed that the log still remembers, in milliseconds; `None` where it doesn't say. And when the log
/// begins, if what came before is forgotten: nobody knows when other files were removed, but it was not later than that.
async fn removed_at(place: &Place, table: &Table) -> Result<(HashMap<String, Option<i64>>, Option<i64>)> {
    let failed = |e: DeltaTableError| ExportError::lake(&format!("reading the table {}", place.shown_in(&table.name)), e);
    let state = table.delta.snapshot().map_err(failed)?;
    let log = table.delta.log_store();
    let gone = state.all_tombstones(log.as_ref()).map_ok(|gone| (gone.path().into_owned(), gone.deletion_timestamp()));
    let mut gone: HashMap<String, Option<i64>> = gone.try_collect().await.map_err(failed)?;
    // A checkpoint forgets files sooner than the commits go that removed them.
    let commits = history::commits(place, &table.name).await?;
    let begins = commits.first_key_value().filter(|(version, _)| **version > 0).and_then(|(_, actions)| history::committed_at(actions));
    for remove in commits.values().flatten().filter_map(|action| action.get("remove")) {
        gone.insert(history::path(remove), remove["deletionTimestamp"].as_i64());
    }
    Ok((gone, begins))
}

/// Removes the commits that no reader needs, by the table's own settings; those need a checkpoint, which exports write.
async fn shorten(table: &DeltaTable) -> std::result::Result<u64, DeltaTableError> {
    checkpoints::cleanup_metadata(table, None).await.map(|files| files as u64)
}

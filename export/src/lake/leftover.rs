//! Data files that no version names: those of the export at work, and what one that was killed has left.
//! What is about to be written is noted beforehand, so that the next export finds it without looking through
//! the lake.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::held::Held;
use super::later;
use super::store::is_draft;
use crate::error::{ExportError, ExportErrorKind, Result};
use crate::fault;
use crate::place::Place;

/// Names the data files of the export at work, one a line, and the tables that it changes.
const UNFINISHED: &str = "_unfinished";

/// Data files that no commit shows yet, by their names in the lake; removed when they are given up.
pub(super) struct Files {
    place: Place,
    names: Vec<String>,
    noted: bool,
}

impl Files {
    /// None yet; the lake is locked.
    pub(super) fn new(place: &Place) -> Self {
        Self { place: place.clone(), names: Vec::new(), noted: false }
    }

    /// Notes files that are about to be written, and tables that are about to be committed to.
    pub(super) async fn note(&mut self, names: &[String], tables: &[&str]) -> Result<()> {
        self.names.extend_from_slice(names);
        let lines: Vec<String> = self.names.iter().cloned().chain(tables.iter().map(|table| format!("{table}/"))).collect();
        if lines.is_empty() {
            return Ok(());
        }
        self.noted = true;
        self.place.write(UNFINISHED, format!("{}\n", lines.join("\n"))).await
    }

    /// Files that a version shows: they are no longer anybody's to remove.
    pub(super) fn published(&mut self, shown: impl Fn(&str) -> bool) {
        self.names.retain(|name| !shown(name));
    }

    /// A commit failed, and the log, if it could be read, does not have it. Unless it was refused, a request that was given up
    /// may still go through: nobody knows whether a version will show the files, and the next export finds out.
    pub(super) fn unless_refused(&mut self, error: &ExportError, read: bool) {
        let refused = self.place.folder().is_some() || matches!(error.kind(), ExportErrorKind::Conflict | ExportErrorKind::Denied);
        if !(read && refused) {
            self.names.clear();
            self.noted = false;
        }
    }

    /// The lake's lock was lost: the note is another's by now, or will be.
    pub(super) fn lost(&mut self) {
        self.noted = false;
    }

    /// Removes those that no version shows, and the note; comes back when that is done.
    pub(super) async fn end(mut self) {
        if self.place.folder().is_none() {
            end(self.place.clone(), std::mem::take(&mut self.names), std::mem::take(&mut self.noted)).await;
        }
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let (names, noted) = (std::mem::take(&mut self.names), std::mem::take(&mut self.noted));
        let Some(root) = self.place.folder() else {
            if noted {
                later(end(self.place.clone(), names, noted));
            }
            return;
        };
        if fault::killed(root) {
            return;
        }
        remove(&names.iter().map(|name| root.join(name)).collect::<Vec<_>>());
        if noted {
            let _ = fs::remove_file(root.join(UNFINISHED));
        }
    }
}

/// Objects that were given up. Where that fails, the note stays, and the next export tries again.
async fn end(place: Place, names: Vec<String>, noted: bool) {
    let removed = place.remove_all(names).await;
    if noted {
        let ended = match removed {
            Ok(_) => place.remove(UNFINISHED).await,
            Err(e) => Err(e),
        };
        if let Err(e) = ended {
            tracing::warn!("what this export has left in {} is removed by the next one: {e}", place.shown());
        }
    }
}

/// Removes what the last export has left, if it did not come to its end. The lake is locked, so nobody's
/// files are under way.
pub(super) async fn tidy(place: &Place) -> Result<()> {
    if let Some(root) = place.folder() {
        remove_drafts(root);
    }
    let doing = format!("removing what an export that did not end has left in {}", place.shown());
    let Some((text, _)) = place.read(UNFINISHED).await? else { return Ok(()) };
    let text = String::from_utf8_lossy(&text);
    let mut by_table = BTreeMap::<&str, Vec<&str>>::new();
    for (table, file) in text.lines().filter_map(|line| line.split_once('/')) {
        by_table.entry(table).or_default().extend(Some(file).filter(|file| !file.is_empty()));
    }
    let mut left = Vec::new();
    for (table, files) in by_table {
        let named = match Held::load(place, table).await? {
            Some(held) => held.named().await?,
            None => Default::default(),
        };
        if let Some(root) = place.folder() {
            remove_drafts(&root.join(table));
            remove_drafts(&root.join(table).join("_delta_log"));
        }
        left.extend(files.into_iter().filter(|file| !named.contains(*file)).map(|file| format!("{table}/{file}")));
    }
    let count = match place.folder() {
        Some(root) => {
            let left: Vec<PathBuf> = left.iter().map(|name| root.join(name)).collect();
            let count = left.iter().filter(|file| file.exists()).count();
            remove(&left);
            fs::remove_file(root.join(UNFINISHED)).map_err(|e| ExportError::lake(&doing, e))?;
            count
        }
        None => {
            let count = left.len();
            place.remove_all(left).await?;
            place.remove(UNFINISHED).await?;
            count
        }
    };
    if count > 0 {
        tracing::info!("removed {count} files of an export into {} that did not come to its end", place.shown());
    }
    Ok(())
}

/// Files that had not got their names yet.
fn remove_drafts(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_name().to_str().is_some_and(is_draft) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

fn remove(files: &[PathBuf]) {
    for file in files {
        let _ = fs::remove_file(file);
        // A day's folder that is empty now, and a table's; one that is not stays.
        for folder in file.ancestors().skip(1).take(2) {
            let _ = fs::remove_dir(folder.join("_delta_log"));
            let _ = fs::remove_dir(folder);
        }
    }
}

//! Data files that no version names: those of the export at work, and what one that was killed has left.
//! What is about to be written is noted beforehand, so that the next export finds it without looking through
//! the lake.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::held::Held;
use super::store::{is_draft, put_file};
use crate::error::{ExportError, Result};
use crate::fault;

/// Names the data files of the export at work, one a line, and the tables that it changes.
const UNFINISHED: &str = "_unfinished";

/// Data files that no commit shows yet; removed when they are given up.
pub(super) struct Files {
    root: PathBuf,
    paths: Vec<PathBuf>,
    noted: bool,
}

impl Files {
    /// None yet; the lake is locked.
    pub(super) fn new(root: &Path) -> Self {
        Self { root: root.to_owned(), paths: Vec::new(), noted: false }
    }

    /// Notes files that are about to be written, and tables that are about to be committed to.
    pub(super) fn note(&mut self, paths: &[PathBuf], tables: &[&str]) -> io::Result<()> {
        self.paths.extend_from_slice(paths);
        let files = self.paths.iter().filter_map(|path| Some(path.strip_prefix(&self.root).ok()?.display().to_string()));
        let lines: Vec<String> = files.chain(tables.iter().map(|table| format!("{table}/"))).collect();
        if lines.is_empty() {
            return Ok(());
        }
        self.noted = true;
        put_file(&self.root.join(UNFINISHED), &[lines.join("\n").as_bytes(), b"\n"], false)
    }

    /// Files that a version shows: they are no longer anybody's to remove.
    pub(super) fn published(&mut self, shown: impl Fn(&Path) -> bool) {
        self.paths.retain(|path| !shown(path));
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        if fault::killed(&self.root) {
            return;
        }
        remove(&self.paths);
        if self.noted {
            let _ = fs::remove_file(self.root.join(UNFINISHED));
        }
    }
}

/// Removes what the last export has left, if it did not come to its end. The lake is locked, so nobody's
/// files are under way.
pub(super) async fn tidy(root: &Path) -> Result<()> {
    let note = root.join(UNFINISHED);
    remove_drafts(root);
    let doing = format!("removing what an export that did not end has left in {}", root.display());
    let failed = |e| ExportError::lake(&doing, e);
    let text = match fs::read_to_string(&note) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(failed(e)),
    };
    let mut by_table = BTreeMap::<&str, Vec<&str>>::new();
    for (table, file) in text.lines().filter_map(|line| line.split_once('/')) {
        by_table.entry(table).or_default().extend(Some(file).filter(|file| !file.is_empty()));
    }
    let mut left = Vec::new();
    for (table, files) in by_table {
        let named = match Held::load(root, table).await? {
            Some(held) => held.named().await?,
            None => Default::default(),
        };
        remove_drafts(&root.join(table));
        remove_drafts(&root.join(table).join("_delta_log"));
        left.extend(files.into_iter().filter(|file| !named.contains(*file)).map(|file| root.join(table).join(file)));
    }
    let count = left.iter().filter(|file| file.exists()).count();
    remove(&left);
    fs::remove_file(&note).map_err(failed)?;
    if count > 0 {
        tracing::info!("removed {count} files of an export into {} that did not come to its end", root.display());
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
        // A day's folder that is empty now; one that is not stays.
        let _ = file.parent().map(fs::remove_dir);
    }
}

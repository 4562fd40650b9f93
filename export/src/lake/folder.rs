//! A lake's folder: its marker, which is also its lock, and what an export that was killed has left.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use url::Url;

use super::store::{is_draft, put_file};
use crate::error::{ExportError, ExportErrorKind, Result};

/// Says that a folder is a lake of this crate's and of which source, and is locked by the exporter at work.
const MARKER: &str = "_lake.json";
/// What the marker calls this layout.
const FORMAT: u64 = 1;

/// While it lives, no other export writes into the lake.
pub(super) struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing alone would leave it to a program that is just being started and still has the file open.
        let _ = self.0.unlock();
    }
}

/// The lake's folder, absolute.
pub(super) fn folder(lake: &str) -> Result<PathBuf> {
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

/// Makes sure that the folder is a lake of this source, or makes it one, and locks it.
pub(super) fn enter(root: &Path, source: Option<&str>) -> Result<Lock> {
    let doing = format!("the lake {}", root.display());
    let failed = |e| ExportError::lake(&doing, e);
    fs::create_dir_all(root).map_err(failed)?;
    let marker = root.join(MARKER);
    if !look(root, source)? {
        let text = json!({"format": FORMAT, "layout": "one Delta table a folder", "source": source});
        match put_file(&marker, &[format!("{text}\n").as_bytes()], true) {
            // Another exporter was quicker.
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => look(root, source).map(drop)?,
            made => made.map_err(failed)?,
        }
    }
    let file = File::options().read(true).write(true).open(&marker).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(Lock(file)),
        Err(TryLockError::WouldBlock) => Err(ExportError::new(
            ExportErrorKind::Conflict,
            format!("{doing} is being written by another export; wait for it, then run this again"),
        )),
        Err(TryLockError::Error(e)) => Err(failed(e)),
    }
}

/// Whether the folder is a lake of this source; `false` where nothing is there yet.
pub(super) fn look(root: &Path, source: Option<&str>) -> Result<bool> {
    let doing = format!("the lake {}", root.display());
    let failed = |e| ExportError::lake(&doing, e);
    let text = match fs::read(root.join(MARKER)) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            let entries = match fs::read_dir(root) {
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(false),
                entries => entries.map_err(failed)?,
            };
            for entry in entries {
                let name = entry.map_err(failed)?.file_name();
                let name = name.to_string_lossy();
                // A marker that was being made.
                if !is_draft(&name) {
                    let message = format!("{doing} holds something else ({name}); name an empty folder");
                    return Err(ExportError::new(ExportErrorKind::Lake, message));
                }
            }
            return Ok(false);
        }
        Err(e) => return Err(failed(e)),
    };
    let marker: Value = serde_json::from_slice(&text)
        .map_err(|e| failed(e.into()).with("its _lake.json is no JSON; restore it, or name another folder"))?;
    match marker["format"].as_u64() {
        Some(format) if format <= FORMAT => {}
        _ => {
            let message = format!(
                "{doing} was made by a newer version of this program (format {}, this one knows {FORMAT}); upgrade this program",
                marker["format"]
            );
            return Err(ExportError::new(ExportErrorKind::Lake, message));
        }
    }
    if let (Some(made_from), Some(source)) = (marker["source"].as_str(), source)
        && made_from != source
    {
        let message = format!("{doing} was made from {made_from}, this is {source}; name another folder");
        return Err(ExportError::new(ExportErrorKind::Conflict, message));
    }
    Ok(true)
}

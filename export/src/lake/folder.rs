//! A lake's marker, which says whose it is, and its lock. A folder's lock is one of the system's on the
//! marker, an object store's is a [`Lease`].

use std::fs::{self, File, TryLockError};
use std::path::Path;

use object_store::PutMode;
use serde_json::{Value, json};

use super::store::{is_draft, put_file};
use crate::error::{ExportError, ExportErrorKind, Result};
use crate::place::Place;
use crate::place::lease::{LOCK, Lease};

/// Says that a place is a lake of this crate's and of which source.
const MARKER: &str = "_lake.json";
/// What the marker calls this layout.
const FORMAT: u64 = 1;

/// A lake that nobody else writes to meanwhile.
#[derive(Debug)]
pub(super) enum Lock {
    File(#[expect(dead_code, reason = "the system lets go of it when it is closed")] File),
    Lease(Lease),
}

impl Lock {
    /// Makes sure that the lake is still held.
    pub(super) fn check(&self) -> Result<()> {
        match self {
            Self::File(_) => Ok(()),
            Self::Lease(lease) => lease.check(),
        }
    }

    /// Lets go of the lake, and comes back when that is done.
    pub(super) async fn release(self) {
        if let Self::Lease(lease) = self {
            lease.release().await;
        }
    }
}

/// Makes sure that the place is a lake of this source, or makes it one, and locks it.
pub(super) async fn enter(place: &Place, source: Option<&str>) -> Result<Lock> {
    if let Some(root) = place.folder() {
        return enter_folder(place, root, source).await.map(Lock::File);
    }
    let made = look(place, source).await?;
    place.make_room()?;
    let lease = Lease::take(place).await?;
    if !made {
        match place.put(MARKER, marker(source), PutMode::Create).await {
            // Another exporter was quicker.
            Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => {
                look(place, source).await.map(drop)?;
            }
            made => drop(made.map_err(|e| ExportError::lake(&format!("the lake {}", place.shown()), e))?),
        }
    }
    Ok(Lock::Lease(lease))
}

async fn enter_folder(place: &Place, root: &Path, source: Option<&str>) -> Result<File> {
    let doing = format!("the lake {}", root.display());
    let failed = |e| ExportError::lake(&doing, e);
    fs::create_dir_all(root).map_err(failed)?;
    let path = root.join(MARKER);
    if !look(place, source).await? {
        match put_file(&path, &[&marker(source)], true) {
            // Another exporter was quicker.
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => look(place, source).await.map(drop)?,
            made => made.map_err(failed)?,
        }
    }
    let file = File::options().read(true).write(true).open(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(ExportError::new(
            ExportErrorKind::Conflict,
            format!("{doing} is being written by another export; wait for it, then run this again"),
        )),
        Err(TryLockError::Error(e)) => Err(failed(e)),
    }
}

fn marker(source: Option<&str>) -> Vec<u8> {
    format!("{}\n", json!({"format": FORMAT, "layout": "one Delta table a folder", "source": source})).into_bytes()
}

/// Locks a lake that is one, whatever its source.
pub(super) async fn lock(place: &Place) -> Result<Lock> {
    must_be_lake(place).await?;
    enter(place, None).await
}

/// Makes sure that the place is a lake.
pub(super) async fn must_be_lake(place: &Place) -> Result<()> {
    if look(place, None).await? {
        return Ok(());
    }
    let message = format!("there is no lake at {}; `hitherto export --lake` makes one", place.shown());
    Err(ExportError::new(ExportErrorKind::Config, message))
}

/// Whether the place is a lake of this source; `false` where nothing is there yet.
pub(super) async fn look(place: &Place, source: Option<&str>) -> Result<bool> {
    let doing = format!("the lake {}", place.shown());
    let Some(text) = read_marker(place, &doing).await? else {
        // A marker, or a lock, that was being made.
        let strange = entries(place, &doing).await?.into_iter().find(|name| !is_draft(name) && name != LOCK);
        return match strange {
            None => Ok(false),
            Some(name) => {
                let message = format!("{doing} holds something else ({}); name an empty folder", name.trim_end_matches('/'));
                Err(ExportError::new(ExportErrorKind::Lake, message))
            }
        };
    };
    let marker: Value = serde_json::from_slice(&text)
        .map_err(|e| ExportError::lake(&doing, e).with("its _lake.json is no JSON; restore it, or name another folder"))?;
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

async fn read_marker(place: &Place, doing: &str) -> Result<Option<Vec<u8>>> {
    let Some(root) = place.folder() else {
        return Ok(place.read(MARKER).await?.map(|(text, _)| text.to_vec()));
    };
    match fs::read(root.join(MARKER)) {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(ExportError::lake(doing, e)),
    }
}

async fn entries(place: &Place, doing: &str) -> Result<Vec<String>> {
    let Some(root) = place.folder() else { return place.entries().await };
    let failed = |e| ExportError::lake(doing, e);
    match fs::read_dir(root) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        entries => entries.map_err(failed)?.map(|entry| Ok(entry.map_err(failed)?.file_name().to_string_lossy().into_owned())).collect(),
    }
}

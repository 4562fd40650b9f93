//! A lake's marker, which says whose it is, and its lock. A folder's lock is one of the system's on the
//! marker, an object store's is a [`Lease`].

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use object_store::PutMode;
use serde_json::{Value, json};

use super::later;
use super::store::{is_draft, put_file};
use crate::error::{ExportError, ExportErrorKind, Result};
use crate::fault;
use crate::file::sync_folder;
use crate::place::Place;
use crate::place::lease::{LOCK, Lease};

/// Says that a place is a lake of this crate's and of which source.
const MARKER: &str = "_lake.json";
/// What the marker calls this layout.
const FORMAT: u64 = 1;

/// While it lives, no other export writes into the lake.
enum Lock {
    File(File),
    Lease(Lease),
}

impl Drop for Lock {
    fn drop(&mut self) {
        if let Self::File(file) = self {
            // Closing alone would leave it to a program that is just being started and still has the file open.
            let _ = file.unlock();
        }
    }
}

/// A lake that is locked. One that this made is gone when it is dropped, unless it was [kept](Entered::keep).
pub(super) struct Entered {
    place: Place,
    /// Folders that were not there, the innermost first.
    folders: Vec<PathBuf>,
    /// The marker was not there.
    made: bool,
    /// Dropped last.
    lock: Option<Lock>,
}

impl Entered {
    /// Something is about to be published.
    pub(super) fn keep(&mut self) {
        self.folders.clear();
        self.made = false;
    }

    /// Makes sure that the lake is still held.
    pub(super) fn check(&self) -> Result<()> {
        match &self.lock {
            Some(Lock::Lease(lease)) => lease.check(),
            _ => Ok(()),
        }
    }

    /// Lets go of the lake, and comes back when that is done.
    pub(super) async fn leave(mut self) {
        if let Some(Lock::Lease(lease)) = &mut self.lock {
            if std::mem::take(&mut self.made)
                && let Err(e) = self.place.remove(MARKER).await
            {
                tracing::warn!("{e}");
            }
            lease.release().await;
        }
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        let Some(root) = self.place.folder() else {
            if let (true, Some(lock)) = (self.made, self.lock.take()) {
                let place = self.place.clone();
                later(async move {
                    if let Err(e) = place.remove(MARKER).await {
                        tracing::warn!("{e}");
                    }
                    drop(lock);
                });
            }
            return;
        };
        if fault::killed(root) {
            return;
        }
        if self.made {
            let _ = fs::remove_file(root.join(MARKER));
        }
        for folder in &self.folders {
            let _ = fs::remove_dir(folder);
        }
    }
}

/// Makes sure that the place is a lake of this source, or makes it one, and locks it.
pub(super) async fn enter(place: &Place, source: Option<&str>) -> Result<Entered> {
    if let Some(root) = place.folder() {
        return enter_folder(place, root, source).await;
    }
    let mut is_there = look(place, source).await?;
    place.make_room()?;
    let lease = Lease::take(place).await?;
    let mut entered = Entered { place: place.clone(), folders: Vec::new(), made: false, lock: Some(Lock::Lease(lease)) };
    if !is_there {
        // Another one may have been quicker.
        is_there = look(place, source).await?;
    }
    if !is_there {
        place
            .put(MARKER, marker(source), PutMode::Create)
            .await
            .map_err(|e| ExportError::lake(&format!("the lake {}", place.shown()), e))?;
        entered.made = true;
    }
    Ok(entered)
}

async fn enter_folder(place: &Place, root: &Path, source: Option<&str>) -> Result<Entered> {
    let doing = format!("the lake {}", root.display());
    let failed = |e| ExportError::lake(&doing, e);
    let busy = || {
        let message = format!("{doing} is being written by another export; wait for it, then run this again");
        Err(ExportError::new(ExportErrorKind::Conflict, message))
    };
    let folders = root.ancestors().take_while(|folder| !folder.exists()).map(Path::to_owned).collect();
    let mut entered = Entered { place: place.clone(), folders, made: false, lock: None };
    fs::create_dir_all(root).map_err(failed)?;
    // A folder's name is on disk when the one above is.
    entered.folders.iter().filter_map(|folder| folder.parent()).try_for_each(sync_folder).map_err(failed)?;
    let path = root.join(MARKER);
    let mut is_mine = false;
    if !look(place, source).await? {
        match put_file(&path, &[&marker(source)], true) {
            // Another exporter was quicker.
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => look(place, source).await.map(drop)?,
            made => made.map(|()| is_mine = true).map_err(failed)?,
        }
    }
    let file = File::options().read(true).write(true).open(&path).map_err(failed)?;
    match file.try_lock() {
        // The one who held it has taken the lake away again that he had made.
        Ok(()) if !is_at(&file, &path) => return busy(),
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return busy(),
        Err(TryLockError::Error(e)) => return Err(failed(e)),
    }
    // Whoever has the lock, has what he made to himself.
    entered.made = is_mine;
    entered.lock = Some(Lock::File(file));
    Ok(entered)
}

/// Whether a file is the one at this path.
fn is_at(file: &File, path: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let number = |metadata: std::io::Result<fs::Metadata>| metadata.map(|m| (m.dev(), m.ino())).ok();
        number(file.metadata()) == number(path.metadata())
    }
    #[cfg(not(unix))]
    path.exists()
}

fn marker(source: Option<&str>) -> Vec<u8> {
    format!("{}\n", json!({"format": FORMAT, "layout": "one Delta table a folder", "source": source})).into_bytes()
}

/// Locks a lake that is one, whatever its source.
pub(super) async fn lock(place: &Place) -> Result<Entered> {
    must_be_lake(place).await?;
    let mut entered = enter(place, None).await?;
    entered.keep();
    Ok(entered)
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

//! A lake: one Delta table a dataset.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use chrono::Utc;
use serde_json::{Value, json};
use tokio::sync::RwLock;
use tokio_postgres::Client;
use url::Url;

use crate::dataset::{Dataset, Exported, Options};
use crate::error::{ExportError, ExportErrorKind, Result};
use crate::file::sync_folder;
use crate::readers::Readers;
use crate::snapshot::OnProgress;
use crate::table::{Draft, Files};

/// Says that a folder is a lake of this crate's and of which source, and is locked by the exporter at work.
const MARKER: &str = "_lake.json";
/// Names every table's version of the last export of it that came to its end: those of one instant belong together.
const SNAPSHOT: &str = "_snapshot.json";

/// Held while versions are being published: what waits for it, waits for whole lakes.
static PUBLISHING: RwLock<()> = RwLock::const_new(());

/// Exports datasets into a lake, all of them as of one instant. Every data file of every dataset is on
/// disk before the first commit; then the datasets become visible one after the other, each at once and
/// whole, and `_snapshot.json` names the versions that belong together. With [`Options::from`] or
/// [`Options::to`], the days in that range are replaced and others left alone. Days that the lake has
/// and the database has dropped ([`Dataset::dropped_before`]) stay.
///
/// `lake` is a folder, made if missing, or a `file://` URL. A future that is dropped before the first
/// commit publishes nothing; from there on the rest is published all the same: see
/// [`publishing_ended`].
///
/// # Errors
/// See [`crate::ExportErrorKind`]; what was visible before still is, and files of the failed export
/// are removed. Should a commit fail after others went through, the error names both.
pub async fn export_lake(
    client: &mut Client,
    lake: &str,
    datasets: &[Dataset],
    options: &Options,
    progress: OnProgress<'_>,
) -> Result<Vec<Exported>> {
    for dataset in datasets {
        dataset.check()?;
    }
    let root = folder(lake)?;
    let lock = enter(&root, options.source.as_deref())?;
    let readers = Readers::open(client, datasets, options).await?;
    let mut files = Files::default();
    let drafts = Draft::write_all(&readers, &root, datasets, options, &mut files, progress).await?;
    readers.close().await?;
    let publishing = PUBLISHING.read().await;
    let options = options.clone();
    let task = tokio::spawn(async move {
        let _held = (publishing, lock);
        publish(&root, drafts, files, &options).await
    });
    task.await.unwrap_or_else(|e| Err(ExportError::lake("publishing the lake", e)))
}

/// Makes sure that a lake can be written to from this source, and makes the folder if it is missing.
///
/// # Errors
/// As [`export_lake`]'s, before it reads anything.
pub fn check_lake(lake: &str, source: &str) -> Result<()> {
    enter(&folder(lake)?, Some(source)).map(drop)
}

/// Waits until no export of this process is between its first and its last commit.
pub async fn publishing_ended() {
    drop(PUBLISHING.write().await);
}

async fn publish(root: &Path, drafts: Vec<Draft>, mut files: Files, options: &Options) -> Result<Vec<Exported>> {
    for draft in &drafts {
        draft.try_log()?;
    }
    let mut exported: Vec<Exported> = Vec::with_capacity(drafts.len());
    let mut left: Vec<String> = drafts.iter().map(|d| d.name().to_owned()).collect();
    for draft in drafts {
        match draft.commit(options, &mut files).await {
            Ok(done) => exported.push(done),
            Err(error) if exported.is_empty() => return Err(error),
            Err(error) => {
                let done: Vec<&str> = exported.iter().map(|e| e.dataset.as_str()).collect();
                let words = format!("published: {}; not published: {}; run the export again", done.join(", "), left.join(", "));
                return Err(error.with(&words));
            }
        }
        left.remove(0);
    }
    note_versions(root, &exported)?;
    Ok(exported)
}

/// Writes down which versions belong together; datasets that were not exported now keep theirs.
fn note_versions(root: &Path, exported: &[Exported]) -> Result<()> {
    let path = root.join(SNAPSHOT);
    let doing = format!("writing {}", path.display());
    let before = fs::read(&path).ok().and_then(|text| serde_json::from_slice::<Value>(&text).ok());
    let mut versions = before.and_then(|v| v["versions"].as_object().cloned()).unwrap_or_default();
    let now = Utc::now();
    versions.extend(exported.iter().map(|e| (e.dataset.clone(), json!({"version": e.version, "exported_at": now}))));
    let draft = root.join(format!(".{SNAPSHOT}.{}", uuid::Uuid::new_v4()));
    let text = format!("{:#}\n", json!({"versions": versions}));
    let written = fs::write(&draft, text)
        .and_then(|()| File::open(&draft)?.sync_all())
        .and_then(|()| fs::rename(&draft, &path))
        .and_then(|()| sync_folder(root));
    written.map_err(|e| ExportError::lake(&doing, e))
}

/// The lake's folder, absolute.
fn folder(lake: &str) -> Result<PathBuf> {
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

/// Makes sure that the folder is a lake, or makes it one, and locks it.
fn enter(root: &Path, source: Option<&str>) -> Result<File> {
    let doing = format!("the lake {}", root.display());
    fs::create_dir_all(root).map_err(|e| ExportError::lake(&doing, e))?;
    let marker = root.join(MARKER);
    if !marker.exists() {
        let stranger = fs::read_dir(root).map_err(|e| ExportError::lake(&doing, e))?.next();
        if let Some(entry) = stranger {
            let name = entry.map_err(|e| ExportError::lake(&doing, e))?.file_name();
            let message = format!("{doing} holds something else ({}); name an empty folder", name.to_string_lossy());
            return Err(ExportError::new(ExportErrorKind::Lake, message));
        }
        let text = json!({"format": 1, "layout": "one Delta table a folder", "source": source});
        fs::write(&marker, format!("{text}\n")).map_err(|e| ExportError::lake(&doing, e))?;
    }
    let text = fs::read(&marker).map_err(|e| ExportError::lake(&doing, e))?;
    let made_from = serde_json::from_slice::<Value>(&text).ok().and_then(|v| v["source"].as_str().map(str::to_owned));
    if let (Some(made_from), Some(source)) = (made_from, source)
        && made_from != source
    {
        let message = format!("{doing} was made from {made_from}, this is {source}; name another folder");
        return Err(ExportError::new(ExportErrorKind::Conflict, message));
    }
    let file = File::options().read(true).write(true).open(&marker).map_err(|e| ExportError::lake(&doing, e))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(ExportError::new(
            ExportErrorKind::Conflict,
            format!("{doing} is being written by another export; wait for it, then run this again"),
        )),
        Err(TryLockError::Error(e)) => Err(ExportError::lake(&doing, e)),
    }
}

//! Where a lake is: a folder, or a prefix in an object store. What is small (the marker, the log, notes) goes
//! through one interface for both; data files are written on this machine first, in a folder's case
//! where they stay.

pub(crate) mod lease;
pub(crate) mod room;
pub(crate) mod s3;

use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use deltalake_core::logstore::{StorageConfig, default_logstore};
use deltalake_core::{DeltaTable, DeltaTableBuilder};
use futures_util::stream::FuturesUnordered;
use futures_util::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{Error, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutResult};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use url::Url;

use self::room::Room;
use crate::error::{ExportError, ExportErrorKind, Result};
use crate::lake::store::Synced;

/// An object larger than this is sent in parts.
const PART: usize = 8 << 20;
/// Parts under way at once.
const PARTS: usize = 3;
/// Objects that are asked for at once.
pub(crate) const AT_ONCE: usize = 8;

/// A lake's place.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    /// As it is shown.
    shown: String,
    url: Url,
    /// The whole file system or bucket.
    store: Arc<dyn ObjectStore>,
    /// The lake in it.
    prefix: Path,
    work: Work,
}

/// What went wrong on this machine.
fn here(error: std::io::Error) -> Error {
    Error::Generic { store: "folder", source: error.into() }
}

/// Where data files are written on this machine.
#[derive(Debug, Clone)]
enum Work {
    /// In the lake itself.
    Lake(PathBuf),
    /// Beside; they are sent then.
    Room(Arc<Room>),
}

impl Place {
    /// The place that a lake's path or URL names. Nothing is looked at yet.
    pub(crate) fn new(lake: &str) -> Result<Self> {
        let config = |message: String| ExportError::new(ExportErrorKind::Config, message);
        let path = match lake.split_once("://") {
            Some(("file", _)) => Url::parse(lake).ok().and_then(|url| url.to_file_path().ok()),
            Some(("s3" | "s3a", _)) => return Self::bucket(lake),
            Some((scheme, _)) => {
                return Err(config(format!("lakes on {scheme}:// are not supported; name a folder or an s3:// URL")));
            }
            None => std::path::absolute(lake).ok(),
        };
        // The Delta library decodes a path once too often.
        if path.as_deref().is_some_and(|p| p.to_string_lossy().contains('%')) {
            return Err(config(format!("the path '{lake}' holds a %, which Delta readers take for an escape; name another folder")));
        }
        let Some(path) = path else { return Err(config(format!("'{lake}' is neither a folder nor a file:// or s3:// URL"))) };
        let url = Url::from_directory_path(&path).map_err(|()| config(format!("{} is not an absolute path", path.display())))?;
        let prefix = Path::from_url_path(url.path()).map_err(|e| config(format!("the path '{lake}': {e}")))?;
        Ok(Self { shown: path.display().to_string(), url, store: Synced::new(), prefix, work: Work::Lake(path) })
    }

    fn bucket(lake: &str) -> Result<Self> {
        let s3::Bucket { url, store, prefix } = s3::bucket(lake)?;
        let shown = url.as_str().trim_end_matches('/').to_owned();
        Ok(Self { shown, url, store, prefix, work: Work::Room(Arc::new(Room::new(&std::env::temp_dir(), "hitherto-export-"))) })
    }

    /// As people know it.
    pub(crate) fn shown(&self) -> &str {
        &self.shown
    }

    /// A name in the lake, as people know it.
    pub(crate) fn shown_in(&self, name: &str) -> String {
        format!("{}/{name}", self.shown)
    }

    /// The lake's folder, where it is one.
    pub(crate) fn folder(&self) -> Option<&FilePath> {
        match &self.work {
            Work::Lake(folder) => Some(folder),
            Work::Room(_) => None,
        }
    }

    /// The folder below which data files are written by their names in the lake.
    pub(crate) fn work(&self) -> &FilePath {
        match &self.work {
            Work::Lake(folder) => folder,
            Work::Room(room) => &room.path,
        }
    }

    /// Makes that folder, where it is no lake.
    pub(crate) fn make_room(&self) -> Result<()> {
        match &self.work {
            Work::Lake(_) => Ok(()),
            Work::Room(room) => room.make().map_err(|e| ExportError::lake(&format!("making the folder {}", room.path.display()), e)),
        }
    }

    pub(crate) fn store(&self) -> &Arc<dyn ObjectStore> {
        &self.store
    }

    /// A name in the lake, as the store knows it.
    pub(crate) fn path(&self, name: &str) -> Path {
        Path::from_iter(self.prefix.parts().chain(Path::from(name).parts()))
    }

    /// A table of the lake, not yet loaded.
    pub(crate) fn table(&self, name: &str) -> Result<DeltaTable> {
        let url = self.table_url(name)?;
        let doing = || format!("opening the table {}", self.shown_in(name));
        match &self.work {
            Work::Lake(_) => DeltaTableBuilder::from_url(url.clone())
                .map(|builder| builder.with_storage_backend(self.store.clone(), url))
                .and_then(DeltaTableBuilder::build)
                .map_err(|e| ExportError::lake(&doing(), e)),
            Work::Room(_) => {
                let config = StorageConfig::default();
                let prefixed = config.decorate_store(self.store.clone(), &url).map_err(|e| ExportError::lake(&doing(), e))?;
                Ok(DeltaTable::new(default_logstore(Arc::new(prefixed), self.store.clone(), &url, &config)))
            }
        }
    }

    pub(crate) fn table_url(&self, name: &str) -> Result<Url> {
        self.url
            .join(&format!("{name}/"))
            .map_err(|e| ExportError::new(ExportErrorKind::Config, format!("the table {}: {e}", self.shown_in(name))))
    }

    /// What an object holds, and its version; `None` where there is none.
    pub(crate) async fn read(&self, name: &str) -> Result<Option<(Bytes, Option<String>)>> {
        let failed = |e| ExportError::lake(&format!("reading {}", self.shown_in(name)), e);
        match self.store.get(&self.path(name)).await {
            Ok(found) => {
                let e_tag = found.meta.e_tag.clone();
                Ok(Some((found.bytes().await.map_err(failed)?, e_tag)))
            }
            Err(Error::NotFound { .. }) if self.folder().is_some() => Ok(None),
            // A bucket that is not there is no empty one.
            Err(Error::NotFound { source, .. }) if !s3::no_bucket(&*source) => Ok(None),
            Err(e) => Err(failed(e)),
        }
    }

    /// Puts a small object. The error is the store's, so that who creates can tell that somebody else has.
    pub(crate) async fn put(&self, name: &str, bytes: impl Into<Bytes> + Send, mode: PutMode) -> Result<PutResult, Error> {
        self.store.put_opts(&self.path(name), bytes.into().into(), PutOptions::from(mode)).await
    }

    /// Puts a small object, whatever was there.
    pub(crate) async fn write(&self, name: &str, bytes: impl Into<Bytes> + Send) -> Result<()> {
        let put = self.put(name, bytes, PutMode::Overwrite).await;
        put.map(drop).map_err(|e| ExportError::lake(&format!("writing {}", self.shown_in(name)), e))
    }

    /// Removes an object; one that is not there is as good.
    pub(crate) async fn remove(&self, name: &str) -> Result<()> {
        match self.store.delete(&self.path(name)).await {
            Ok(()) => Ok(()),
            Err(Error::NotFound { source, .. }) if !s3::no_bucket(&*source) => Ok(()),
            Err(e) => Err(ExportError::lake(&format!("removing {}", self.shown_in(name)), e)),
        }
    }

    /// Removes objects, several at once; gives how many were.
    pub(crate) async fn remove_all(&self, names: Vec<String>) -> Result<u64> {
        let removed = futures_util::stream::iter(names).map(|name| async move { self.remove(&name).await.map(|()| name) });
        let names: Vec<String> = removed.buffer_unordered(AT_ONCE).try_collect().await?;
        if let Some(folder) = self.folder() {
            for name in &names {
                // A day's folder that is empty now; one that is not stays.
                let _ = folder.join(name).parent().map(std::fs::remove_dir);
            }
        }
        Ok(names.len() as u64)
    }

    /// All objects below a name, by their names below it.
    pub(crate) async fn list(&self, below: &str) -> Result<Vec<(String, ObjectMeta)>> {
        let prefix = self.path(below);
        let doing = || format!("listing {}", self.shown_in(below));
        let found: Vec<ObjectMeta> = match self.store.list(Some(&prefix)).try_collect().await {
            Ok(found) => found,
            Err(Error::NotFound { source, .. }) if !s3::no_bucket(&*source) => Vec::new(),
            Err(e) => return Err(ExportError::lake(&doing(), e)),
        };
        let name = |meta: &ObjectMeta| {
            let parts: Vec<_> = meta.location.prefix_match(&prefix)?.map(|part| part.as_ref().to_owned()).collect();
            Some(parts.join("/"))
        };
        Ok(found.into_iter().filter_map(|meta| Some((name(&meta)?, meta))).collect())
    }

    /// What lies directly in the lake: objects and, with a slash behind, what has objects below.
    pub(crate) async fn entries(&self) -> Result<Vec<String>> {
        let doing = || format!("listing {}", self.shown);
        let found = match self.store.list_with_delimiter(Some(&self.prefix)).await {
            Ok(found) => found,
            Err(Error::NotFound { source, .. }) if !s3::no_bucket(&*source) => return Ok(Vec::new()),
            Err(e) => return Err(ExportError::lake(&doing(), e)),
        };
        let folders = found.common_prefixes.iter().filter_map(|path| Some(format!("{}/", path.filename()?)));
        Ok(folders.chain(found.objects.iter().filter_map(|meta| Some(meta.location.filename()?.to_owned()))).collect())
    }

    /// The lake's tables, or those of them that are asked for; one that is not there is an error that says which are.
    pub(crate) async fn tables(&self, asked: &[String]) -> Result<Vec<String>> {
        let mut tables = Vec::new();
        for entry in self.entries().await? {
            if let Some(name) = entry.strip_suffix('/').filter(|name| !name.starts_with(['_', '.']))
                && self.has_log(name).await?
            {
                tables.push(name.to_owned());
            }
        }
        tables.sort_unstable();
        match asked.iter().find(|name| !tables.contains(name)) {
            Some(missing) => Err(ExportError::new(
                ExportErrorKind::Config,
                format!("the lake {} has no dataset {missing}; it has: {}", self.shown, tables.join(", ")),
            )),
            None if asked.is_empty() => Ok(tables),
            None => Ok(asked.to_vec()),
        }
    }

    /// Whether a table has been committed to.
    pub(crate) async fn has_log(&self, table: &str) -> Result<bool> {
        let log = self.path(&format!("{table}/_delta_log"));
        let failed = |e| ExportError::lake(&format!("reading {}", self.shown_in(&format!("{table}/_delta_log"))), e);
        let mut found = self.store.list(Some(&log));
        loop {
            match found.next().await {
                None => return Ok(false),
                Some(Ok(meta)) if matches!(meta.location.extension(), Some("json" | "parquet")) => return Ok(true),
                Some(Ok(_)) => {}
                Some(Err(Error::NotFound { source, .. })) if !s3::no_bucket(&*source) => return Ok(false),
                Some(Err(e)) => return Err(failed(e)),
            }
        }
    }

    /// Brings a data file that was written below [`Place::work`] to its place, and removes it here.
    pub(crate) async fn send(&self, name: &str) -> Result<()> {
        let Work::Room(room) = &self.work else { return Ok(()) };
        let file = room.path.join(name);
        let doing = || format!("writing {}", self.shown_in(name));
        let sent = async {
            let mut from = tokio::fs::File::open(&file).await.map_err(here)?;
            let size = usize::try_from(from.metadata().await.map_err(here)?.len()).unwrap_or(usize::MAX);
            if size <= PART {
                let mut bytes = Vec::with_capacity(size);
                from.read_to_end(&mut bytes).await.map_err(here)?;
                self.store.put(&self.path(name), bytes.into()).await?;
                return Ok(());
            }
            // Ten thousand parts are the most that S3 takes.
            let part = PART.max(size.div_ceil(10_000));
            let mut upload = self.store.put_multipart(&self.path(name)).await?;
            let ended = match parts(&mut *upload, &mut from, part).await {
                Ok(()) => upload.complete().await.map(drop),
                Err(e) => Err(e),
            };
            if ended.is_err() {
                // Parts that are never put together show nowhere, but cost.
                let _ = upload.abort().await;
            }
            ended
        };
        let sent: Result<(), Error> = sent.await;
        sent.map_err(|e| ExportError::lake(&doing(), e))?;
        tokio::fs::remove_file(&file).await.map_err(|e| ExportError::lake(&format!("removing {}", file.display()), e))
    }

    /// A data file of the lake on this machine: itself, or a copy, which [`Place::forget`] removes.
    pub(crate) async fn fetch(&self, name: &str) -> Result<PathBuf> {
        let Work::Room(room) = &self.work else { return Ok(self.work().join(name)) };
        self.make_room()?;
        let file = room.path.join("fetched").join(name.replace('/', "+"));
        let fetched = async {
            tokio::fs::create_dir_all(room.path.join("fetched")).await.map_err(here)?;
            let mut to = tokio::fs::File::create(&file).await.map_err(here)?;
            let mut from = self.store.get(&self.path(name)).await?.into_stream();
            while let Some(bytes) = from.try_next().await? {
                to.write_all(&bytes).await.map_err(here)?;
            }
            to.flush().await.map_err(here)?;
            Ok(())
        };
        let fetched: Result<(), Error> = fetched.await;
        fetched.map_err(|e| ExportError::lake(&format!("reading {}", self.shown_in(name)), e))?;
        Ok(file)
    }

    /// Removes the copy of a data file.
    pub(crate) fn forget(&self, copy: &FilePath) {
        if self.folder().is_none() {
            let _ = std::fs::remove_file(copy);
        }
    }
}

/// Sends a file in parts of so many bytes, a few at once.
async fn parts(upload: &mut dyn MultipartUpload, from: &mut tokio::fs::File, part: usize) -> Result<(), Error> {
    let mut under_way = FuturesUnordered::new();
    loop {
        let mut bytes = Vec::with_capacity(part);
        if (&mut *from).take(part as u64).read_to_end(&mut bytes).await.map_err(here)? == 0 {
            return under_way.try_collect().await;
        }
        if under_way.len() >= PARTS {
            under_way.next().await.transpose()?;
        }
        under_way.push(upload.put_part(bytes.into()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_a_lake_are_those_of_its_files() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["plain", "with space", "ü", "a+b&c", "x#y"] {
            let lake = folder.path().join(name);
            let place = Place::new(lake.to_str().unwrap()).unwrap();
            assert_eq!((place.folder(), place.work(), place.shown()), (Some(lake.as_path()), lake.as_path(), lake.to_str().unwrap()));
            assert_eq!(place.table_url("t").unwrap(), Url::from_directory_path(lake.join("t")).unwrap());
        }
        for (lake, words) in
            [("/a%20b", "holds a %"), ("ftp://x/y", "not supported"), ("s3://b?x=1", "s3://bucket/prefix"), ("s3://u:p@b/x", "holds a key")]
        {
            let error = Place::new(lake).unwrap_err();
            assert!(error.kind() == ExportErrorKind::Config && error.to_string().contains(words), "{error}");
        }
    }

    #[tokio::test]
    async fn what_is_put_is_listed_read_and_removed_by_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let place = Place::new(folder.path().join("a b").to_str().unwrap()).unwrap();
        assert_eq!((place.entries().await.unwrap(), place.read("x").await.unwrap()), (vec![], None));
        place.write("_note", "one").await.unwrap();
        place.write("t/day=2026-01-01/f.parquet", "two").await.unwrap();
        let mut entries = place.entries().await.unwrap();
        entries.sort_unstable();
        assert_eq!(entries, ["_note", "t/"]);
        let below: Vec<(String, u64)> = place.list("t").await.unwrap().into_iter().map(|(name, meta)| (name, meta.size)).collect();
        assert_eq!(below, [("day=2026-01-01/f.parquet".to_owned(), 3)]);
        assert_eq!(place.read("_note").await.unwrap().unwrap().0, "one");
        assert!(matches!(place.put("_note", "two", PutMode::Create).await, Err(Error::AlreadyExists { .. })));
        assert_eq!(place.remove_all(vec!["t/day=2026-01-01/f.parquet".to_owned()]).await.unwrap(), 1);
        assert!(!folder.path().join("a b/t/day=2026-01-01").exists(), "an empty day goes with its last file");
        place.remove("nothing").await.unwrap();
    }
}

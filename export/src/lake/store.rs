//! The store that the Delta log is written through: what it has put is on disk, under its name or not
//! at all, before it says so. The library's own store for folders leaves that to the operating system.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, RenameOptions, Result, UploadPart,
};

use crate::fault;
use crate::file::sync_folder;

/// Folders, with every file synced.
#[derive(Debug)]
pub(crate) struct Synced(LocalFileSystem);

impl Synced {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self(LocalFileSystem::new()))
    }

    fn file(&self, location: &Path) -> Result<PathBuf> {
        self.0.path_to_filesystem(location)
    }
}

impl fmt::Display for Synced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Synced")
    }
}

#[async_trait::async_trait]
impl ObjectStore for Synced {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        let path = self.file(location)?;
        let create = match opts.mode {
            PutMode::Create => true,
            PutMode::Overwrite => false,
            PutMode::Update(_) => {
                return Err(Error::NotImplemented { operation: "updating a version of a file".to_owned(), implementer: self.to_string() });
            }
        };
        let at = location.to_string();
        let put = tokio::task::spawn_blocking(move || put(&path, &payload, create)).await?;
        match put {
            Ok(()) => Ok(PutResult { e_tag: None, version: None }),
            Err(e) if create && e.kind() == io::ErrorKind::AlreadyExists => Err(Error::AlreadyExists { path: at, source: e.into() }),
            Err(e) => Err(Error::Generic { store: "folder", source: e.into() }),
        }
    }

    async fn put_multipart_opts(&self, location: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        Ok(Box::new(Parts { path: self.file(location)?, parts: Vec::new() }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.0.get_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.0.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.0.list(prefix).boxed()
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.0.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.0.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.0.copy_opts(from, to, options).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.0.rename_opts(from, to, options).await
    }
}

/// A checkpoint under way: small enough to be put at once.
#[derive(Debug)]
struct Parts {
    path: PathBuf,
    parts: Vec<PutPayload>,
}

#[async_trait::async_trait]
impl MultipartUpload for Parts {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        self.parts.push(data);
        Box::pin(async { Ok(()) })
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let (path, parts) = (self.path.clone(), std::mem::take(&mut self.parts));
        let payload: PutPayload = parts.iter().flatten().cloned().collect();
        let put = tokio::task::spawn_blocking(move || put(&path, &payload, false)).await?;
        put.map_err(|e| Error::Generic { store: "folder", source: e.into() })?;
        Ok(PutResult { e_tag: None, version: None })
    }

    async fn abort(&mut self) -> Result<()> {
        self.parts.clear();
        Ok(())
    }
}

fn put(path: &FilePath, payload: &PutPayload, create: bool) -> io::Result<()> {
    let parts: Vec<&[u8]> = payload.iter().map(|part| &part[..]).collect();
    put_file(path, &parts, create)
}

/// Writes a file beside, syncs it and gives it its name, which nobody may have if it is to be created.
pub(super) fn put_file(path: &FilePath, parts: &[&[u8]], create: bool) -> io::Result<()> {
    let folder = path.parent().unwrap_or(FilePath::new("/"));
    if !folder.is_dir() {
        fault::step(folder)?;
        fs::create_dir_all(folder)?;
        folder.parent().map_or(Ok(()), sync_folder)?;
    }
    let draft = folder.join(draft_name());
    let written = write(&draft, parts).and_then(|()| {
        fault::step(path)?;
        if create { fs::hard_link(&draft, path) } else { fs::rename(&draft, path) }
    });
    if !fault::killed(path) {
        let _ = fs::remove_file(&draft);
    }
    written?;
    fault::step(folder)?;
    sync_folder(folder)
}

/// The name of a file that has not got its own yet; listings pass over what ends so.
pub(super) fn draft_name() -> String {
    format!(".{}#1", uuid::Uuid::new_v4())
}

pub(super) fn is_draft(name: &str) -> bool {
    name.starts_with('.') && name.ends_with("#1")
}

fn write(draft: &FilePath, parts: &[&[u8]]) -> io::Result<()> {
    fault::step(draft)?;
    let mut file = File::options().write(true).create_new(true).open(draft)?;
    parts.iter().try_for_each(|part| file.write_all(part))?;
    fault::step(draft)?;
    file.sync_all()
}

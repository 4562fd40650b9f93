//! Records that the database can't take as they stand.

use std::io;
use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::files::Files;

/// How the files of such records end. They hold lines of JSON, as `hitherto ingest` takes them.
pub(super) const ENDING: &str = ".aside.ndjson";

/// Writes such a file for records of a batch.
pub(super) fn keep(files: &dyn Files, folder: &Path, batch: Uuid, lines: &[u8]) -> io::Result<PathBuf> {
    let path = folder.join(format!("{batch}{ENDING}"));
    let draft = folder.join(format!("{batch}.tmp"));
    let _ = files.unlink(&draft);
    let file = files.create(&draft, lines.len() as u64)?;
    file.write_at(lines, 0)?;
    file.sync()?;
    files.rename(&draft, &path)?;
    files.sync_folder(folder)?;
    Ok(path)
}

//! Batches that the database can't take as they stand.

use std::io;
use std::path::{Path, PathBuf};

use super::files::Files;
use super::reading::SpooledBatch;

/// How the files of such batches end. They hold the payloads, one behind the other: lines of JSON, as
/// `hitherto ingest` takes them.
pub(super) const ENDING: &str = ".aside.ndjson";

/// Writes the batch's file.
pub(super) fn keep(files: &dyn Files, folder: &Path, batch: &SpooledBatch) -> io::Result<PathBuf> {
    let mut bytes = Vec::new();
    for frame in &batch.frames {
        bytes.extend_from_slice(&frame.payload);
        if !bytes.ends_with(b"\n") {
            bytes.push(b'\n');
        }
    }
    let path = folder.join(format!("{}{ENDING}", batch.id));
    let draft = folder.join(format!("{}.tmp", batch.id));
    let _ = files.unlink(&draft);
    let file = files.create(&draft, bytes.len() as u64)?;
    file.write_at(&bytes, 0)?;
    file.sync()?;
    files.rename(&draft, &path)?;
    files.sync_folder(folder)?;
    Ok(path)
}

//! One flat Parquet file.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use tokio_postgres::Client;

use crate::column::Place;
use crate::dataset::{Dataset, Exported, Mode, Options, Progress};
use crate::error::{ExportError, ExportErrorKind, Result};
use crate::lake::ledger::{Range, compare, lines};
use crate::parquet_file::ParquetFile;
use crate::place::room::Room;
use crate::read::schema;
use crate::readers::{Readers, Task};
use crate::snapshot::{OnProgress, Rows, Snapshot, day_end, day_start};

/// Exports a dataset into one Parquet file, sorted by the dataset's sort columns and its time. The file
/// appears whole or not at all; one that is there already is replaced.
///
/// # Errors
/// See [`crate::ExportErrorKind`]; then no file has appeared and none has changed.
pub async fn export_file(
    client: &mut Client,
    dataset: &Dataset,
    path: &Path,
    options: &Options,
    progress: OnProgress<'_>,
) -> Result<Exported> {
    let began = Instant::now();
    dataset.check()?;
    if dataset.time_column.is_none() && (options.from.is_some() || options.to.is_some()) {
        let message = format!("dataset {} has no time to be cut by; export it without a range", dataset.name);
        return Err(ExportError::new(ExportErrorKind::Config, message));
    }
    let doing = format!("writing {}", path.display());
    // Where a link leads, the file is put; the link stays.
    let place = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let folder = folder_of(&place)?;
    // On the same file system as the file, so that renaming is one step.
    let room = Room::new(folder, ".hitherto-export-");
    room.make().map_err(|e| ExportError::lake(&doing, e))?;
    let draft = room.path.join("draft.parquet");
    let datasets = std::slice::from_ref(dataset);
    let mut readers = Readers::open(client, datasets).await?;
    readers.join(datasets, options).await?;
    let columns = [readers.snapshot.columns(dataset, Place::File).await?];
    let rows = if dataset.time_column.is_some() { Rows::Between(options.from, options.to) } else { Rows::All };
    let expected = readers.snapshot.expected_rows(dataset, options.from, options.to).await?;
    let mut on_rows = |p: Progress<'_>| progress(Progress { total_rows: expected, ..p });
    let task = Task { dataset: 0, day: None, rows, path: draft.clone() };
    let mut written = readers.run(datasets, &columns, vec![task], &mut on_rows).await?.pop().unwrap_or_default();
    if !options.unverified {
        let most = most_rows(&readers.snapshot, dataset, options).await?;
        compare(&format!("dataset {}", dataset.name), written.rows, (expected.unwrap_or_default(), most.unwrap_or(u64::MAX)))?;
    }
    readers.close().await?;
    if written.rows == 0 {
        written = ParquetFile::write_empty(&draft, schema(&columns[0]))?;
    }
    std::fs::rename(&draft, &place).map_err(|e| ExportError::lake(&doing, e))?;
    sync_folder(folder).map_err(|e| ExportError::lake(&doing, e))?;
    Ok(Exported {
        dataset: dataset.name.clone(),
        rows: written.rows,
        bytes: written.bytes,
        files: 1,
        days: 0,
        days_kept: 0,
        mode: if options.from.is_some() || options.to.is_some() { Mode::Range } else { Mode::Full },
        reason: "a file of its own".to_owned(),
        why: BTreeMap::new(),
        version: None,
        watermark: None,
        seconds: began.elapsed().as_secs_f64(),
        path: path.display().to_string(),
    })
}

/// Rows that the ledger tells of at most: of all its lines that may have some of these times.
async fn most_rows(snapshot: &Snapshot<'_>, dataset: &Dataset, options: &Options) -> Result<Option<u64>> {
    let Some(ledger) = &dataset.ledger else { return Ok(None) };
    let range = Range { from: options.from.map(|t| day_start(t).date_naive()), to: options.to.map(|t| day_end(t).date_naive()) };
    let lines = lines(snapshot, dataset, ledger, 0, range).await?;
    Ok(Some(lines.iter().map(|line| line.rows).sum()))
}

/// The folder of a file that is to be, if there can be one.
fn folder_of(path: &Path) -> Result<&Path> {
    let refuse = |why: String| Err(ExportError::new(ExportErrorKind::Lake, why));
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match path.metadata() {
        Ok(there) if there.is_dir() => refuse(format!("{} is a folder; name a file, or export a lake", path.display())),
        // A device or a pipe would be replaced by a file.
        Ok(there) if !there.is_file() => refuse(format!("{} is no ordinary file; name another", path.display())),
        _ if folder.is_dir() => Ok(folder),
        _ => refuse(format!("writing {}: the folder {} is not there; make it first", path.display(), folder.display())),
    }
}

/// Makes a rename or a new file in a folder last.
pub(crate) fn sync_folder(folder: &Path) -> std::io::Result<()> {
    std::fs::File::open(folder)?.sync_all()
}

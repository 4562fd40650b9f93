//! One Parquet file, written on a thread of its own while the next rows are read.

use std::fs::File;
use std::path::{Path, PathBuf};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::error::{ExportError, ExportErrorKind, Result};
use crate::fault;

/// Rows in a row group, at most.
const ROW_GROUP_ROWS: usize = 131_072;
/// Bytes that a row group may hold in memory before it is flushed.
const ROW_GROUP_BYTES: usize = 48 << 20;
/// Level 1 loses a few percent of size against 3 and writes half as fast again.
const ZSTD_LEVEL: i32 = 1;

/// A file under way. Dropped before [`ParquetFile::close`], it is left unfinished.
pub(crate) struct ParquetFile {
    path: PathBuf,
    batches: Option<mpsc::Sender<RecordBatch>>,
    writing: JoinHandle<Result<u64, ParquetError>>,
}

impl ParquetFile {
    pub(crate) fn create(path: &Path, schema: SchemaRef) -> Result<Self> {
        let doing = || format!("writing {}", path.display());
        fault::step(path).map_err(|e| ExportError::lake(&doing(), e))?;
        let file = File::options().write(true).create_new(true).open(path).map_err(|e| ExportError::lake(&doing(), e))?;
        let level = ZstdLevel::try_new(ZSTD_LEVEL).map_err(|e| ExportError::lake(&doing(), e))?;
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(level))
            .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
            .set_created_by(concat!("hitherto-export ", env!("CARGO_PKG_VERSION")).to_owned())
            .build();
        let mut writer = ArrowWriter::try_new(file, schema, Some(properties)).map_err(|e| ExportError::lake(&doing(), e))?;
        let (batches, mut incoming) = mpsc::channel::<RecordBatch>(2);
        let of = path.to_owned();
        let writing = tokio::task::spawn_blocking(move || {
            while let Some(batch) = incoming.blocking_recv() {
                writer.write(&batch)?;
                if writer.in_progress_size() > ROW_GROUP_BYTES {
                    writer.flush()?;
                }
            }
            let file = writer.into_inner()?;
            fault::step(&of)?;
            // On disk before the commit that shows it.
            file.sync_all()?;
            Ok(file.metadata()?.len())
        });
        Ok(Self { path: path.to_owned(), batches: Some(batches), writing })
    }

    pub(crate) async fn write(&mut self, batch: RecordBatch) -> Result<()> {
        if let Some(batches) = &self.batches
            && batches.send(batch).await.is_ok()
        {
            return Ok(());
        }
        // The thread has ended: its error says why.
        self.batches = None;
        let error = match (&mut self.writing).await {
            Ok(Err(e)) => ExportError::lake(&format!("writing {}", self.path.display()), e),
            _ => ExportError::new(ExportErrorKind::Lake, format!("writing {} stopped", self.path.display())),
        };
        Err(error)
    }

    /// Finishes and syncs the file; gives its size.
    pub(crate) async fn close(mut self) -> Result<u64> {
        self.batches = None;
        let doing = format!("writing {}", self.path.display());
        match self.writing.await {
            Ok(written) => written.map_err(|e| ExportError::lake(&doing, e)),
            Err(e) => Err(ExportError::lake(&doing, e)),
        }
    }
}

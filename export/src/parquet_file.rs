//! One Parquet file, written a row group at a time by whoever has one.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use arrow::array::{Array, RecordBatch, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::SchemaRef;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::{ArrowColumnChunk, ArrowRowGroupWriterFactory, compute_leaves};
use parquet::errors::ParquetError;
use parquet::file::writer::SerializedFileWriter;

use crate::encoding::properties;
use crate::error::{ExportError, ExportErrorKind, Result};
use crate::fault;
use crate::nans::Nans;
use crate::order::order;

/// Rows in a row group, at most.
const ROW_GROUP_ROWS: usize = 262_144;
/// Bytes of finished row groups that wait for the pieces before theirs, a file.
const WAITING_BYTES: usize = 16 << 20;

/// A file under way, in pieces that are written in parallel and stand in the file one after the other.
/// It appears on disk with its first rows; without rows it never does.
pub(crate) struct ParquetFile {
    path: PathBuf,
    schema: SchemaRef,
    /// Columns that rows are sorted by within what is handed to [`ParquetFile::write`].
    sort: Vec<usize>,
    state: Mutex<State>,
    changed: Condvar,
}

/// What a finished file holds.
#[derive(Debug, Clone, Default)]
pub(crate) struct Written {
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
    /// NULLs by column.
    pub(crate) nulls: Vec<u64>,
    /// Columns that hold NaN, which a Parquet file's statistics pass over.
    pub(crate) nans: Nans,
}

struct State {
    writer: Option<SerializedFileWriter<File>>,
    encoders: Option<Arc<ArrowRowGroupWriterFactory>>,
    written: Written,
    /// Pieces in all, and the one whose row groups are written now.
    pieces: usize,
    turn: usize,
    /// Row groups of later pieces, and which of those pieces have ended.
    waiting: BTreeMap<usize, (Vec<RowGroup>, bool)>,
    waiting_bytes: usize,
    /// Nobody wants the file any more.
    given_up: bool,
}

/// A row group, encoded.
struct RowGroup {
    chunks: Vec<ArrowColumnChunk>,
    bytes: usize,
}

impl ParquetFile {
    pub(crate) fn new(path: &Path, schema: SchemaRef, sort: Vec<usize>, pieces: usize) -> Self {
        let state = State {
            writer: None,
            encoders: None,
            written: Written { nulls: vec![0; schema.fields().len()], nans: Nans::new(schema.fields().len()), ..Written::default() },
            pieces,
            turn: 0,
            waiting: BTreeMap::new(),
            waiting_bytes: 0,
            given_up: false,
        };
        Self { path: path.to_owned(), schema, sort, state: Mutex::new(state), changed: Condvar::new() }
    }

    /// Writes a file without rows.
    pub(crate) fn write_empty(path: &Path, schema: SchemaRef) -> Result<Written> {
        let file = Self::new(path, schema.clone(), Vec::new(), 1);
        file.encoders(&RecordBatch::new_empty(schema))?;
        file.end(0)?;
        Ok(file.written())
    }

    /// Sorts and encodes some rows of a piece and writes them, or keeps them until the pieces before
    /// have ended. Blocks while too much is kept.
    pub(crate) fn write(&self, piece: usize, batch: &RecordBatch) -> Result<()> {
        let encoders = self.encoders(batch)?;
        let order = order(batch, &self.sort).map_err(|e| self.failed(e))?;
        let mut nulls = batch.columns().iter().map(|c| c.null_count() as u64);
        let mut start = 0;
        while start < batch.num_rows() {
            let length = (batch.num_rows() - start).min(ROW_GROUP_ROWS);
            let rows = order.as_ref().map(|order| order.slice(start, length));
            let group = self.encode(&encoders, batch, start, length, rows.as_ref()).map_err(|e| self.failed(e))?;
            self.append(piece, group)?;
            start += length;
        }
        let mut state = self.state();
        state.written.nans.note(batch);
        state.written.rows += batch.num_rows() as u64;
        state.written.nulls.iter_mut().for_each(|n| *n += nulls.next().unwrap_or_default());
        Ok(())
    }

    /// Ends a piece; the last one ends the file, which is on disk then.
    pub(crate) fn end(&self, piece: usize) -> Result<()> {
        let mut state = self.state();
        if piece != state.turn {
            state.waiting.entry(piece).or_default().1 = true;
            return Ok(());
        }
        let mut ended = true;
        while ended {
            state.turn += 1;
            let turn = state.turn;
            let (groups, its_end) = state.waiting.remove(&turn).unwrap_or_default();
            for group in groups {
                state.waiting_bytes -= group.bytes;
                state.write(group).map_err(|e| self.failed(e))?;
            }
            ended = its_end;
        }
        self.changed.notify_all();
        if state.turn >= state.pieces
            && let Some(writer) = state.writer.take()
        {
            let close = || {
                let file = writer.into_inner()?;
                fault::step(&self.path)?;
                // On disk before the commit that shows it.
                file.sync_all()?;
                Ok::<_, ParquetError>(file.metadata()?.len())
            };
            state.written.bytes = close().map_err(|e| self.failed(e))?;
        }
        Ok(())
    }

    /// What came of it.
    pub(crate) fn written(&self) -> Written {
        self.state().written.clone()
    }

    /// Whoever still writes is told to stop; a file that isn't on disk by now will not come.
    pub(crate) fn give_up(&self) {
        let mut state = self.state();
        state.given_up = true;
        state.writer = None;
        state.waiting.clear();
        self.changed.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What encodes row groups of this file. The first rows decide how, and bring the file about.
    fn encoders(&self, batch: &RecordBatch) -> Result<Arc<ArrowRowGroupWriterFactory>> {
        let mut state = self.state();
        if state.given_up {
            return Err(self.given_up());
        }
        if let Some(encoders) = &state.encoders {
            return Ok(encoders.clone());
        }
        fault::step(&self.path).map_err(|e| self.failed(e))?;
        let file = File::options().write(true).create_new(true).open(&self.path).map_err(|e| self.failed(e))?;
        let properties = properties(batch, &self.sort).map_err(|e| self.failed(e))?;
        let writer = ArrowWriter::try_new(file, self.schema.clone(), Some(properties)).map_err(|e| self.failed(e))?;
        let (writer, encoders) = writer.into_serialized_writer().map_err(|e| self.failed(e))?;
        state.writer = Some(writer);
        Ok(state.encoders.insert(Arc::new(encoders)).clone())
    }

    /// Column by column, so that no more than one is held twice.
    fn encode(
        &self,
        encoders: &ArrowRowGroupWriterFactory,
        batch: &RecordBatch,
        start: usize,
        length: usize,
        rows: Option<&UInt32Array>,
    ) -> std::result::Result<RowGroup, ParquetError> {
        let mut writers = encoders.create_column_writers(0)?.into_iter();
        let mut group = RowGroup { chunks: Vec::with_capacity(batch.num_columns()), bytes: 0 };
        for (field, column) in self.schema.fields().iter().zip(batch.columns()) {
            let column = match rows {
                Some(rows) => take(column, rows, None)?,
                None => column.slice(start, length),
            };
            for leaf in compute_leaves(field, &column)? {
                let mut writer = writers.next().ok_or_else(|| ParquetError::General("a column without a writer".to_owned()))?;
                writer.write(&leaf)?;
                let chunk = writer.close()?;
                group.bytes += usize::try_from(chunk.close().bytes_written).unwrap_or_default();
                group.chunks.push(chunk);
            }
        }
        Ok(group)
    }

    fn append(&self, piece: usize, group: RowGroup) -> Result<()> {
        let mut state = self.state();
        while piece != state.turn && state.waiting_bytes >= WAITING_BYTES && !state.given_up {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.given_up {
            return Err(self.given_up());
        }
        if piece == state.turn {
            return state.write(group).map_err(|e| self.failed(e));
        }
        state.waiting_bytes += group.bytes;
        state.waiting.entry(piece).or_default().0.push(group);
        Ok(())
    }

    fn failed(&self, error: impl std::error::Error + Send + Sync + 'static) -> ExportError {
        ExportError::lake(&format!("writing {}", self.path.display()), error)
    }

    fn given_up(&self) -> ExportError {
        ExportError::new(ExportErrorKind::Lake, format!("writing {} was given up", self.path.display()))
    }
}

impl State {
    fn write(&mut self, group: RowGroup) -> std::result::Result<(), ParquetError> {
        let Some(writer) = &mut self.writer else { return Ok(()) };
        let mut row_group = writer.next_row_group()?;
        for chunk in group.chunks {
            chunk.append_to_row_group(&mut row_group)?;
        }
        row_group.close()?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, AsArray, Int64Array};
    use arrow::datatypes::Int64Type;
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

    use super::*;

    fn batch(numbers: &[i64]) -> RecordBatch {
        RecordBatch::try_from_iter([("n", Arc::new(Int64Array::from(numbers.to_vec())) as ArrayRef)]).unwrap()
    }

    fn file(folder: &tempfile::TempDir, pieces: usize) -> ParquetFile {
        ParquetFile::new(&folder.path().join("f"), batch(&[]).schema(), vec![0], pieces)
    }

    #[test]
    fn pieces_stand_in_order_whoever_is_first() {
        let folder = tempfile::tempdir().unwrap();
        let file = file(&folder, 4);
        file.write(2, &batch(&[31, 30])).unwrap();
        file.end(2).unwrap();
        file.write(1, &batch(&[20])).unwrap();
        file.write(0, &batch(&[12, 11])).unwrap();
        file.write(0, &batch(&[10])).unwrap();
        file.end(0).unwrap();
        file.write(1, &batch(&[19])).unwrap();
        file.end(1).unwrap();
        assert_eq!(file.written().bytes, 0, "the last piece is still to come");
        file.end(3).unwrap();
        let written = file.written();
        assert_eq!((written.rows, written.nulls), (7, vec![0]));
        assert_eq!(written.bytes, std::fs::metadata(folder.path().join("f")).unwrap().len());
        let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(folder.path().join("f")).unwrap()).unwrap().build().unwrap();
        let numbers: Vec<i64> = reader.flat_map(|b| b.unwrap().column(0).as_primitive::<Int64Type>().values().to_vec()).collect();
        assert_eq!(numbers, [11, 12, 10, 20, 19, 30, 31]);
    }

    #[test]
    fn without_rows_there_is_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = file(&folder, 1);
        file.end(0).unwrap();
        assert_eq!((file.written().rows, folder.path().join("f").exists()), (0, false));
        let written = ParquetFile::write_empty(&folder.path().join("f"), batch(&[]).schema()).unwrap();
        assert_eq!(written.bytes, std::fs::metadata(folder.path().join("f")).unwrap().len());
    }

    #[test]
    fn whoever_waits_for_his_turn_in_vain_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let file = file(&folder, 2);
        file.state().waiting_bytes = WAITING_BYTES;
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| file.write(1, &batch(&[1])));
            std::thread::sleep(std::time::Duration::from_millis(50));
            assert!(!waiting.is_finished());
            file.give_up();
            assert!(waiting.join().unwrap().unwrap_err().to_string().contains("given up"));
        });
        std::fs::remove_file(folder.path().join("f")).unwrap();
        file.write(0, &batch(&[1])).unwrap_err();
        assert!(!folder.path().join("f").exists(), "a file came after it was given up");
    }
}

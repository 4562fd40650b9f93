//! Sorted Parquet files into one, in no more memory than some rows of each take.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, new_null_array};
use arrow::compute::{CastOptions, SortOptions, cast_with_options, concat_batches, interleave_record_batch};
use arrow::datatypes::{Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::row::{RowConverter, Rows, SortField};
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::errors::ParquetError;

use crate::error::{ExportError, Result};
use crate::parquet_file::{ParquetFile, Written};

/// Rows that are read at once, of all row groups together.
const READ: usize = 32_768;
/// Rows that are put together before they are copied.
const COPIED: usize = 16_384;
/// Rows and bytes that are written at once.
const WRITTEN_ROWS: usize = 262_144;
const WRITTEN_BYTES: usize = 32 << 20;

/// What came of a merge.
pub(super) struct Merged {
    pub(super) schema: SchemaRef,
    pub(super) written: Written,
    /// Rows that were read.
    pub(super) read: u64,
}

/// A row group, each of which is sorted.
struct Run {
    reader: ParquetRecordBatchReader,
    /// The rows that are read of it, as they are and as their order goes; none at its end.
    head: Option<(usize, Rows)>,
    /// The next of them.
    at: usize,
}

struct Merge {
    schema: SchemaRef,
    by: Vec<usize>,
    converter: RowConverter,
    runs: Vec<Run>,
    /// Batches that rows are still taken of.
    batches: Vec<RecordBatch>,
    /// Rows that were taken and not yet copied: which batch, which row of it.
    taken: Vec<(usize, usize)>,
    /// Rows that were copied and not yet written.
    copied: Vec<RecordBatch>,
    bytes: usize,
    read: u64,
}

/// Merges files of a table, whose columns are the schema's, into one. A column that a file doesn't have is NULL there.
pub(super) fn merge(files: &[PathBuf], to: &Path, schema: &SchemaRef, sort: &[String]) -> Result<Merged> {
    let doing = format!("merging files into {}", to.display());
    let failed = |e: ParquetError| ExportError::lake(&doing, e);
    let mut builders = Vec::new();
    for file in files {
        let builder = File::open(file).map_err(ParquetError::from).and_then(ParquetRecordBatchReaderBuilder::try_new);
        builders.push((file, builder.map_err(|e| ExportError::lake(&format!("reading {}", file.display()), e))?));
    }
    let found: Vec<SchemaRef> = builders.iter().map(|(_, builder)| builder.schema().clone()).collect();
    let schema = common(schema, &found);
    let by: Vec<usize> = sort.iter().filter_map(|name| schema.index_of(name).ok()).collect();
    let options = SortOptions { descending: false, nulls_first: false };
    let fields = by.iter().map(|at| SortField::new_with_options(schema.field(*at).data_type().clone(), options)).collect();
    let converter = RowConverter::new(fields).map_err(|e| failed(e.into()))?;
    let groups: usize = builders.iter().map(|(_, builder)| builder.metadata().num_row_groups()).sum();
    // The more there are, the less is read of each at once.
    let rows = (READ / groups.max(1)).clamp(64, READ / 8);
    let mut runs = Vec::new();
    for (path, builder) in builders {
        for group in 0..builder.metadata().num_row_groups() {
            let opened = || {
                let metadata = ArrowReaderMetadata::try_new(builder.metadata().clone(), ArrowReaderOptions::default())?;
                let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(File::open(path)?, metadata);
                reader.with_row_groups(vec![group]).with_batch_size(rows).build()
            };
            let reader = opened().map_err(|e| ExportError::lake(&format!("reading {}", path.display()), e))?;
            runs.push(Run { reader, head: None, at: 0 });
        }
    }
    fs::create_dir_all(to.parent().unwrap_or(to)).map_err(|e| ExportError::lake(&doing, e))?;
    let file = ParquetFile::new(to, schema.clone(), by.clone(), 1);
    let mut merge = Merge {
        schema: schema.clone(),
        by,
        converter,
        runs,
        batches: Vec::new(),
        taken: Vec::new(),
        copied: Vec::new(),
        bytes: 0,
        read: 0,
    };
    merge.run(&file).map_err(|e| match e {
        Failure::Reading(e) => failed(e),
        Failure::Writing(e) => e,
    })?;
    file.end(0)?;
    Ok(Merged { schema, written: file.written(), read: merge.read })
}

enum Failure {
    Reading(ParquetError),
    Writing(ExportError),
}

impl From<ArrowError> for Failure {
    fn from(e: ArrowError) -> Self {
        Self::Reading(e.into())
    }
}

impl Merge {
    fn run(&mut self, file: &ParquetFile) -> std::result::Result<(), Failure> {
        for run in 0..self.runs.len() {
            self.refill(run)?;
        }
        while let Some((least, next)) = self.least() {
            // Rows up to the next run's, at once.
            let Some((batch, rows)) = &self.runs[least].head else { break };
            let mut at = self.runs[least].at;
            loop {
                self.taken.push((*batch, at));
                at += 1;
                let bound = next.and_then(|next| self.runs[next].head.as_ref().map(|(_, rows)| (next, rows.row(self.runs[next].at))));
                // Equal rows go in the order of the files.
                let goes_on =
                    at < rows.num_rows() && bound.is_none_or(|(next, bound)| rows.row(at) < bound || rows.row(at) == bound && least < next);
                if !goes_on || self.taken.len() >= COPIED {
                    break;
                }
            }
            let ended = at >= rows.num_rows();
            self.runs[least].at = at;
            if ended {
                self.refill(least)?;
            }
            if self.taken.len() >= COPIED {
                self.copy()?;
                if self.bytes >= WRITTEN_BYTES || self.copied.iter().map(RecordBatch::num_rows).sum::<usize>() >= WRITTEN_ROWS {
                    self.write(file)?;
                }
            }
        }
        self.copy()?;
        self.write(file)
    }

    /// The run whose row is the least, and the one whose is the next.
    fn least(&self) -> Option<(usize, Option<usize>)> {
        let mut found: Option<(usize, Option<usize>)> = None;
        let row = |run: usize| self.runs[run].head.as_ref().map(|(_, rows)| rows.row(self.runs[run].at));
        for run in 0..self.runs.len() {
            let Some(here) = row(run) else { continue };
            found = Some(match found {
                None => (run, None),
                Some((least, _)) if row(least).is_some_and(|least| here < least) => (run, Some(least)),
                Some((least, next)) if next.and_then(row).is_none_or(|next| here < next) => (least, Some(run)),
                Some(found) => found,
            });
        }
        found
    }

    /// Reads the next rows of a run.
    fn refill(&mut self, run: usize) -> std::result::Result<(), Failure> {
        self.runs[run].at = 0;
        self.runs[run].head = None;
        while let Some(batch) = self.runs[run].reader.next() {
            let batch = fitted(&batch?, &self.schema)?;
            if batch.num_rows() == 0 {
                continue;
            }
            self.read += batch.num_rows() as u64;
            let columns: Vec<ArrayRef> = self.by.iter().map(|at| batch.column(*at).clone()).collect();
            let rows = if columns.is_empty() { self.unordered(batch.num_rows())? } else { self.converter.convert_columns(&columns)? };
            self.batches.push(batch);
            self.runs[run].head = Some((self.batches.len() - 1, rows));
            break;
        }
        Ok(())
    }

    /// Rows that nothing is known of the order of are all alike.
    fn unordered(&self, rows: usize) -> std::result::Result<Rows, ArrowError> {
        let converter = RowConverter::new(vec![SortField::new(arrow::datatypes::DataType::Boolean)])?;
        converter.convert_columns(&[new_null_array(&arrow::datatypes::DataType::Boolean, rows)])
    }

    /// Copies the rows that were taken, and lets go of the batches that they were all of.
    fn copy(&mut self) -> std::result::Result<(), Failure> {
        if self.taken.is_empty() {
            return Ok(());
        }
        let batches: Vec<&RecordBatch> = self.batches.iter().collect();
        let copied = interleave_record_batch(&batches, &self.taken)?;
        self.taken.clear();
        self.bytes += copied.get_array_memory_size();
        self.copied.push(copied);
        let mut kept = Vec::new();
        for run in &mut self.runs {
            if let Some((batch, _)) = &mut run.head {
                kept.push(self.batches[*batch].clone());
                *batch = kept.len() - 1;
            }
        }
        self.batches = kept;
        Ok(())
    }

    fn write(&mut self, file: &ParquetFile) -> std::result::Result<(), Failure> {
        if self.copied.is_empty() {
            return Ok(());
        }
        let batch = concat_batches(&self.schema, &self.copied)?;
        self.copied.clear();
        self.bytes = 0;
        file.write(0, &batch).map_err(Failure::Writing)
    }
}

/// The table's columns, as the files have them: the table knows fewer kinds.
fn common(table: &SchemaRef, files: &[SchemaRef]) -> SchemaRef {
    let field = |wanted: &Arc<Field>| {
        let found = files.iter().rev().find_map(|file| file.field_with_name(wanted.name()).ok());
        found.map_or_else(|| wanted.as_ref().clone(), |found| found.clone().with_nullable(wanted.is_nullable() || found.is_nullable()))
    };
    Arc::new(Schema::new(table.fields().iter().map(field).collect::<Vec<_>>()))
}

/// Rows with the columns of a schema; a value that does not fit is an error.
fn fitted(batch: &RecordBatch, schema: &SchemaRef) -> std::result::Result<RecordBatch, ArrowError> {
    let options = CastOptions { safe: false, ..CastOptions::default() };
    let columns = schema.fields().iter().map(|field| match batch.column_by_name(field.name()) {
        None => Ok(new_null_array(field.data_type(), batch.num_rows())),
        Some(column) if column.data_type() == field.data_type() => Ok(column.clone()),
        Some(column) => cast_with_options(column, field.data_type(), &options),
    });
    RecordBatch::try_new(schema.clone(), columns.collect::<std::result::Result<_, _>>()?)
}

//! A binary COPY, cut into rows and decoded into record batches.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use bytes::{Buf, Bytes, BytesMut};

use crate::column::{Builder, Column};
use crate::error::{ExportError, ExportErrorKind, Result};

/// `PGCOPY\n\377\r\n\0`, flags and the length of the header's extension.
const HEADER: usize = 19;
/// A batch is handed on when it has this many rows, or bytes.
const BATCH_ROWS: usize = 16_384;
const BATCH_BYTES: usize = 16 << 20;

/// Decodes the chunks of one COPY ... TO STDOUT (FORMAT binary). Rows need not align with chunks.
pub(crate) struct Decoder {
    dataset: String,
    columns: Vec<Column>,
    schema: SchemaRef,
    builders: Vec<Builder>,
    rest: BytesMut,
    header: bool,
    ended: bool,
    batch_rows: usize,
    batch_bytes: usize,
    pub(crate) rows: u64,
}

impl Decoder {
    pub(crate) fn new(dataset: &str, columns: &[Column]) -> Self {
        Self {
            dataset: dataset.to_owned(),
            columns: columns.to_vec(),
            schema: schema(columns),
            builders: columns.iter().map(Column::builder).collect(),
            rest: BytesMut::new(),
            header: true,
            ended: false,
            batch_rows: 0,
            batch_bytes: 0,
            rows: 0,
        }
    }

    /// Takes a chunk; gives a batch when one is full.
    pub(crate) fn push(&mut self, chunk: Bytes) -> Result<Option<RecordBatch>> {
        self.batch_bytes += chunk.len();
        if self.rest.is_empty() {
            let used = self.decode(&chunk)?;
            self.rest.extend_from_slice(&chunk[used..]);
        } else {
            self.rest.extend_from_slice(&chunk);
            let mut rest = std::mem::take(&mut self.rest);
            let used = self.decode(&rest)?;
            rest.advance(used);
            self.rest = rest;
        }
        if self.batch_rows >= BATCH_ROWS || self.batch_bytes >= BATCH_BYTES && self.batch_rows > 0 {
            self.take().map(Some)
        } else {
            Ok(None)
        }
    }

    /// The rows that are left, once the COPY has ended.
    pub(crate) fn finish(&mut self) -> Result<Option<RecordBatch>> {
        if !self.ended || !self.rest.is_empty() {
            return Err(self.malformed("it ended amid a row"));
        }
        if self.batch_rows > 0 { self.take().map(Some) } else { Ok(None) }
    }

    /// NULLs by column.
    pub(crate) fn nulls(&self) -> Vec<u64> {
        self.builders.iter().map(|b| b.nulls).collect()
    }

    fn take(&mut self) -> Result<RecordBatch> {
        (self.batch_rows, self.batch_bytes) = (0, 0);
        let arrays = self.builders.iter_mut().map(Builder::finish).collect();
        RecordBatch::try_new(self.schema.clone(), arrays).map_err(|e| ExportError::lake(&self.dataset, e))
    }

    /// Decodes the whole rows at the head of `data`; gives the bytes they took.
    fn decode(&mut self, data: &[u8]) -> Result<usize> {
        let mut at = 0;
        if self.header {
            if data.len() < HEADER {
                return Ok(0);
            }
            let extension = u32::from_be_bytes([data[15], data[16], data[17], data[18]]) as usize;
            if data.len() < HEADER + extension {
                return Ok(0);
            }
            if !data.starts_with(b"PGCOPY\n\xff\r\n\0") {
                return Err(self.malformed("it has no COPY header"));
            }
            at = HEADER + extension;
            self.header = false;
        }
        while let Some(end) = self.row_end(data, at)? {
            self.decode_row(data, at)?;
            at = end;
        }
        Ok(at)
    }

    /// Where the row at `at` ends; `None` when it is not whole yet.
    fn row_end(&mut self, data: &[u8], at: usize) -> Result<Option<usize>> {
        let Some(count) = data.get(at..at + 2).map(|b| i16::from_be_bytes([b[0], b[1]])) else { return Ok(None) };
        if self.ended {
            return Err(self.malformed("it goes on after its end"));
        }
        if count == -1 {
            self.ended = true;
            return Ok(Some(at + 2));
        }
        if count as usize != self.columns.len() {
            return Err(self.malformed("a row has another number of columns"));
        }
        let mut end = at + 2;
        for _ in 0..count {
            let Some(length) = data.get(end..end + 4).map(|b| i32::from_be_bytes([b[0], b[1], b[2], b[3]])) else { return Ok(None) };
            end += 4 + usize::try_from(length).unwrap_or(0);
        }
        Ok((end <= data.len()).then_some(end))
    }

    /// Decodes the row at `at`, which is whole.
    fn decode_row(&mut self, data: &[u8], at: usize) -> Result<()> {
        if self.ended {
            return Ok(());
        }
        let mut at = at + 2;
        for (column, builder) in self.columns.iter().zip(&mut self.builders) {
            let length = i32::from_be_bytes([data[at], data[at + 1], data[at + 2], data[at + 3]]);
            at += 4;
            let raw = usize::try_from(length).ok().map(|length| &data[at..at + length]);
            at += raw.map_or(0, <[u8]>::len);
            builder.append(raw).map_err(|why| {
                let message = format!("{}.{}: {why}", self.dataset, column.name);
                ExportError::new(ExportErrorKind::Unsupported, message)
            })?;
        }
        self.rows += 1;
        self.batch_rows += 1;
        Ok(())
    }

    fn malformed(&self, what: &str) -> ExportError {
        ExportError::new(ExportErrorKind::Database, format!("{}: the server's COPY can't be read: {what}", self.dataset))
    }
}

pub(crate) fn schema(columns: &[Column]) -> SchemaRef {
    Arc::new(Schema::new(columns.iter().map(Column::field).collect::<Vec<_>>()))
}

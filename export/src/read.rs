//! A binary COPY, cut into rows and decoded column by column.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};

use crate::column::{Codec, Column, Refused, RefusedRow};
use crate::error::{ExportError, ExportErrorKind, Result};
use crate::fields::Fields;
use crate::snapshot::Rows;

/// `PGCOPY\n\377\r\n\0`, flags and the length of the header's extension.
const HEADER: usize = 19;

/// Decodes the blocks of one COPY ... TO STDOUT (FORMAT binary). Rows need not align with blocks.
pub(crate) struct Decoder {
    dataset: String,
    columns: Vec<Column>,
    schema: SchemaRef,
    codecs: Vec<Box<dyn Codec>>,
    /// Which rows these are.
    of: Rows,
    /// Rows that were taken before.
    taken: usize,
    rest: Vec<u8>,
    header: bool,
    ended: bool,
    /// Where the fields of a block's rows begin; kept for its memory.
    begins: Vec<u32>,
    rows: usize,
    bytes: usize,
}

impl Decoder {
    pub(crate) fn new(dataset: &str, columns: &[Column], of: Rows) -> Self {
        Self {
            dataset: dataset.to_owned(),
            columns: columns.to_vec(),
            schema: schema(columns),
            codecs: columns.iter().map(Column::codec).collect(),
            of,
            taken: 0,
            rest: Vec::new(),
            header: true,
            ended: false,
            begins: Vec::new(),
            rows: 0,
            bytes: 0,
        }
    }

    /// Takes a block.
    pub(crate) fn push(&mut self, block: &[u8]) -> Result<()> {
        if self.rest.is_empty() {
            let used = self.decode(block)?;
            self.rest.extend_from_slice(&block[used..]);
        } else {
            self.rest.extend_from_slice(block);
            let mut rest = std::mem::take(&mut self.rest);
            let used = self.decode(&rest)?;
            rest.drain(..used);
            self.rest = rest;
        }
        Ok(())
    }

    /// Rows that are decoded and not taken.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// Bytes that those rows came in.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes what is decoded.
    pub(crate) fn take(&mut self) -> Result<RecordBatch> {
        self.taken += self.rows;
        (self.rows, self.bytes) = (0, 0);
        let mut arrays = Vec::with_capacity(self.columns.len());
        for (column, codec) in self.columns.iter().zip(&mut self.codecs) {
            arrays.push(codec.finish().map_err(|why| refused(&self.dataset, column, "", &why))?);
        }
        RecordBatch::try_new(self.schema.clone(), arrays).map_err(|e| ExportError::lake(&self.dataset, e))
    }

    /// Makes sure that the COPY has ended as it should; the next one may begin.
    pub(crate) fn end(&mut self) -> Result<()> {
        if !self.ended || !self.rest.is_empty() {
            return Err(self.malformed("it ended amid a row"));
        }
        (self.header, self.ended, self.taken) = (true, false, 0);
        Ok(())
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
        let end = self.find_fields(data, at)?;
        let width = self.columns.len();
        for (at, (column, codec)) in self.columns.iter().zip(&mut self.codecs).enumerate() {
            let fields = Fields::new(data, &self.begins, width, at);
            codec.append_column(&fields).map_err(|RefusedRow { row, why }| {
                let row = format!(", row {}{}", self.taken + self.rows + row + 1, self.of.words());
                refused(&self.dataset, column, &row, &why)
            })?;
        }
        self.rows += self.begins.len().checked_div(width).unwrap_or_default();
        self.bytes += end - at;
        Ok(end)
    }

    /// Notes where the fields of the whole rows from `at` on begin; gives the end of those rows.
    fn find_fields(&mut self, data: &[u8], mut at: usize) -> Result<usize> {
        self.begins.clear();
        while let Some(count) = word::<2>(data, at).map(i16::from_be_bytes) {
            if self.ended {
                return Err(self.malformed("it goes on after its end"));
            }
            if count == -1 {
                self.ended = true;
                at += 2;
                continue;
            }
            if usize::try_from(count) != Ok(self.columns.len()) {
                return Err(self.malformed("a row has another number of columns"));
            }
            let whole = self.begins.len();
            let mut end = at + 2;
            for _ in 0..count {
                let Some(length) = word::<4>(data, end).map(i32::from_be_bytes) else {
                    end = usize::MAX;
                    break;
                };
                self.begins.push(u32::try_from(end).map_err(|_| self.malformed("a row is too long"))?);
                end += 4 + usize::try_from(length).unwrap_or(0);
            }
            if end > data.len() {
                self.begins.truncate(whole);
                break;
            }
            at = end;
        }
        Ok(at)
    }

    fn malformed(&self, what: &str) -> ExportError {
        ExportError::new(ExportErrorKind::Database, format!("{}: the server's COPY can't be read: {what}", self.dataset))
    }
}

fn word<const N: usize>(data: &[u8], at: usize) -> Option<[u8; N]> {
    data.get(at..at + N)?.try_into().ok()
}

fn refused(dataset: &str, column: &Column, row: &str, why: &Refused) -> ExportError {
    ExportError::new(ExportErrorKind::Unsupported, format!("{dataset}.{}{row}: {why}", column.name))
}

pub(crate) fn schema(columns: &[Column]) -> SchemaRef {
    Arc::new(Schema::new(columns.iter().map(Column::field).collect::<Vec<_>>()))
}

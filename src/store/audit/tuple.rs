//! Tuples of a binary COPY: what the server sends, cut into fields.

use std::pin::Pin;

use bytes::{Buf, Bytes, BytesMut};
use chrono::{DateTime, Utc};
use deadpool_postgres::Transaction;
use futures_util::StreamExt;
use sha2::{Digest, Sha256};
use tokio_postgres::CopyOutStream;

use crate::error::{Error, ErrorKind, Result};
use crate::writer::RowDigest;

/// What a COPY's body begins with: signature, flags, length of an extension.
const HEAD: usize = 19;

/// 2000-01-01, which the server counts microseconds from, in microseconds since 1970.
const EPOCH: i64 = 946_684_800_000_000;

/// Fields as a tuple: int2 count, then int4 length and bytes of each.
pub(super) fn tuple(fields: &[&[u8]]) -> Vec<u8> {
    let mut out = (fields.len() as i16).to_be_bytes().to_vec();
    for field in fields {
        out.extend((field.len() as i32).to_be_bytes());
        out.extend(*field);
    }
    out
}

/// A tuple, less the fields that were taken off its front.
pub(super) struct Tuple {
    count: i16,
    fields: Bytes,
}

impl Tuple {
    /// Takes the first field off; `None` for NULL.
    pub(super) fn take(&mut self) -> Option<Bytes> {
        self.count -= 1;
        let length = usize::try_from(self.fields.get_i32()).ok()?;
        Some(self.fields.split_to(length))
    }

    /// Takes a `bigint` off; 0 for NULL.
    pub(super) fn take_int8(&mut self) -> i64 {
        self.take().filter(|field| field.len() == 8).map_or(0, |mut field| field.get_i64())
    }

    /// Takes a `timestamptz` off; the end of time for what is none that people write.
    pub(super) fn take_time(&mut self) -> DateTime<Utc> {
        DateTime::from_timestamp_micros(self.take_int8().saturating_add(EPOCH)).unwrap_or(DateTime::<Utc>::MAX_UTC)
    }

    /// Takes a text off; empty for NULL.
    pub(super) fn take_text(&mut self) -> String {
        self.take().map_or_else(String::new, |field| String::from_utf8_lossy(&field).into_owned())
    }

    /// Whether the next field is NULL.
    pub(super) fn is_null(&self) -> bool {
        self.fields.starts_with(&[0xff; 4])
    }

    /// SHA-256 of the tuple that is left: the canonical bytes of a row, when it is all of a row.
    pub(super) fn digest(&self) -> RowDigest {
        Sha256::new_with_prefix(self.count.to_be_bytes()).chain_update(&self.fields).finalize().into()
    }
}

/// The tuples of one COPY, as they come.
pub(super) struct Tuples {
    stream: Pin<Box<CopyOutStream>>,
    doing: &'static str,
    buffer: BytesMut,
}

impl Tuples {
    pub(super) async fn of(tx: &Transaction<'_>, copy: &str, doing: &'static str) -> Result<Self> {
        let stream = tx.copy_out(copy).await.map_err(|e| Error::database(doing, e))?;
        let mut tuples = Self { stream: Box::pin(stream), doing, buffer: BytesMut::new() };
        tuples.fill(HEAD).await?;
        tuples.buffer.advance(HEAD);
        Ok(tuples)
    }

    /// The next one; `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Tuple>> {
        let word = |buffer: &BytesMut, at: usize| i32::from_be_bytes([buffer[at], buffer[at + 1], buffer[at + 2], buffer[at + 3]]);
        self.fill(2).await?;
        let count = i16::from_be_bytes([self.buffer[0], self.buffer[1]]);
        if count < 0 {
            // What follows is the server's word that all went well.
            while self.more().await? {}
            return Ok(None);
        }
        let mut length = 2;
        for _ in 0..count {
            self.fill(length + 4).await?;
            length += 4 + usize::try_from(word(&self.buffer, length)).unwrap_or_default();
        }
        self.fill(length).await?;
        let mut fields = self.buffer.split_to(length).freeze();
        fields.advance(2);
        Ok(Some(Tuple { count, fields }))
    }

    /// Reads until there are so many bytes.
    async fn fill(&mut self, length: usize) -> Result<()> {
        while self.buffer.len() < length {
            if !self.more().await? {
                return Err(Error::new(ErrorKind::Database, format!("{}: the server's answer ends too early", self.doing)));
            }
        }
        Ok(())
    }

    async fn more(&mut self) -> Result<bool> {
        let Some(piece) = self.stream.next().await else { return Ok(false) };
        self.buffer.extend_from_slice(&piece.map_err(|e| Error::database(self.doing, e))?);
        Ok(true)
    }
}

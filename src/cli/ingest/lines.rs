//! Lines of a file or of standard input, whatever their length and bytes.

use std::path::Path;

use tokio::fs::File;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, BufReader};

use super::name;
use crate::error::{Error, ErrorKind, Result};

/// The longest line that is read; of a longer one the rest is skipped.
pub(super) const MAX_LINE_BYTES: usize = 1 << 20;

pub(super) struct Lines {
    reader: Box<dyn AsyncBufRead + Send + Unpin>,
    file: String,
    total_bytes: u64,
    bytes_read: u64,
    number: u64,
    buffer: Vec<u8>,
}

pub(super) struct Line<'a> {
    /// Counted from 1.
    pub(super) number: u64,
    /// Without line end and surrounding white space.
    pub(super) bytes: &'a [u8],
    /// It was too long; only its beginning is here.
    pub(super) cut: bool,
    /// Bytes read so far.
    pub(super) read: u64,
    /// A line end followed.
    pub(super) ended: bool,
}

impl Line<'_> {
    pub(super) fn is_blank(&self) -> bool {
        self.bytes.is_empty()
    }
}

impl Lines {
    pub(super) async fn open(path: &Path) -> Result<Self> {
        let file = name(path);
        let (reader, total_bytes): (Box<dyn AsyncBufRead + Send + Unpin>, u64) = if path == Path::new("-") {
            (Box::new(BufReader::with_capacity(1 << 16, tokio::io::stdin())), 0)
        } else {
            let failed = |e: std::io::Error| Error::new(ErrorKind::Config, format!("{file} can't be read: {e}"));
            let opened = File::open(path).await.map_err(failed)?;
            let metadata = opened.metadata().await.map_err(failed)?;
            if metadata.is_dir() {
                return Err(Error::new(ErrorKind::Config, format!("{file} is a folder; name a file")));
            }
            (Box::new(BufReader::with_capacity(1 << 16, opened)), metadata.len())
        };
        Ok(Self { reader, file, total_bytes, bytes_read: 0, number: 0, buffer: Vec::new() })
    }

    /// 0 when it is not known.
    pub(super) fn total_bytes(&self) -> u64 {
        self.total_bytes
    }

    pub(super) async fn next(&mut self) -> Result<Option<Line<'_>>> {
        self.buffer.clear();
        let (mut cut, mut ended) = (false, false);
        let mut any = false;
        while !ended {
            let chunk = self.reader.fill_buf().await.map_err(|e| Error::new(ErrorKind::Config, format!("reading {}: {e}", self.file)))?;
            if chunk.is_empty() {
                break;
            }
            any = true;
            let end = chunk.iter().position(|b| *b == b'\n');
            ended = end.is_some();
            let used = end.map_or(chunk.len(), |at| at + 1);
            let room = MAX_LINE_BYTES.saturating_sub(self.buffer.len());
            cut |= end.unwrap_or(used) > room;
            self.buffer.extend_from_slice(&chunk[..end.unwrap_or(used).min(room)]);
            self.reader.consume(used);
            self.bytes_read += used as u64;
        }
        if !any {
            return Ok(None);
        }
        self.number += 1;
        let mut bytes = self.buffer.as_slice();
        if self.number == 1 {
            // A byte order mark, as some editors write it.
            bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        }
        Ok(Some(Line { number: self.number, bytes: bytes.trim_ascii(), cut, read: self.bytes_read, ended }))
    }
}

//! The file or pipe that lines come from, read by a thread of its own.

use std::fs::{File, Metadata};
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, sync_channel};

use super::{name, worker};
use crate::error::{Error, ErrorKind, Result};

/// Bytes that are asked for at once.
const BLOCK_BYTES: usize = 128 << 10;
/// Blocks that wait to be parsed, at most.
const BLOCKS: usize = 16;

/// What the thread is called.
pub(super) const READER: &str = "the reader of the input";

/// What the reader hands over; its last word is one of the last three.
pub(super) enum Block {
    Bytes(Vec<u8>),
    End,
    /// The run was told to stop.
    Stopped,
    Failed(Error),
}

pub(super) struct Source {
    file: Box<dyn Read + Send>,
    name: String,
    /// 0 when it is not known.
    pub(super) total_bytes: u64,
    /// A pipe or the like: what comes may be all for a long time.
    pub(super) endless: bool,
}

impl Source {
    /// Opens the file; for a pipe with a name, waits until somebody writes to it.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let name = name(path);
        let failed = |e: std::io::Error| Error::new(ErrorKind::Config, format!("{name} can't be read: {e}"));
        if path == Path::new("-") {
            return standard_input().map_err(failed);
        }
        let file = File::open(path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        if metadata.is_dir() {
            return Err(Error::new(ErrorKind::Config, format!("{name} is a folder; name a file")));
        }
        Ok(Self::of(file, &metadata, name))
    }

    fn of(file: File, metadata: &Metadata, name: String) -> Self {
        let total_bytes = if metadata.is_file() { metadata.len() } else { 0 };
        Self { file: Box::new(file), name, total_bytes, endless: !metadata.is_file() }
    }

    /// Reads until the end, or until it is told to stop. What waits is bounded.
    pub(super) fn start(mut self, stop: Arc<AtomicBool>) -> Receiver<Block> {
        let (to, blocks) = sync_channel(BLOCKS);
        worker::named(READER, move || {
            while !stop.load(Relaxed) {
                let last = match self.read() {
                    Ok(bytes) if bytes.is_empty() => Block::End,
                    Ok(bytes) => {
                        if to.send(Block::Bytes(bytes)).is_err() {
                            return;
                        }
                        continue;
                    }
                    Err(e) => Block::Failed(Error::new(ErrorKind::Config, format!("reading {}: {e}", self.name))),
                };
                let _ = to.send(last);
                return;
            }
            let _ = to.send(Block::Stopped);
        });
        blocks
    }

    fn read(&mut self) -> std::io::Result<Vec<u8>> {
        let mut bytes = vec![0; BLOCK_BYTES];
        loop {
            match self.file.read(&mut bytes) {
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
                Ok(read) => {
                    bytes.truncate(read);
                    return Ok(bytes);
                }
            }
        }
    }

    /// A source that is no file: to measure with.
    pub(super) fn made_of(file: impl Read + Send + 'static) -> Self {
        Self { file: Box::new(file), name: "what is measured".to_owned(), total_bytes: 0, endless: false }
    }
}

/// Past the standard library's buffer, which is small.
#[cfg(unix)]
fn standard_input() -> std::io::Result<Source> {
    use std::os::fd::AsFd;
    let file = File::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    let metadata = file.metadata()?;
    Ok(Source::of(file, &metadata, name(Path::new("-"))))
}

#[cfg(not(unix))]
fn standard_input() -> std::io::Result<Source> {
    Ok(Source { file: Box::new(std::io::stdin()), name: name(Path::new("-")), total_bytes: 0, endless: true })
}

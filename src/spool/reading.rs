//! Reads a log batch by batch, a frame at a time: a backlog of any size takes no more memory than its
//! largest batch.

use std::path::Path;

use uuid::Uuid;

use super::failed;
use super::files::{Data, Files};
use super::format::{FRAME_HEADER, FrameHead, FrameInfo, KIND_VOID, Position, SEGMENT_HEADER};
use super::log::{Segment, segment_name};
use crate::error::Error;

/// Bytes that are read ahead.
const AHEAD: usize = 64 << 10;

/// A frame that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SpooledFrame {
    /// What it says of itself.
    pub(crate) head: FrameHead,
    /// Its bytes.
    pub(crate) payload: Vec<u8>,
}

/// The frames of a complete batch, in the order they were written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SpooledBatch {
    /// The batch.
    pub(crate) id: Uuid,
    /// Its frames.
    pub(crate) frames: Vec<SpooledFrame>,
    /// Records in them.
    pub(crate) rows: u64,
    /// It may have been sent before, by this program or one before it: look it up in the ledger first.
    pub(crate) known: bool,
    pub(super) start: Position,
    pub(super) end: Position,
    pub(super) bytes: u64,
}

/// Where a reader is.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Reading {
    pub(super) at: Position,
}

/// Why a batch can't be read.
pub(super) enum Unread {
    /// A frame of this segment isn't whole.
    Damaged(u64),
    Failed(Error),
}

impl Reading {
    pub(super) fn from(at: Position) -> Self {
        Self { at }
    }

    /// The next batch and where reading goes on, or `None` when there is no complete one. A batch without
    /// frames stands for places where frames were lost.
    pub(super) fn next(&self, files: &dyn Files, folder: &Path, complete: &[Segment]) -> Result<Option<(SpooledBatch, Self)>, Unread> {
        let mut batch: Option<SpooledBatch> = None;
        let mut only_voids: Option<(Position, Position, u64)> = None;
        for segment in complete.iter().filter(|s| s.number >= self.at.segment) {
            let mut offset = if segment.number == self.at.segment { self.at.offset.max(SEGMENT_HEADER) } else { SEGMENT_HEADER };
            if offset >= segment.end {
                continue;
            }
            let mut frames = Frames::open(files, folder, segment.number)?;
            while offset < segment.end {
                let start = Position { segment: segment.number, offset };
                let (info, payload) = frames.read(offset, batch.as_ref().map(|batch| batch.id))?;
                let end = Position { segment: segment.number, offset: offset + info.span() };
                if info.head.kind == KIND_VOID {
                    match &mut batch {
                        Some(batch) => (batch.end, batch.bytes) = (end, batch.bytes + info.span()),
                        None => {
                            let (start, _, bytes) = only_voids.unwrap_or((start, end, 0));
                            only_voids = Some((start, end, bytes + info.span()));
                        }
                    }
                    offset = end.offset;
                    continue;
                }
                let batch = match &mut batch {
                    Some(batch) if batch.id != info.head.batch => {
                        let whole = batch.clone_out();
                        return Ok(Some((whole, Self { at: start })));
                    }
                    Some(batch) => batch,
                    None => {
                        let (start, _, bytes) = only_voids.unwrap_or((start, start, 0));
                        batch.insert(SpooledBatch { id: info.head.batch, frames: Vec::new(), rows: 0, known: false, start, end, bytes })
                    }
                };
                batch.end = end;
                batch.bytes += info.span();
                batch.rows += u64::from(info.head.rows);
                batch.frames.push(SpooledFrame { head: info.head, payload });
                offset = end.offset;
            }
        }
        let lost = only_voids.map(|(start, end, bytes)| SpooledBatch {
            id: Uuid::nil(),
            frames: Vec::new(),
            rows: 0,
            known: false,
            start,
            end,
            bytes,
        });
        Ok(batch.or(lost).map(|batch| {
            let at = batch.end;
            (batch, Self { at })
        }))
    }
}

impl SpooledBatch {
    /// A batch that comes from nowhere.
    #[cfg(test)]
    pub(crate) fn of(frames: Vec<SpooledFrame>) -> Self {
        let rows = frames.iter().map(|frame| u64::from(frame.head.rows)).sum();
        let (id, at) = (frames.first().map_or_else(Uuid::nil, |frame| frame.head.batch), Position::default());
        Self { id, frames, rows, known: false, start: at, end: at, bytes: 0 }
    }

    /// Whether its frames are of this kind.
    #[cfg(feature = "cli")]
    pub(crate) fn is_of(&self, kind: u8) -> bool {
        self.frames.iter().all(|frame| frame.head.kind == kind)
    }

    /// All payloads, one behind the other, each ended by a line's end.
    pub(crate) fn payloads(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for frame in &self.frames {
            bytes.extend_from_slice(&frame.payload);
            if !bytes.ends_with(b"\n") {
                bytes.push(b'\n');
            }
        }
        bytes
    }

    fn clone_out(&mut self) -> Self {
        Self { frames: std::mem::take(&mut self.frames), ..*self }
    }
}

/// Frames of a segment's file.
struct Frames {
    file: Box<dyn Data>,
    path: String,
    segment: u64,
    buffer: Vec<u8>,
    begin: u64,
}

impl Frames {
    fn open(files: &dyn Files, folder: &Path, segment: u64) -> Result<Self, Unread> {
        let path = folder.join(segment_name(segment));
        match files.open(&path, false) {
            Ok(file) => Ok(Self { file, path: path.display().to_string(), segment, buffer: Vec::new(), begin: 0 }),
            Err(error) => Err(Unread::Failed(failed(&format!("reading {}", path.display()), folder, &error))),
        }
    }

    /// The bytes from a place on, fewer at the end of the file.
    fn bytes(&mut self, offset: u64, length: usize) -> Result<&[u8], Unread> {
        let inside = offset >= self.begin && offset + length as u64 <= self.begin + self.buffer.len() as u64;
        if !inside {
            self.buffer.resize(length.max(AHEAD), 0);
            let read = self.file.read_at(&mut self.buffer, offset);
            let path = &self.path;
            let read = read.map_err(|e| Unread::Failed(failed(&format!("reading {path}"), Path::new(path), &e)))?;
            self.buffer.truncate(read);
            self.begin = offset;
        }
        let at = ((offset - self.begin) as usize).min(self.buffer.len());
        Ok(&self.buffer[at..(at + length).min(self.buffer.len())])
    }

    /// A frame; its payload stays unread when it is void, or of another batch than the one wanted.
    fn read(&mut self, offset: u64, wanted: Option<Uuid>) -> Result<(FrameInfo, Vec<u8>), Unread> {
        let segment = self.segment;
        let info = FrameInfo::decode(self.bytes(offset, FRAME_HEADER)?, offset).ok_or(Unread::Damaged(segment))?;
        let payload = self.bytes(offset + FRAME_HEADER as u64, info.length)?;
        if !info.is_whole(segment, offset, payload) {
            return Err(Unread::Damaged(segment));
        }
        let skip = info.head.kind == KIND_VOID || wanted.is_some_and(|id| id != info.head.batch);
        let payload = if skip { Vec::new() } else { payload.to_vec() };
        if self.buffer.len() > AHEAD {
            // A long frame's buffer isn't kept.
            self.buffer = Vec::new();
        }
        Ok((info, payload))
    }
}

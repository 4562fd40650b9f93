//! One table's log: segments that are appended to at one end and drained at the other. Blocking I/O, and
//! no waiting for anybody: [`super::queue`] puts callers together and keeps this off the executor.

mod drain;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::Utc;
use uuid::Uuid;

use super::cursor::Cursor;
use super::failed;
use super::files::{Data, Files};
use super::finding::SpoolFinding;
use super::format::{FrameHead, KIND_VOID, Position, SEGMENT_HEADER, SegmentHeader, encode_frame, frame_span};
use super::open::Opened;
use crate::error::{Error, ErrorKind, Result};
use drain::Handed;

/// How far the cursor on disk may lag while there is more to drain: what is sent again meanwhile is known
/// to the ledger.
const CURSOR_LAG: Duration = Duration::from_millis(100);

/// A frame that is to be written.
#[derive(Debug, Clone)]
pub(crate) struct NewFrame {
    /// What it says of itself.
    pub(crate) head: FrameHead,
    /// Its bytes, at least one.
    pub(crate) payload: Vec<u8>,
}

impl NewFrame {
    /// A frame that is written now.
    pub(crate) fn new(batch: Uuid, kind: u8, version: u16, rows: u32, payload: Vec<u8>) -> Self {
        Self { head: FrameHead { batch, kind, version, rows, written_at: Utc::now().timestamp_micros() }, payload }
    }

    /// Bytes that it takes up on disk.
    pub(super) fn span(&self) -> u64 {
        frame_span(self.payload.len())
    }
}

/// A segment that isn't drained yet, or is being appended to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Segment {
    pub(super) number: u64,
    /// How far it is acknowledged.
    pub(super) end: u64,
    /// Records in it. Of the segment that is being drained those that are done may be counted or not.
    pub(super) rows: u64,
}

struct Active {
    file: Box<dyn Data>,
    capacity: u64,
}

/// What waits in a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Waiting {
    /// Records.
    pub(crate) rows: u64,
    /// Bytes of their frames.
    pub(crate) bytes: u64,
    /// When the oldest was handed over: microseconds since 1970.
    pub(crate) oldest_at: Option<i64>,
    /// The kind of the oldest frame.
    pub(crate) kind: Option<u8>,
    /// A bit for each kind of frame that waits, or did since the log was empty last.
    kinds: u64,
}

impl Waiting {
    /// A frame waits.
    pub(super) fn note_kind(&mut self, kind: u8) {
        if kind != KIND_VOID {
            self.kinds |= 1 << kind.min(63);
        }
    }

    /// Frames of another kind wait.
    pub(crate) fn has_other_than(&self, kind: u8) -> bool {
        self.kinds & !(1 << kind.min(63)) != 0
    }
}

pub(super) struct Log {
    pub(super) files: Arc<dyn Files>,
    pub(super) folder: PathBuf,
    pub(super) table: String,
    segment_bytes: u64,
    /// Oldest first.
    segments: VecDeque<Segment>,
    active: Option<Active>,
    next_number: u64,
    cursor: Cursor,
    moved_at: Option<Instant>,
    pub(super) cursor_lag: Duration,
    /// How far batches are done; the cursor on disk follows.
    drained: Position,
    /// The end of what was acknowledged.
    end: Position,
    /// Batches before this are complete.
    sealed: Position,
    open_batch: Option<Uuid>,
    last_sealed: Option<Uuid>,
    handed: VecDeque<Handed>,
    /// Batches before this may have been sent, by this process or one before it.
    sent: Position,
    waiting: Waiting,
}

/// The name of a segment's file.
pub(super) fn segment_name(number: u64) -> String {
    format!("{number:012}.seg")
}

impl Log {
    /// Opens a table's log, and puts right what a crash left.
    ///
    /// # Errors
    /// `Refused` when a newer program wrote it, `Disk` when the folder can't be read or written.
    pub(super) fn open(files: Arc<dyn Files>, folder: &Path, table: &str, segment_bytes: u64) -> Result<(Self, Vec<SpoolFinding>)> {
        let opened = Opened::open(&*files, folder, table)?;
        let last = opened.segments.back().map_or(0, |last| last.number);
        let drained = opened.cursor.at();
        let end = opened.segments.back().map_or(drained, |last| Position { segment: last.number, offset: last.end }).max(drained);
        let log = Self {
            files,
            folder: folder.to_owned(),
            table: table.to_owned(),
            segment_bytes,
            next_number: last.max(drained.segment) + 1,
            segments: opened.segments,
            active: None,
            cursor: opened.cursor,
            moved_at: None,
            cursor_lag: CURSOR_LAG,
            drained,
            end,
            sealed: end,
            open_batch: None,
            last_sealed: None,
            handed: VecDeque::new(),
            sent: end,
            waiting: opened.waiting,
        };
        Ok((log, opened.findings))
    }

    /// Puts frames on disk; the answers say of each whether it is there. Frames with one batch id follow one
    /// another: another id seals the batch before.
    pub(super) fn append(&mut self, frames: &[NewFrame]) -> Vec<Result<()>> {
        let mut answers = Vec::with_capacity(frames.len());
        while answers.len() < frames.len() {
            match self.append_some(&frames[answers.len()..]) {
                Ok(written) => answers.extend((0..written).map(|_| Ok(()))),
                Err(error) => {
                    let left = frames.len() - answers.len();
                    answers.extend((1..left).map(|_| Err(Error::new(error.kind(), error.to_string()))));
                    answers.push(Err(error));
                }
            }
        }
        answers
    }

    /// As many of these as go into one segment, at least one.
    fn append_some(&mut self, frames: &[NewFrame]) -> Result<usize> {
        let first = &frames[0];
        if self.last_sealed == Some(first.head.batch) {
            return Err(Error::new(ErrorKind::Conflict, format!("batch {} of {} is sealed", first.head.batch, self.table)));
        }
        self.make_room(first.span())?;
        let Some(active) = &self.active else { return Err(self.gone()) };
        let begin = self.end.offset;
        let (mut buffer, mut count, mut sealed) = (Vec::new(), 0, None);
        let (mut open, mut last_sealed) = (self.open_batch, self.last_sealed);
        for frame in frames {
            let at = Position { segment: self.end.segment, offset: begin + buffer.len() as u64 };
            if at.offset + frame.span() > active.capacity || last_sealed == Some(frame.head.batch) {
                break;
            }
            if open != Some(frame.head.batch) {
                last_sealed = open.or(last_sealed);
                open = Some(frame.head.batch);
                sealed = Some(at);
            }
            encode_frame(&mut buffer, at, begin, &frame.head, &frame.payload);
            count += 1;
        }
        if let Err(error) = active.file.write_at(&buffer, begin).and_then(|()| active.file.sync()) {
            // What the pages hold now is nobody's guess: this segment ends where it was acknowledged, and the
            // next one's header says so.
            if let Some(broken) = self.active.take() {
                let _ = broken.file.truncate(begin).and_then(|()| broken.file.sync());
            }
            return Err(failed(&format!("writing segment {} of {}", self.end.segment, self.table), &self.folder, &error));
        }
        if self.waiting.bytes == 0 {
            (self.waiting.oldest_at, self.waiting.kind) = (Some(first.head.written_at), Some(first.head.kind));
        }
        self.end.offset += buffer.len() as u64;
        let rows = frames[..count].iter().map(|frame| u64::from(frame.head.rows)).sum::<u64>();
        if let Some(last) = self.segments.back_mut() {
            (last.end, last.rows) = (self.end.offset, last.rows + rows);
        }
        self.waiting.bytes += buffer.len() as u64;
        self.waiting.rows += rows;
        frames[..count].iter().for_each(|frame| self.waiting.note_kind(frame.head.kind));
        (self.open_batch, self.last_sealed) = (open, last_sealed);
        self.sealed = sealed.unwrap_or(self.sealed);
        Ok(count)
    }

    /// No frame joins the last batch any more.
    pub(super) fn seal(&mut self) {
        self.last_sealed = self.open_batch.take().or(self.last_sealed);
        self.sealed = self.end;
    }

    fn gone(&self) -> Error {
        Error::new(ErrorKind::Disk, format!("{} has no segment to write to", self.table))
    }

    /// A segment with room for so many bytes, a new one if need be.
    fn make_room(&mut self, bytes: u64) -> Result<()> {
        if self.active.as_ref().is_some_and(|active| self.end.offset + bytes <= active.capacity) {
            return Ok(());
        }
        self.active = None;
        let number = self.next_number;
        let prior_end = self.segments.back().filter(|last| last.number + 1 == number).map(|last| last.end);
        let header = SegmentHeader { table: self.table.clone(), number, prior_end, created_at: Utc::now().timestamp_micros() };
        let path = self.folder.join(segment_name(number));
        let capacity = self.segment_bytes.max(SEGMENT_HEADER + bytes);
        let begin = || {
            let file = self.files.create(&path, capacity)?;
            file.write_at(&header.encode(), 0)?;
            file.sync()?;
            self.files.sync_folder(&self.folder)?;
            Ok(file)
        };
        let file = begin().map_err(|error: std::io::Error| {
            // Without a frame it is nothing; whoever opens the log removes it if this can't.
            let _ = self.files.unlink(&path);
            failed(&format!("beginning segment {number} of {}", self.table), &self.folder, &error)
        })?;
        self.active = Some(Active { file, capacity });
        self.next_number += 1;
        self.segments.push_back(Segment { number, end: SEGMENT_HEADER, rows: 0 });
        // What was complete stays so: the place between two segments is no frame's.
        let complete = self.sealed == self.end;
        self.end = Position { segment: number, offset: SEGMENT_HEADER };
        if complete {
            self.sealed = self.end;
        }
        self.release();
        Ok(())
    }

    /// What waits.
    pub(super) fn waiting(&self) -> Waiting {
        self.waiting
    }

    /// How far batches are done.
    pub(super) fn drained(&self) -> Position {
        self.drained
    }

    /// Where the last complete frame ends. An empty segment behind it counts for nothing.
    pub(super) fn complete_end(&self) -> Position {
        let last = self.segments.iter().rev().find(|s| s.end > SEGMENT_HEADER);
        last.map_or(self.drained, |s| Position { segment: s.number, offset: s.end }).max(self.drained)
    }

    /// How far batches are complete.
    pub(super) fn sealed(&self) -> Position {
        self.sealed
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.settle();
    }
}

//! One table's log: segments that are appended to at one end and drained at the other. Blocking I/O, and
//! no waiting for anybody: [`super::queue`] puts callers together and keeps this off the executor.

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
use super::format::{FRAME_HEADER, FrameHead, FrameInfo, Position, SEGMENT_HEADER, SegmentHeader, encode_frame, frame_span};
use super::mend::mend;
use super::open::Opened;
use crate::error::{Error, ErrorKind, Result};

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
}

struct Active {
    file: Box<dyn Data>,
    capacity: u64,
}

/// A batch that a reader has.
struct Handed {
    start: Position,
    end: Position,
    rows: u64,
    bytes: u64,
    done: bool,
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
        if let Some(last) = self.segments.back_mut() {
            last.end = self.end.offset;
        }
        self.waiting.bytes += buffer.len() as u64;
        self.waiting.rows += frames[..count].iter().map(|frame| u64::from(frame.head.rows)).sum::<u64>();
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
        self.segments.push_back(Segment { number, end: SEGMENT_HEADER });
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

    /// Where a reader begins that has nothing yet.
    pub(super) fn read_again(&mut self) -> Position {
        self.handed.clear();
        self.drained
    }

    /// Segments from a place on with the end of what is complete in each.
    pub(super) fn complete_from(&self, from: Position) -> Vec<Segment> {
        let all = self.segments.iter().filter(|s| s.number >= from.segment && s.number <= self.sealed.segment);
        all.map(|s| Segment { end: if s.number == self.sealed.segment { self.sealed.offset } else { s.end }, ..*s }).collect()
    }

    /// A reader has taken a batch. True when it, or a part of it, may have been sent before.
    pub(super) fn hand_out(&mut self, start: Position, end: Position, rows: u64, bytes: u64) -> bool {
        let sent = start < self.sent;
        self.sent = self.sent.max(end);
        let batch = Handed { start, end, rows, bytes, done: false };
        match self.handed.iter_mut().find(|handed| handed.start == start) {
            // It was read before by a reader that was given up.
            Some(handed) => *handed = batch,
            None => self.handed.push_back(batch),
        }
        sent
    }

    /// The database has the batch that begins here. The cursor moves once those before it are done too.
    pub(super) fn done(&mut self, start: Position) {
        if let Some(batch) = self.handed.iter_mut().find(|batch| batch.start == start) {
            batch.done = true;
        }
        let before = self.drained;
        while let Some(batch) = self.handed.pop_front_if(|batch| batch.done) {
            self.drained = batch.end;
            self.waiting.rows = self.waiting.rows.saturating_sub(batch.rows);
            self.waiting.bytes = self.waiting.bytes.saturating_sub(batch.bytes);
        }
        if self.drained == before {
            return;
        }
        let next = self.head_at(self.drained);
        (self.waiting.oldest_at, self.waiting.kind) = (next.map(|head| head.written_at), next.map(|head| head.kind));
        let more = self.drained < self.sealed;
        if !more || self.moved_at.is_none_or(|at| at.elapsed() >= self.cursor_lag) {
            self.settle();
        }
    }

    /// Puts the cursor on disk where it stands in memory, then lets go of segments before it.
    pub(super) fn settle(&mut self) {
        if self.cursor.at() == self.drained {
            return;
        }
        if let Err(error) = self.cursor.advance(self.drained) {
            tracing::error!(table = self.table, %error, "spool: the cursor can't be moved on disk; what is drained is kept, and sent again after a restart");
            return;
        }
        self.moved_at = Some(Instant::now());
        self.release();
    }

    /// Unlinks segments that lie behind the cursor on disk.
    fn release(&mut self) {
        let cursor = self.cursor.at();
        let mut any = false;
        while let Some(first) = self.segments.front().copied() {
            let active = self.active.is_some() && self.segments.len() == 1;
            let drained = first.number < cursor.segment || first.number == cursor.segment && first.end <= cursor.offset;
            if active || !drained {
                break;
            }
            let path = self.folder.join(segment_name(first.number));
            if let Err(error) = self.files.unlink(&path) {
                tracing::warn!(table = self.table, %error, "spool: {} is drained and can't be removed", path.display());
            }
            self.segments.pop_front();
            any = true;
        }
        if any && let Err(error) = self.files.sync_folder(&self.folder) {
            tracing::warn!(table = self.table, %error, "spool: {} can't be synced", self.folder.display());
        }
    }

    /// The frame that begins at a place, or at the next segment's beginning.
    fn head_at(&self, at: Position) -> Option<FrameHead> {
        let segment = self.segments.iter().find(|s| s.number > at.segment || s.number == at.segment && s.end > at.offset)?;
        let offset = if segment.number == at.segment { at.offset } else { SEGMENT_HEADER };
        if offset >= segment.end {
            return None;
        }
        let file = self.files.open(&self.folder.join(segment_name(segment.number)), false).ok()?;
        let mut bytes = [0; FRAME_HEADER];
        let read = file.read_at(&mut bytes, offset).ok()?;
        FrameInfo::decode(&bytes[..read], offset).map(|info| info.head)
    }

    /// A reader found a segment damaged: what can be read of it is put in its place.
    ///
    /// # Errors
    /// `Disk` when that can't be written.
    pub(super) fn mend(&mut self, number: u64) -> Result<Vec<SpoolFinding>> {
        let Some(segment) = self.segments.iter().find(|s| s.number == number).copied() else { return Ok(Vec::new()) };
        if number == self.end.segment {
            self.active = None;
        }
        // After a restart the cursor on disk is what counts.
        let cursor = self.cursor.at();
        let from = Position { segment: number, offset: if number == cursor.segment { cursor.offset } else { SEGMENT_HEADER } };
        let mended = mend(&*self.files, &self.folder, &self.table, from, Some(segment.end))?;
        mended.findings.iter().for_each(SpoolFinding::tell);
        Ok(mended.findings)
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.settle();
    }
}

//! The end of a log that is drained.

use std::time::Instant;

use super::{Log, Segment, Waiting, segment_name};
use crate::error::Result;
use crate::spool::finding::SpoolFinding;
use crate::spool::format::{FRAME_HEADER, FrameHead, FrameInfo, KIND_VOID, Position, SEGMENT_HEADER};
use crate::spool::mend::mend;

/// A batch that a reader has.
pub(super) struct Handed {
    start: Position,
    end: Position,
    rows: u64,
    bytes: u64,
    done: bool,
}

impl Log {
    /// Where a reader begins that has nothing yet.
    pub(in crate::spool) fn read_again(&mut self) -> Position {
        self.handed.clear();
        self.drained
    }

    /// Segments from a place on with the end of what is complete in each.
    pub(in crate::spool) fn complete_from(&self, from: Position) -> Vec<Segment> {
        let all = self.segments.iter().filter(|s| s.number >= from.segment && s.number <= self.sealed.segment);
        all.map(|s| Segment { end: if s.number == self.sealed.segment { self.sealed.offset } else { s.end }, ..*s }).collect()
    }

    /// A reader has taken a batch. True when it, or a part of it, may have been sent before.
    pub(in crate::spool) fn hand_out(&mut self, start: Position, end: Position, rows: u64, bytes: u64) -> bool {
        let sent = start < self.sent;
        self.sent = self.sent.max(end);
        let batch = Handed { start, end, rows, bytes, done: false };
        let at = self.handed.partition_point(|handed| handed.start < start);
        match self.handed.get_mut(at).filter(|handed| handed.start == start) {
            // It was read before, by a reading that was given up.
            Some(handed) => *handed = batch,
            None => self.handed.insert(at, batch),
        }
        sent
    }

    /// The database has the batch that begins here. The cursor moves once those before it are done too.
    pub(in crate::spool) fn done(&mut self, start: Position) {
        if let Some(batch) = self.handed.iter_mut().find(|batch| batch.start == start) {
            batch.done = true;
        }
        let before = self.drained;
        while let Some(batch) = self.handed.pop_front_if(|batch| batch.done) {
            self.drained = self.drained.max(batch.end);
            self.waiting.rows = self.waiting.rows.saturating_sub(batch.rows);
            self.waiting.bytes = self.waiting.bytes.saturating_sub(batch.bytes);
        }
        if self.drained == before {
            return;
        }
        if self.waiting.bytes == 0 {
            self.waiting = Waiting::default();
        }
        let next = self.head_at(self.drained);
        (self.waiting.oldest_at, self.waiting.kind) = (next.map(|head| head.written_at), next.map(|head| head.kind));
        let more = self.drained < self.sealed;
        if !more || self.moved_at.is_none_or(|at| at.elapsed() >= self.cursor_lag) {
            self.settle();
        }
    }

    /// Puts the cursor on disk where it stands in memory, then lets go of segments before it.
    pub(in crate::spool) fn settle(&mut self) {
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
    pub(super) fn release(&mut self) {
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

    /// The first frame that holds something from a place on.
    fn head_at(&self, at: Position) -> Option<FrameHead> {
        for segment in self.segments.iter().filter(|s| s.number >= at.segment) {
            let mut offset = if segment.number == at.segment { at.offset.max(SEGMENT_HEADER) } else { SEGMENT_HEADER };
            if offset >= segment.end {
                continue;
            }
            let file = self.files.open(&self.folder.join(segment_name(segment.number)), false).ok()?;
            while offset < segment.end {
                let mut bytes = [0; FRAME_HEADER];
                let read = file.read_at(&mut bytes, offset).ok()?;
                let info = FrameInfo::decode(&bytes[..read], offset)?;
                if info.head.kind != KIND_VOID {
                    return Some(info.head);
                }
                offset += info.span();
            }
        }
        None
    }

    /// A reader found a segment damaged: what can be read of it is put in its place.
    ///
    /// # Errors
    /// `Disk` when that can't be written.
    pub(in crate::spool) fn mend(&mut self, number: u64) -> Result<Vec<SpoolFinding>> {
        let Some(segment) = self.segments.iter().find(|s| s.number == number).copied() else { return Ok(Vec::new()) };
        if number == self.end.segment {
            self.active = None;
        }
        // After a restart the cursor on disk is what counts.
        let cursor = self.cursor.at();
        let from = Position { segment: number, offset: if number == cursor.segment { cursor.offset } else { SEGMENT_HEADER } };
        let mended = mend(&*self.files, &self.folder, &self.table, from, Some(segment.end))?;
        mended.findings.iter().for_each(SpoolFinding::tell);
        // What is lost waits no more.
        let rows = |from: u64| mended.scan.frames.iter().filter(|(at, _)| *at >= from).map(|(_, info)| u64::from(info.head.rows)).sum();
        let (waited, left): (u64, u64) = if number > self.drained.segment {
            (segment.rows, rows(SEGMENT_HEADER))
        } else {
            let behind: u64 = self.segments.iter().filter(|s| s.number > number).map(|s| s.rows).sum();
            (self.waiting.rows.saturating_sub(behind), rows(self.drained.offset))
        };
        self.waiting.rows = self.waiting.rows.saturating_sub(waited.saturating_sub(left));
        if let Some(segment) = self.segments.iter_mut().find(|s| s.number == number) {
            segment.rows = left;
        }
        Ok(mended.findings)
    }
}

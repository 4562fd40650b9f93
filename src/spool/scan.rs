//! Reads a segment through and says what is whole in it, and what is not.

use std::ops::Range;

use super::format::{FRAME_HEADER, FrameInfo, Position, frame_span};

/// What stands in a segment from some place on.
#[derive(Debug, Default)]
pub(super) struct Scan {
    /// Every whole frame with its place.
    pub(super) frames: Vec<(u64, FrameInfo)>,
    /// Bytes that hold no frame although one was written there and acknowledged.
    pub(super) lost: Vec<Range<u64>>,
    /// Bytes of writes that were never acknowledged and did not get to the disk whole.
    pub(super) torn: Vec<Range<u64>>,
    /// Where the next frame would begin.
    pub(super) end: u64,
}

impl Scan {
    /// Bytes of writes that did not get there whole.
    pub(super) fn torn_bytes(&self) -> u64 {
        self.torn.iter().map(|torn| torn.end - torn.start).sum()
    }

    /// Something must be put right before the segment can be used.
    pub(super) fn is_whole(&self) -> bool {
        self.lost.is_empty() && self.torn.is_empty()
    }
}

/// What is at a place.
enum Found {
    Frame(FrameInfo),
    /// Zeros to the end of the header: nothing was written here.
    Nothing,
    Bad,
}

fn frame_at(bytes: &[u8], segment: u64, offset: u64) -> Found {
    let rest = &bytes[(offset as usize).min(bytes.len())..];
    let head = &rest[..rest.len().min(FRAME_HEADER)];
    if head.iter().all(|b| *b == 0) {
        return Found::Nothing;
    }
    match FrameInfo::decode(rest, offset) {
        Some(info) => match rest.get(FRAME_HEADER..FRAME_HEADER + info.length) {
            Some(payload) if info.is_whole(segment, offset, payload) => Found::Frame(info),
            _ => Found::Bad,
        },
        None => Found::Bad,
    }
}

/// The next place from here on where a whole frame begins.
fn next_frame(bytes: &[u8], segment: u64, from: u64) -> Option<u64> {
    let mut at = from;
    while (at as usize) + FRAME_HEADER <= bytes.len() {
        if let Found::Frame(_) = frame_at(bytes, segment, at) {
            return Some(at);
        }
        at += super::format::ALIGN as u64;
    }
    None
}

/// Reads a segment's bytes from a frame's beginning on. `acknowledged` is how far it was acknowledged,
/// where the segment behind it says so; the last segment of a log has none behind it.
pub(super) fn scan(bytes: &[u8], from: Position, acknowledged: Option<u64>) -> Scan {
    let mut scan = Scan { end: from.offset, ..Scan::default() };
    // What lies behind was answered with an error.
    let bytes = &bytes[..acknowledged.map_or(bytes.len(), |end| (end as usize).min(bytes.len()))];
    let mut holes: Vec<Range<u64>> = Vec::new();
    let mut at = from.offset;
    loop {
        match frame_at(bytes, from.segment, at) {
            Found::Frame(info) => {
                scan.frames.push((at, info));
                at += info.span();
                scan.end = at;
            }
            found => {
                let blank = matches!(found, Found::Nothing) && bytes.get(at as usize..).is_none_or(|rest| rest.iter().all(|b| *b == 0));
                let next = if blank { None } else { next_frame(bytes, from.segment, at + frame_span(1)) };
                if let Some(next) = next {
                    holes.push(at..next);
                    at = next;
                    continue;
                }
                match acknowledged {
                    Some(end) if at < end => {
                        scan.lost.push(at..end);
                        scan.end = end;
                    }
                    None if !blank => {
                        let written = bytes.iter().rposition(|b| *b != 0).map_or(at, |last| last as u64 + 1);
                        scan.torn.push(at..written.max(at));
                    }
                    _ => {}
                }
                break;
            }
        }
    }
    // A frame tells how far everything was synced when it was written.
    let synced = acknowledged.unwrap_or_else(|| scan.frames.iter().map(|(_, info)| info.group).max().unwrap_or(0));
    for hole in holes {
        if hole.start < synced { scan.lost.push(hole) } else { scan.torn.push(hole) }
    }
    scan.lost.sort_by_key(|hole| hole.start);
    scan.torn.sort_by_key(|hole| hole.start);
    scan
}

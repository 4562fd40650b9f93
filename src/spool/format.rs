//! The bytes on disk: a segment's header and its frames. `docs/spool.md` shows them byte for byte.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::error::{Error, ErrorKind, Result};

/// What a segment begins with.
pub(super) const MAGIC: &[u8; 8] = b"HITHSPOL";
/// The version of segments that this program writes, and the newest that it reads.
pub(super) const FORMAT_VERSION: u32 = 1;
/// Bytes of a segment's header.
pub(super) const SEGMENT_HEADER: u64 = 112;
/// Bytes of a frame before its payload.
pub(super) const FRAME_HEADER: usize = 48;
/// Frames begin at multiples of this.
pub(super) const ALIGN: usize = 8;
/// The longest payload.
pub(crate) const MAX_PAYLOAD: usize = 256 << 20;
/// The longest table name.
const MAX_TABLE: usize = 63;

/// The kind of a frame that stands where bytes were lost.
pub(crate) const KIND_VOID: u8 = 0;
/// The kind of the writer's frames: records as NDJSON.
pub(crate) const KIND_RECORDS: u8 = 1;
/// The kind of the frames of `hitherto ingest`: lines as they came.
#[cfg(feature = "cli")]
pub(crate) const KIND_LINES: u8 = 2;

/// A place in a table's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Position {
    /// The segment's number.
    pub(crate) segment: u64,
    /// Bytes from its beginning.
    pub(crate) offset: u64,
}

/// What stands at the beginning of a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub(super) table: String,
    pub(super) number: u64,
    /// How far the segment before was acknowledged when this one was begun, if that is known. What stands
    /// behind that in it was never acknowledged.
    pub(super) prior_end: Option<u64>,
    pub(super) created_at: i64,
}

impl SegmentHeader {
    pub(super) fn encode(&self) -> [u8; SEGMENT_HEADER as usize] {
        let mut bytes = [0; SEGMENT_HEADER as usize];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.number.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.prior_end.unwrap_or(0).to_le_bytes());
        bytes[32..40].copy_from_slice(&self.created_at.to_le_bytes());
        let name = &self.table.as_bytes()[..self.table.len().min(MAX_TABLE)];
        bytes[40] = name.len() as u8;
        bytes[41..41 + name.len()].copy_from_slice(name);
        let crc = crc32c::crc32c(&bytes[..104]);
        bytes[104..108].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// `None` when these are not the bytes of a header.
    ///
    /// # Errors
    /// `Refused` when a newer program wrote it.
    pub(super) fn decode(bytes: &[u8]) -> Result<Option<Self>> {
        let Some(bytes) = bytes.get(..SEGMENT_HEADER as usize) else { return Ok(None) };
        if &bytes[..8] != MAGIC || crc32c::crc32c(&bytes[..104]) != u32_at(bytes, 104) {
            return Ok(None);
        }
        let version = u32_at(bytes, 8);
        if version > FORMAT_VERSION {
            return Err(Error::new(
                ErrorKind::Refused,
                format!("it has format version {version}, and this program knows up to {FORMAT_VERSION}; use the newer program"),
            ));
        }
        let name = bytes[41..104].get(..usize::from(bytes[40])).unwrap_or_default();
        Ok(Some(Self {
            table: String::from_utf8_lossy(name).into_owned(),
            number: u64_at(bytes, 16),
            prior_end: Some(u64_at(bytes, 24)).filter(|end| *end > 0),
            created_at: u64_at(bytes, 32) as i64,
        }))
    }
}

/// What a frame says of its payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FrameHead {
    /// The batch that the payload is part of.
    pub(crate) batch: Uuid,
    /// What the payload is: one of the `KIND_` numbers.
    pub(crate) kind: u8,
    /// The version of what is in it, as whoever wrote it counts.
    pub(crate) version: u16,
    /// Records in it.
    pub(crate) rows: u32,
    /// When it was handed over: microseconds since 1970.
    pub(crate) written_at: i64,
}

impl FrameHead {
    /// When it was handed over.
    pub(crate) fn time(&self) -> Option<DateTime<Utc>> {
        DateTime::from_timestamp_micros(self.written_at)
    }
}

/// A frame with its place, its payload left where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FrameInfo {
    pub(super) head: FrameHead,
    /// Bytes of the payload.
    pub(super) length: usize,
    /// Where the first frame of the write that it was part of begins. Everything before had been synced.
    pub(super) group: u64,
    crc: u32,
}

impl FrameInfo {
    /// Bytes that the frame takes up in its segment.
    pub(super) fn span(&self) -> u64 {
        frame_span(self.length)
    }

    /// Reads a frame's header. `None` when it can't be one at this place.
    pub(super) fn decode(bytes: &[u8], offset: u64) -> Option<Self> {
        let bytes = bytes.get(..FRAME_HEADER)?;
        let info = Self {
            head: FrameHead {
                batch: Uuid::from_bytes(bytes[8..24].try_into().ok()?),
                version: u16::from_le_bytes([bytes[24], bytes[25]]),
                kind: bytes[26],
                rows: u32_at(bytes, 28),
                written_at: u64_at(bytes, 32) as i64,
            },
            length: u32_at(bytes, 0) as usize,
            group: u64_at(bytes, 40),
            crc: u32_at(bytes, 4),
        };
        let possible = (1..=MAX_PAYLOAD).contains(&info.length) && bytes[27] == 0 && info.group >= SEGMENT_HEADER && info.group <= offset;
        possible.then_some(info)
    }

    /// Whether header and payload are as they were written, at this very place.
    pub(super) fn is_whole(&self, segment: u64, offset: u64, payload: &[u8]) -> bool {
        payload.len() == self.length && self.crc == frame_crc(segment, offset, &self.bytes_after_crc(), payload)
    }

    fn bytes_after_crc(&self) -> [u8; FRAME_HEADER - 8] {
        let mut bytes = [0; FRAME_HEADER - 8];
        bytes[..16].copy_from_slice(self.head.batch.as_bytes());
        bytes[16..18].copy_from_slice(&self.head.version.to_le_bytes());
        bytes[18] = self.head.kind;
        bytes[20..24].copy_from_slice(&self.head.rows.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.head.written_at.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.group.to_le_bytes());
        bytes
    }
}

/// Bytes that a frame with a payload of this length takes up.
pub(super) fn frame_span(payload: usize) -> u64 {
    (FRAME_HEADER + payload).next_multiple_of(ALIGN) as u64
}

/// Appends a frame that will stand at `at`.
pub(super) fn encode_frame(to: &mut Vec<u8>, at: Position, group: u64, head: &FrameHead, payload: &[u8]) {
    let info = FrameInfo { head: *head, length: payload.len(), group, crc: 0 };
    let rest = info.bytes_after_crc();
    let crc = frame_crc(at.segment, at.offset, &rest, payload);
    let begin = to.len();
    to.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    to.extend_from_slice(&crc.to_le_bytes());
    to.extend_from_slice(&rest);
    to.extend_from_slice(payload);
    to.resize(begin + frame_span(payload.len()) as usize, 0);
}

/// Covers the place too: bytes that look like a frame but were not written as one, there, are none.
fn frame_crc(segment: u64, offset: u64, rest: &[u8], payload: &[u8]) -> u32 {
    let crc = crc32c::crc32c(&segment.to_le_bytes());
    let crc = crc32c::crc32c_append(crc, &offset.to_le_bytes());
    let crc = crc32c::crc32c_append(crc, &(payload.len() as u32).to_le_bytes());
    let crc = crc32c::crc32c_append(crc, rest);
    crc32c::crc32c_append(crc, payload)
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(std::array::from_fn(|n| bytes[at + n]))
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(std::array::from_fn(|n| bytes[at + n]))
}

//! Lines as they wait in a spool.
//!
//! A frame holds one piece: a line of JSON that says what the lines follow, then every line with a sign
//! before it: `+` for one that is a record, `-` for one that was refused when it was read and only counts
//! for the names of places. What is stored later is what was taken then, whatever the clock says.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::chain::{Chain, Key, RecordIds};
use super::parse;
use super::piece::Piece;
use crate::error::{Error, ErrorKind, Result};
use crate::records::Record;
use crate::spool::{KIND_LINES, NewFrame, SpooledFrame};

/// The version of what is in a frame.
const VERSION: u16 = 1;

/// A frame's first line.
#[derive(Debug, Serialize, Deserialize)]
struct Head {
    producer: String,
    /// The place before the first line.
    before: Chain,
    /// The cell.
    key: Key,
    /// Lines of the cell before.
    from: usize,
    /// The cell ends with the last line.
    closes: bool,
}

/// A piece as a frame of its own batch: what stands in the ledger later is named by the lines, not by the frame.
pub(super) fn write<R>(piece: &Piece<R>, producer: &str) -> Result<NewFrame> {
    let head = Head { producer: producer.to_owned(), before: piece.before, key: piece.key, from: piece.from, closes: piece.closes };
    let mut payload = serde_json::to_vec(&head).map_err(|e| Error::new(ErrorKind::Config, format!("writing a frame: {e}")))?;
    payload.push(b'\n');
    payload.extend_from_slice(&piece.raw);
    Ok(NewFrame::new(Uuid::now_v7(), KIND_LINES, VERSION, u32::try_from(piece.rows.len()).unwrap_or(u32::MAX), payload))
}

/// A line as it stands in a frame.
pub(super) fn note(raw: &mut Vec<u8>, line: &[u8], good: bool) {
    raw.push(if good { b'+' } else { b'-' });
    raw.extend_from_slice(line);
    raw.push(b'\n');
}

/// A frame that was read back.
pub(super) struct Read<R> {
    pub(super) producer: String,
    pub(super) piece: Piece<R>,
    /// Records that this program can't read, and why.
    pub(super) bad: Vec<u8>,
    pub(super) reason: String,
}

/// # Errors
/// `Refused` when it is no frame of lines, or a newer program wrote it.
pub(super) fn read<R: Record>(frame: &SpooledFrame) -> Result<Read<R>> {
    let refused = |what: &str| Error::new(ErrorKind::Refused, format!("the spool of {} holds {what}", R::TABLE));
    if frame.head.kind != KIND_LINES {
        return Err(refused("no lines but a writer's records; put them in with hitherto spool replay, or name another folder"));
    }
    if frame.head.version > VERSION {
        return Err(refused("lines that a newer program wrote; use the newer program"));
    }
    let mut lines = frame.payload.split(|b| *b == b'\n');
    let head: Head =
        serde_json::from_slice(lines.next().unwrap_or_default()).map_err(|e| refused(&format!("a frame that can't be read: {e}")))?;
    let mut piece = Piece::new(head.key, head.before, head.from, frame.head.rows as usize);
    let (mut bad, mut reason) = (Vec::new(), String::new());
    piece.closes = head.closes;
    let (ids, mut chain) = (RecordIds::of(R::TABLE), head.before);
    for line in lines {
        let Some((sign, line)) = line.split_first() else { continue };
        chain = chain.link(line);
        let place = piece.to();
        piece.ends.push(chain);
        if *sign == b'-' {
            continue;
        }
        match parse::record::<R>(line, true, &ids) {
            Ok(record) => {
                piece.rows.push(record);
                piece.places.push(place);
            }
            Err(why) => {
                bad.extend_from_slice(line);
                bad.push(b'\n');
                reason = why;
            }
        }
    }
    if piece.ends.is_empty() {
        return Err(refused("a frame without lines"));
    }
    Ok(Read { producer: head.producer, piece, bad, reason })
}

/// The records in a frame, as lines that can be ingested.
pub(super) fn lines(frame: &SpooledFrame) -> Vec<u8> {
    let good = frame.payload.split_inclusive(|b| *b == b'\n').filter_map(|line| line.strip_prefix(b"+"));
    good.flatten().copied().collect()
}

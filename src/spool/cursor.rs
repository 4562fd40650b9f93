//! How far a table's log is drained. Two slots in one file are written in turn, so that a torn write
//! spoils the older one at most, and a full disk can't keep the cursor from moving.

use std::io;
use std::path::Path;

use super::files::{Data, Files, read_all};
use super::format::{Position, u32_at, u64_at};

const MAGIC: &[u8; 8] = b"HITHCURS";
const VERSION: u32 = 1;
/// Slots lie in blocks of their own.
const SLOT: u64 = 4096;
const SLOT_BYTES: usize = 40;

/// The open cursor.
pub(super) struct Cursor {
    file: Box<dyn Data>,
    sequence: u64,
    at: Position,
}

/// What a cursor's file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reading {
    /// Nothing was drained yet.
    New,
    At {
        sequence: u64,
        position: Position,
    },
    /// It can't be read: draining begins at the beginning, and the ledger knows what it has. Without any
    /// segment it is a cursor that was being made.
    Damaged,
}

impl Cursor {
    pub(super) fn open(files: &dyn Files, path: &Path) -> io::Result<(Self, Reading)> {
        let file = match files.open(path, true) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => files.create(path, 2 * SLOT)?,
            Err(error) => return Err(error),
        };
        let reading = read(&read_all(&*file)?);
        let (sequence, at) = match reading {
            Reading::At { sequence, position } => (sequence, position),
            _ => (0, Position::default()),
        };
        if sequence == 0 {
            // From the first move on there is a slot that is whole.
            file.write_at(&encode(0, at), 0)?;
            file.sync()?;
            path.parent().map_or(Ok(()), |folder| files.sync_folder(folder))?;
        }
        Ok((Self { file, sequence, at }, reading))
    }

    pub(super) fn at(&self) -> Position {
        self.at
    }

    /// Moves the cursor; it has moved when this returns without an error.
    pub(super) fn advance(&mut self, to: Position) -> io::Result<()> {
        let sequence = self.sequence + 1;
        self.file.write_at(&encode(sequence, to), sequence % 2 * SLOT)?;
        // The same slot again after a failure: what could not be synced is written anew.
        self.file.sync()?;
        (self.sequence, self.at) = (sequence, to);
        Ok(())
    }
}

fn encode(sequence: u64, at: Position) -> [u8; SLOT_BYTES] {
    let mut bytes = [0; SLOT_BYTES];
    bytes[..8].copy_from_slice(MAGIC);
    bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
    bytes[16..24].copy_from_slice(&sequence.to_le_bytes());
    bytes[24..32].copy_from_slice(&at.segment.to_le_bytes());
    bytes[32..40].copy_from_slice(&at.offset.to_le_bytes());
    let crc = crc32c::crc32c(&bytes);
    bytes[12..16].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// Reads the newer of the slots that are whole.
pub(super) fn read(bytes: &[u8]) -> Reading {
    let slot = |at: usize| {
        let slot = bytes.get(at..at + SLOT_BYTES)?;
        let (sequence, position) = (u64_at(slot, 16), Position { segment: u64_at(slot, 24), offset: u64_at(slot, 32) });
        (u32_at(slot, 8) == VERSION && encode(sequence, position) == slot).then_some((sequence, position))
    };
    match [0, SLOT as usize].into_iter().filter_map(slot).max() {
        Some((sequence, position)) => Reading::At { sequence, position },
        None if bytes.iter().all(|b| *b == 0) => Reading::New,
        None => Reading::Damaged,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torn_slot_leaves_the_one_before() {
        let mut bytes = vec![0; 2 * SLOT as usize];
        assert_eq!(read(&bytes), Reading::New);
        assert_eq!(read(&[]), Reading::New);
        let (one, two) = (Position { segment: 1, offset: 112 }, Position { segment: 2, offset: 4000 });
        bytes[SLOT as usize..][..SLOT_BYTES].copy_from_slice(&encode(1, one));
        bytes[..SLOT_BYTES].copy_from_slice(&encode(2, two));
        assert_eq!(read(&bytes), Reading::At { sequence: 2, position: two });
        for torn in 0..SLOT_BYTES {
            let mut bytes = bytes.clone();
            bytes[torn] ^= 0x40;
            assert_eq!(read(&bytes), Reading::At { sequence: 1, position: one }, "byte {torn}");
            bytes[SLOT as usize + torn] ^= 1;
            assert_eq!(read(&bytes), Reading::Damaged, "byte {torn}");
        }
    }
}

//! Names for places in a stream, derived from everything before them.
//!
//! A stream is cut into cells by its lines alone: one that is read again, from a file or from a pipe, has
//! the same cells. A batch never reaches over the end of a cell. Its id holds a key that is known with the
//! cell's first line, the place of the batch's last line in the cell, and a check of all lines up to there:
//! so that whoever begins a cell finds every batch that was stored of it, wherever those were cut.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// Lines in a cell. The cut is part of what a batch's id is derived from: it never changes.
pub(super) const CELL_LINES: usize = 10_000;
/// Bytes of lines in a cell; part of the cut as well.
pub(super) const CELL_BYTES: usize = 4 << 20;

/// A running digest over all lines so far: names a place in a stream by everything before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Chain([u8; 32]);

impl Chain {
    /// Before the first line.
    pub(super) fn start(table: &str) -> Self {
        Self(Sha256::digest(format!("hitherto ingest 1 {table}")).into())
    }

    /// After one more line.
    pub(super) fn link(&self, line: &[u8]) -> Self {
        let mut sha = Sha256::new();
        sha.update(self.0);
        sha.update(line);
        Self(sha.finalize().into())
    }

    /// The id of a batch that ends here, as it was before batches could be cut by age. A UUID of version 8:
    /// of our own making, by RFC 9562.
    pub(super) fn early_id(&self) -> Uuid {
        uuid(self.0[..16].try_into().expect("a digest has 32 bytes"))
    }

    /// What tells this place from others of the same number in the same cell.
    fn check(&self) -> [u8; 6] {
        self.0[24..30].try_into().expect("a digest has 32 bytes")
    }
}

/// Derives ids for records that have none.
pub(super) struct RecordIds(Chain);

impl RecordIds {
    pub(super) fn of(table: &str) -> Self {
        Self(Chain(Sha256::digest(table).into()))
    }

    pub(super) fn id(&self, text: &str) -> String {
        self.0.link(text.as_bytes()).early_id().to_string()
    }
}

/// Names a cell: by its first line and everything before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Key([u8; 8]);

/// The bits of an id that say where in the cell the batch ends. 10,000 lines need 14 bits.
const PLACE_BITS: u32 = 14;

impl Key {
    /// Of the cell whose first line ends at this place.
    pub(super) fn of(first: &Chain) -> Self {
        Self(first.0[16..24].try_into().expect("a digest has 32 bytes"))
    }

    /// The id of a batch of this cell that ends with the cell's `place`-th line.
    pub(super) fn id(&self, place: usize, end: &Chain) -> Uuid {
        self.with(place, end.check())
    }

    /// The least and the greatest id that a batch of this cell can have.
    pub(super) fn range(&self) -> (Uuid, Uuid) {
        (self.with(0, [0; 6]), self.with((1 << PLACE_BITS) - 1, [0xff; 6]))
    }

    fn with(&self, place: usize, check: [u8; 6]) -> Uuid {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.0);
        // The variant's two bits stand before the place's fourteen.
        bytes[8..10].copy_from_slice(&(place as u16).to_be_bytes());
        bytes[10..].copy_from_slice(&check);
        uuid(bytes)
    }
}

fn uuid(bytes: [u8; 16]) -> Uuid {
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}

/// Where a batch of a cell ends, as its id says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct End {
    /// Lines of the cell up to there.
    pub(super) place: usize,
    check: [u8; 6],
}

impl End {
    pub(super) fn of(id: Uuid) -> Self {
        let bytes = id.as_bytes();
        let place = u16::from_be_bytes([bytes[8], bytes[9]]) & ((1 << PLACE_BITS) - 1);
        Self { place: usize::from(place), check: bytes[10..].try_into().expect("a UUID has 16 bytes") }
    }

    /// The lines up to this place are those that were stored.
    pub(super) fn is(&self, end: &Chain) -> bool {
        self.check == end.check()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_says_where_its_batch_ends() {
        let mut chain = Chain::start("health_check").link(b"first");
        let key = Key::of(&chain);
        let (least, greatest) = key.range();
        let mut before = least;
        for place in 1..=CELL_LINES {
            let id = key.id(place, &chain);
            assert!(before < id && id < greatest && id.get_version_num() == 8, "{place}");
            assert!(End::of(id).place == place && End::of(id).is(&chain));
            assert!(!End::of(id).is(&chain.link(b"another")));
            (before, chain) = (id, chain.link(b"line"));
        }
        assert!(!(least..=greatest).contains(&Chain::start("health_check").link(b"first").early_id()));
    }

    #[test]
    fn early_ids_stay_what_they_are() {
        // The ledgers of earlier programs hold them.
        let end = Chain::start("health_check").link(b"{}").link(b"null");
        assert_eq!(end.early_id().to_string(), "7349eac7-1cea-881c-ad6a-8be75849e931");
    }
}

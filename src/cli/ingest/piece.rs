//! Lines that are taken care of together.

use super::chain::{Chain, Key};

/// Consecutive lines of one cell.
pub(super) struct Piece<R> {
    pub(super) key: Key,
    /// The place before the first line.
    pub(super) before: Chain,
    /// Lines of the cell before this piece.
    pub(super) from: usize,
    /// The place behind each line.
    pub(super) ends: Vec<Chain>,
    /// The good lines, and where each stands in the cell, counted from 0.
    pub(super) rows: Vec<R>,
    pub(super) places: Vec<usize>,
    /// Lines that look good and that an earlier run refused.
    pub(super) refused_before: Vec<(usize, Mark)>,
    pub(super) refused: Vec<Refused>,
    /// The cell ends with it.
    pub(super) closes: bool,
    /// The lines as they stand in a spool, if they are to go there.
    pub(super) raw: Vec<u8>,
}

/// A line by number and digest of its text.
pub(super) type Mark = (u64, u64);

/// A line that is not taken.
pub(super) struct Refused {
    pub(super) number: u64,
    pub(super) reason: String,
    pub(super) text: String,
}

impl<R> Piece<R> {
    pub(super) fn new(key: Key, before: Chain, from: usize, lines: usize) -> Self {
        Self {
            key,
            before,
            from,
            ends: Vec::with_capacity(lines),
            rows: Vec::with_capacity(lines),
            places: Vec::with_capacity(lines),
            refused_before: Vec::new(),
            refused: Vec::new(),
            closes: false,
            raw: Vec::new(),
        }
    }

    /// Lines of the cell up to the end of this piece.
    pub(super) fn to(&self) -> usize {
        self.from + self.ends.len()
    }

    /// The place behind the last line; a piece has one at least.
    pub(super) fn end(&self) -> &Chain {
        &self.ends[self.ends.len() - 1]
    }

    /// Puts the piece that follows behind this one.
    pub(super) fn join(&mut self, next: Self) {
        self.ends.extend(next.ends);
        self.rows.extend(next.rows);
        self.places.extend(next.places);
        self.refused_before.extend(next.refused_before);
        self.refused.extend(next.refused);
        self.closes = next.closes;
    }

    /// Leaves out rows of lines before this place in the cell.
    pub(super) fn skip(&mut self, place: usize) {
        let first = self.places.partition_point(|at| *at < place);
        self.places.drain(..first);
        self.rows.drain(..first);
    }
}

//! What became of some rows of a batch.

use tokio_postgres::error::SqlState;

use super::batch::Stored;
use super::digest::Digests;
use crate::error::Error;

/// Rows stored, rows refused, and the digests of all.
#[derive(Default)]
pub(super) struct Part {
    pub(super) stored: u64,
    pub(super) refused: Vec<Refused>,
    pub(super) digests: Digests,
}

impl Part {
    pub(super) fn append(&mut self, mut other: Self) {
        self.stored += other.stored;
        self.refused.append(&mut other.refused);
        self.digests.append(other.digests);
    }
}

/// What became of a batch, and which of its rows went to quarantine.
pub(crate) struct Outcome {
    pub(crate) stored: Stored,
    pub(super) refused: Vec<Refused>,
}

/// A row that goes to quarantine.
pub(super) struct Refused {
    /// Its place in the batch.
    pub(super) place: usize,
    pub(super) sqlstate: String,
    pub(super) reason: String,
}

impl Refused {
    pub(super) fn by(place: usize, error: &Error) -> Self {
        Self { place, sqlstate: error.sqlstate().unwrap_or_default().to_owned(), reason: error.to_string() }
    }

    /// The id stands with other content.
    pub(super) fn id_taken(place: usize, stands: &str) -> Self {
        let reason = format!("its id stands with other content, which stays: {stands}");
        Self { place, sqlstate: SqlState::UNIQUE_VIOLATION.code().to_owned(), reason }
    }
}

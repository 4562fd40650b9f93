//! What the ledger holds of a batch's content: SHA-256 of the sorted SHA-256 digests of its rows'
//! canonical bytes. Whoever has the rows, in whatever order, can compute it again.

use chrono::{DateTime, Utc};
use sha2::{Digest, Sha256};

use super::batch::Batch;
use super::copy_body::CopyBody;
use super::encode::CanonicalRow;
use super::send::batch_id;
use crate::records::Record;

/// SHA-256 of a row's canonical bytes.
pub(crate) type RowDigest = [u8; 32];

/// The `digest_form` of lines that older programs wrote: SHA-256 of the COPY's body, as it was sent.
pub(crate) const COPY_FORM: i16 = 1;

/// The digest of rows, given theirs.
pub(crate) fn rows_digest(mut rows: Vec<RowDigest>) -> Vec<u8> {
    rows.sort_unstable();
    let mut sha = Sha256::new();
    rows.iter().for_each(|row| sha.update(row));
    sha.finalize().to_vec()
}

/// Digests of a batch's rows.
#[derive(Default)]
pub(super) struct Digests {
    /// Of those that are stored under the batch.
    kept: Vec<RowDigest>,
    /// Of those that are not: the table had them already, or refused them.
    left: Vec<RowDigest>,
    /// Earliest and latest time of those that are stored.
    pub(super) min_time: Option<DateTime<Utc>>,
    pub(super) max_time: Option<DateTime<Utc>>,
}

impl Digests {
    /// Takes in a row that is stored.
    pub(super) fn keep(&mut self, row: &impl Record, digest: RowDigest) {
        self.kept.push(digest);
        self.span(row.time(), row.time());
    }

    /// Takes in a row that is not.
    pub(super) fn leave(&mut self, digest: RowDigest) {
        self.left.push(digest);
    }

    pub(super) fn append(&mut self, mut other: Self) {
        self.kept.append(&mut other.kept);
        self.left.append(&mut other.left);
        self.span(other.min_time, other.max_time);
    }

    fn span(&mut self, from: Option<DateTime<Utc>>, to: Option<DateTime<Utc>>) {
        self.min_time = self.min_time.into_iter().chain(from).min();
        self.max_time = self.max_time.max(to);
    }

    /// The digest of the batch, and that of its stored rows where it is another.
    pub(super) fn finish(self) -> (Vec<u8>, Option<Vec<u8>>) {
        let stored = (!self.left.is_empty()).then(|| rows_digest(self.kept.clone()));
        (rows_digest([self.kept, self.left].concat()), stored)
    }
}

pub(super) fn row_digests<R: Record>(rows: &[R], module_ids: &[i64]) -> impl Iterator<Item = RowDigest> {
    let mut canonical = CanonicalRow::default();
    rows.iter().zip(module_ids).map(move |(row, module_id)| Sha256::digest(canonical.of(row, *module_id)).into())
}

/// The batch's digest in the form of a line that stands already.
pub(super) fn digest<R: Record>(form: i16, batch: &Batch<R>, module_ids: &[i64]) -> Vec<u8> {
    if form != COPY_FORM {
        return rows_digest(row_digests(&batch.rows, module_ids).collect());
    }
    let mut sha = Sha256::new();
    let mut body = CopyBody::new(&batch.rows, module_ids, batch_id(batch));
    while let Some(piece) = body.piece() {
        sha.update(piece);
    }
    sha.finalize().to_vec()
}

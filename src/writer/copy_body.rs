//! The body of a binary COPY, made piece by piece.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::digest::RowDigest;
use super::encode::{CanonicalRow, Encoder, Out, Target};
use crate::records::Record;

/// Bytes in a piece of a COPY's body, about: large enough that the driver's work a piece does not
/// count, small enough that the server has something to do while the next one is made.
const PIECE_BYTES: usize = 64 << 10;

/// Bytes of the batch's id at the end of a tuple: length and value.
const BATCH_ID_BYTES: usize = 4 + 16;

/// Encodes rows, each with the batch's id at its end where there is one. The buffers of pieces that
/// the driver is done with are used again.
pub(super) struct CopyBody<'a, R> {
    rows: &'a [R],
    module_ids: &'a [i64],
    batch_id: Option<Uuid>,
    /// Rows that are encoded.
    at: usize,
    ended: bool,
    tuples: Tuples,
    /// Pieces that were made, the oldest first.
    made: VecDeque<Bytes>,
    canonical: CanonicalRow,
}

/// Tuples of one piece.
#[derive(Default)]
struct Tuples {
    out: Out,
    /// Where each starts, and whether a jsonb is in it.
    starts: Vec<(usize, bool)>,
    json: bool,
}

impl Target for Tuples {
    #[inline]
    fn next(&mut self) -> &mut Out {
        &mut self.out
    }

    fn json(&mut self) {
        self.json = true;
    }
}

impl<'a, R: Record> CopyBody<'a, R> {
    /// The body of rows whose modules have these ids.
    pub(super) fn new(rows: &'a [R], module_ids: &'a [i64], batch_id: Option<Uuid>) -> Self {
        Self {
            rows,
            module_ids,
            batch_id,
            at: 0,
            ended: false,
            tuples: Tuples::default(),
            made: VecDeque::new(),
            canonical: CanonicalRow::default(),
        }
    }

    /// The next piece.
    pub(super) fn piece(&mut self) -> Option<Bytes> {
        if self.ended {
            return None;
        }
        self.tuples.out = Out::reuse(self.buffer());
        self.tuples.starts.clear();
        if self.at == 0 {
            self.tuples.out.put_slice(b"PGCOPY\n\xff\r\n\0");
            self.tuples.out.put_slice(&[0; 8]);
        }
        let columns = ((R::COLUMNS.len() + usize::from(self.batch_id.is_some())) as i16).to_be_bytes();
        let mut batch_id = [0; BATCH_ID_BYTES];
        batch_id[3] = 16;
        batch_id[4..].copy_from_slice(self.batch_id.unwrap_or_default().as_bytes());
        while self.at < self.rows.len() && self.tuples.out.len() < PIECE_BYTES {
            let start = self.tuples.out.len();
            self.tuples.json = false;
            self.tuples.out.put(&columns, 2);
            self.rows[self.at].fields(self.module_ids[self.at], &mut Encoder(&mut self.tuples));
            if self.batch_id.is_some() {
                self.tuples.out.put(&batch_id, BATCH_ID_BYTES);
            }
            self.tuples.starts.push((start, self.tuples.json));
            self.at += 1;
        }
        // A body without rows still has a head and an end.
        if self.at == self.rows.len() {
            self.ended = true;
            self.tuples.starts.push((self.tuples.out.len(), false));
            self.tuples.out.put(&(-1i16).to_be_bytes(), 2);
        } else {
            self.tuples.starts.push((self.tuples.out.len(), false));
        }
        let piece = self.tuples.out.take().freeze();
        self.made.push_back(piece.clone());
        Some(piece)
    }

    /// The rows of the last piece with their digests.
    pub(super) fn digests(&mut self) -> impl Iterator<Item = (&'a R, RowDigest)> {
        let piece = self.made.back().cloned().unwrap_or_default();
        let first = self.at + 1 - self.tuples.starts.len().max(1);
        let id_bytes = if self.batch_id.is_some() { BATCH_ID_BYTES } else { 0 };
        let (rows, module_ids, canonical) = (self.rows, self.module_ids, &mut self.canonical);
        let count = (R::COLUMNS.len() as i16).to_be_bytes();
        self.tuples.starts.windows(2).enumerate().map(move |(n, tuple)| {
            let (row, (start, json)) = (&rows[first + n], tuple[0]);
            let digest = if json {
                Sha256::digest(canonical.of(row, module_ids[first + n]))
            } else {
                // But for a jsonb a tuple's fields are the row's canonical bytes.
                Sha256::new().chain_update(count).chain_update(&piece[start + 2..tuple[1].0 - id_bytes]).finalize()
            };
            (row, digest.into())
        })
    }

    fn buffer(&mut self) -> BytesMut {
        if self.made.front().is_some_and(Bytes::is_unique)
            && let Some(Ok(out)) = self.made.pop_front().map(Bytes::try_into_mut)
        {
            return out;
        }
        BytesMut::with_capacity(PIECE_BYTES + PIECE_BYTES / 16)
    }
}

/// Encodes rows as a writer sends them, with the digests that the ledger needs if asked to, and gives
/// back the bytes' number: for the bench alone.
#[doc(hidden)]
pub fn encode_rows<R: Record>(rows: &[R], module_ids: &[i64], digests: bool) -> usize {
    let mut body = CopyBody::new(rows, module_ids, Some(Uuid::nil()));
    let (mut bytes, mut seen) = (0, 0);
    while let Some(piece) = body.piece() {
        bytes += piece.len();
        if digests {
            seen += body.digests().filter(|(_, digest)| *digest != [0; 32]).count();
        }
    }
    assert!(!digests || seen == rows.len());
    bytes
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::records::{Decimal, EventType, HealthCheck, Json, OrderEvent, PortfolioSnapshot};
    use crate::writer::digest::row_digests;

    pub(in crate::writer) fn body<R: Record>(rows: &[R], batch_id: Option<Uuid>, module_id: i64) -> Vec<u8> {
        let ids = vec![module_id; rows.len()];
        let mut body = CopyBody::new(rows, &ids, batch_id);
        std::iter::from_fn(|| body.piece()).flatten().collect()
    }

    /// Cuts a COPY body into fields.
    pub(in crate::writer) fn fields(copy: &[u8]) -> Vec<Vec<Option<Vec<u8>>>> {
        let mut rest = &copy[19..];
        let mut rows = Vec::new();
        loop {
            let (count, tail) = rest.split_at(2);
            rest = tail;
            let count = i16::from_be_bytes(count.try_into().unwrap());
            if count == -1 {
                assert!(rest.is_empty());
                return rows;
            }
            let mut row = Vec::new();
            for _ in 0..count {
                let (length, tail) = rest.split_at(4);
                let length = i32::from_be_bytes(length.try_into().unwrap());
                let (value, tail) = tail.split_at(usize::try_from(length).unwrap_or(0));
                row.push((length >= 0).then(|| value.to_vec()));
                rest = tail;
            }
            rows.push(row);
        }
    }

    fn checks(count: usize) -> Vec<HealthCheck> {
        (0..count).map(|n| HealthCheck::new("m", "healthy").error_count(n as i32)).collect()
    }

    #[test]
    fn pieces_make_one_body() {
        let bytes_a_row = body(&checks(1), None, 1).len() - 21;
        let rows = PIECE_BYTES.div_ceil(bytes_a_row);
        for count in [0, 1, rows - 1, rows, rows + 1, 5 * rows] {
            let cut = fields(&body(&checks(count), None, 1));
            assert_eq!(cut.len(), count);
            assert!(cut.iter().enumerate().all(|(n, row)| row[4] == Some((n as i32).to_be_bytes().to_vec())));
        }
    }

    #[test]
    fn buffers_are_used_again_once_the_driver_is_done_with_them() {
        let (rows, ids) = (checks(20_000), vec![1; 20_000]);
        let mut body = CopyBody::new(&rows, &ids, Some(Uuid::nil()));
        let (mut seen, mut pieces) = (std::collections::BTreeSet::new(), 0);
        let mut held = None;
        while let Some(piece) = body.piece() {
            seen.insert(piece.as_ptr());
            pieces += 1;
            // The driver holds one while the next is made.
            held.replace(piece);
        }
        assert!(pieces > 10 && seen.len() <= 3, "{} buffers for {pieces} pieces", seen.len());
    }

    fn digests_agree<R: Record>(rows: &[R], batch_id: Option<Uuid>) {
        let ids: Vec<i64> = (0..rows.len() as i64).collect();
        let mut body = CopyBody::new(rows, &ids, batch_id);
        let (mut seen, mut digests) = (Vec::new(), Vec::new());
        while body.piece().is_some() {
            for (row, digest) in body.digests() {
                seen.push(row.clone());
                digests.push(digest);
            }
        }
        assert_eq!(seen, rows);
        assert_eq!(digests, row_digests(rows, &ids).collect::<Vec<_>>());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn digests_of_tuples_are_those_of_canonical_rows(
            values in prop::collection::vec((any::<Option<i32>>(), prop::option::of(".{0,40}"), prop::bool::weighted(0.1)), 0..3000),
            with_id: bool,
        ) {
            let id = with_id.then(|| Uuid::from_u128(5));
            let json = Json::parse(r#"{"b": 1.50, "a": [1, {"c": "\u00e9"}], "a": null}"#).unwrap();
            let checks: Vec<HealthCheck> = values
                .iter()
                .map(|(n, text, details)| {
                    let mut check = HealthCheck::new("m", text.clone().unwrap_or_default());
                    check.response_time_ms = n.map(f64::from);
                    check.details = details.then(|| json.clone());
                    check
                })
                .collect();
            digests_agree(&checks, id);
            let events: Vec<OrderEvent> = values
                .iter()
                .map(|(n, text, details)| {
                    let mut event = OrderEvent::new("o", EventType::Fill);
                    event.last_price = n.and_then(|n| Decimal::from_units(i128::from(n).pow(4)));
                    event.reason = text.clone();
                    event.details = details.then(|| json.clone());
                    event
                })
                .collect();
            digests_agree(&events, id);
            let positions = serde_json::json!({"A": "1.5", "B": {"quantity": -2}});
            digests_agree(&[PortfolioSnapshot::new(positions, 1.into(), 2.into())], id);
        }
    }
}

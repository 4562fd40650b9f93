//! Whether what was stored is still what is there.
//!
//! Three layers, each holding digests of the one below:
//!
//! ```text
//! anchor file      block number, hash                         kept elsewhere
//!     │
//! audit_block      hash of: number, time, retention,  ◀── the next block holds it as previous_hash
//!     │            previous_hash, its entries
//! audit_entry      hash of a ledger line
//!     │
//! ingest_batch     digest of a batch: SHA-256 of the sorted digests of its rows
//!     │
//! rows             SHA-256 of the tuple that a binary COPY makes of the row
//! ```
//!
//! [`Store::audit_seal`] puts the ledger lines that have come since into a new block;
//! [`Store::audit_verify`] computes every hash again, from the rows up, and says what differs. Everything
//! is hashed here and in one form, the tuple of a binary COPY, so that nothing rests on functions in the
//! database that somebody may have replaced. What this finds and what it can't is in `docs/audit.md`.

mod chain;
mod retention;
mod rows;
mod seal;
mod tuple;
mod verify;

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Utc};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::error::{Error, ErrorKind};
use crate::writer::RowDigest;
use tuple::tuple;

pub use seal::Sealed;
pub use verify::{Audit, Finding};

#[cfg(doc)]
use super::Store;

/// A block's number and hash: noted elsewhere, it tells a chain that was made anew from the old one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Anchor {
    /// The block.
    pub block_number: i64,
    /// Its hash, in hex.
    pub hash: String,
}

impl fmt::Display for Anchor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.block_number, self.hash)
    }
}

impl FromStr for Anchor {
    type Err = Error;

    fn from_str(line: &str) -> Result<Self, Error> {
        let mut words = line.split_whitespace();
        let number = words.next().and_then(|word| word.parse().ok());
        let hash = words.next().filter(|hash| hash.len() == 64 && hash.bytes().all(|b| b.is_ascii_hexdigit()));
        match (number, hash) {
            (Some(block_number), Some(hash)) => Ok(Self { block_number, hash: hash.to_ascii_lowercase() }),
            _ => {
                Err(Error::new(ErrorKind::Config, format!("'{line:.100}' is no anchor; one is a block's number and its hash of 64 digits")))
            }
        }
    }
}

/// A block's own fields.
#[derive(Debug)]
struct Block {
    number: i64,
    sealed_at: DateTime<Utc>,
    entry_count: i64,
    /// As `retention::text` prints it.
    retention: String,
    previous_hash: Vec<u8>,
    hash: Vec<u8>,
}

impl Block {
    const COLUMNS: &'static str = "block_number, sealed_at, entry_count, retention::text, previous_hash, hash";

    fn from_row(row: &tokio_postgres::Row) -> Self {
        Self {
            number: row.get(0),
            sealed_at: row.get(1),
            entry_count: row.get(2),
            retention: row.get(3),
            previous_hash: row.get(4),
            hash: row.get(5),
        }
    }

    fn anchor(&self) -> Anchor {
        Anchor { block_number: self.number, hash: hex(&self.hash) }
    }
}

/// A block's hash on the way: its own fields first, then its entries in the order of source and key.
struct BlockHash(Sha256);

impl BlockHash {
    fn new(block: &Block) -> Self {
        let (number, count) = (block.number.to_be_bytes(), block.entry_count.to_be_bytes());
        let sealed_at = block.sealed_at.timestamp_micros().to_be_bytes();
        let fields = tuple(&[&number, &sealed_at, &count, block.retention.as_bytes(), &block.previous_hash]);
        Self(Sha256::new_with_prefix(fields))
    }

    fn entry(&mut self, source: &str, key: &str, hash: &[u8]) {
        self.0.update(tuple(&[source.as_bytes(), key.as_bytes(), hash]));
    }

    fn finish(self) -> RowDigest {
        self.0.finalize().into()
    }
}

/// `previous_hash` of the first block.
const NO_HASH: [u8; 32] = [0; 32];

/// As many rows of a table go into a block at most, so that sealing needs little memory.
const BLOCK_ENTRIES: i64 = 100_000;

/// A table whose rows are sealed one by one.
struct Source {
    name: &'static str,
    /// Rows that are in no block yet and can be: key, then the columns that are hashed.
    unsealed: &'static str,
    /// Entries beside their rows: block, key, hash, then the columns that are hashed; NULLs where the row is gone.
    sealed: &'static str,
}

macro_rules! source {
    ($table:literal, $key:literal, $columns:literal, $ready:literal, $order:literal) => {
        Source {
            name: $table,
            unsealed: concat!(
                "COPY (SELECT ",
                $key,
                "::text, ",
                $columns,
                " FROM hitherto.",
                $table,
                " s WHERE ",
                $ready,
                " AND NOT EXISTS (SELECT FROM hitherto.audit_entry e WHERE e.source = '",
                $table,
                "' AND e.key = ",
                $key,
                "::text)
                 ORDER BY ",
                $order,
                " LIMIT 100000) TO STDOUT (FORMAT binary)"
            ),
            sealed: concat!(
                "COPY (SELECT e.block_number, e.key, e.hash, ",
                $columns,
                " FROM hitherto.audit_entry e
                 LEFT JOIN hitherto.",
                $table,
                " s ON e.key = ",
                $key,
                "::text WHERE e.source = '",
                $table,
                "') TO STDOUT (FORMAT binary)"
            ),
        }
    };
}

/// What is sealed. A ledger line can be once no transaction before it is open, or when its xid is of a
/// server that the database was restored from; of the others it is enough that they have committed.
#[rustfmt::skip]
const SOURCES: &[Source] = &[
    source!(
        "ingest_batch", "s.batch_id",
        "batch_id, producer, table_name, row_count, min_time, max_time, digest, digest_form, rows_digest, xid, committed_at",
        "(xid < pg_snapshot_xmin(pg_current_snapshot()) OR xid >= pg_snapshot_xmax(pg_current_snapshot()))", "s.xid, s.batch_id"
    ),
    source!(
        "quarantine", "s.quarantine_id",
        "quarantine_id, batch_id, producer, table_name, record, sqlstate, reason, quarantined_at",
        "true", "s.quarantine_id"
    ),
    source!(
        "quarantine_resolution", "s.quarantine_id",
        "quarantine_id, resolution, batch_id, resolved_by, reason, login, resolved_at",
        "true", "s.quarantine_id"
    ),
    source!(
        "regime_event", "s.event_number",
        "event_number, regime_id, event, actor, notes, login, event_at",
        "true", "s.event_number"
    ),
    source!(
        "order_event_conflict", "(s.event_id || ' ' || encode(s.digest, 'hex'))",
        "event_id, digest, order_id, batch_id",
        "true", "s.event_id, s.digest"
    ),
    source!(
        "retention_event", "s.event_number",
        "event_number, table_name, drop_after, event_at",
        "true", "s.event_number"
    ),
];

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

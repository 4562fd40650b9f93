//! What is not as it should be in a spool.

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;
use uuid::Uuid;

/// Something in a spool that a person should know of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "finding", rename_all = "snake_case")]
#[non_exhaustive]
pub enum SpoolFinding {
    /// Records that were acknowledged can't be read any more. What was around them is used.
    Damaged {
        /// The table.
        table: String,
        /// The segment's number.
        segment: u64,
        /// Bytes that hold nothing that can be read.
        bytes: u64,
        /// Where the segment is kept as it was found, once a program has opened the spool.
        kept: Option<PathBuf>,
    },
    /// A segment isn't there although those around it are.
    Missing {
        /// The table.
        table: String,
        /// The segment's number.
        segment: u64,
    },
    /// The last write did not get to the disk whole before the machine went down. It was not
    /// acknowledged: nothing is lost.
    Torn {
        /// The table.
        table: String,
        /// The segment's number.
        segment: u64,
        /// Bytes that are cut off, or will be.
        bytes: u64,
    },
    /// The cursor can't be read: everything that is there is sent again, and the ledger knows what it has.
    Cursor {
        /// The table.
        table: String,
    },
    /// A segment that was damaged is kept as it was found; delete it when nobody needs it.
    Kept {
        /// The table.
        table: String,
        /// The file.
        file: PathBuf,
    },
    /// A batch that the database can't take as it stands is kept aside.
    Aside {
        /// The table.
        table: String,
        /// The batch.
        batch: Uuid,
        /// The file.
        file: PathBuf,
    },
}

impl SpoolFinding {
    /// Nothing was lost and there is nothing to do.
    pub fn is_harmless(&self) -> bool {
        matches!(self, Self::Torn { .. })
    }

    /// The table.
    pub fn table(&self) -> &str {
        match self {
            Self::Damaged { table, .. }
            | Self::Missing { table, .. }
            | Self::Torn { table, .. }
            | Self::Cursor { table }
            | Self::Kept { table, .. }
            | Self::Aside { table, .. } => table,
        }
    }

    /// Tells it to the log.
    pub(super) fn tell(&self) {
        if self.is_harmless() {
            tracing::warn!(table = self.table(), "spool: {self}");
        } else {
            tracing::error!(table = self.table(), "spool: {self}");
        }
    }
}

impl fmt::Display for SpoolFinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Damaged { table, segment, bytes, kept } => {
                write!(f, "{table}: segment {segment} is damaged: {bytes} bytes of acknowledged records can't be read, the rest is used")?;
                match kept {
                    Some(file) => write!(f, "; as it was found it is kept as {}", file.display()),
                    None => Ok(()),
                }
            }
            Self::Missing { table, segment } => {
                write!(f, "{table}: segment {segment} is missing; whatever was in it is lost unless the file is found again")
            }
            Self::Torn { table, segment, bytes } => {
                write!(
                    f,
                    "{table}: {bytes} bytes at the end of segment {segment} were being written when the machine or the program went down; they are cut off, and were never acknowledged"
                )
            }
            Self::Cursor { table } => write!(
                f,
                "{table}: the cursor can't be read; everything that is there is sent again, and what the ledger has is not stored twice"
            ),
            Self::Kept { table, file } => {
                write!(f, "{table}: {} is a damaged segment as it was found; delete it when nobody needs it", file.display())
            }
            Self::Aside { table, batch, file } => {
                write!(f, "{table}: batch {batch} could not be stored as it stands and is kept aside in {}", file.display())
            }
        }
    }
}

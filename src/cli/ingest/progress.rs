//! How far a run has come.

use std::sync::atomic::AtomicU64;

/// Counters that reader, parser and sender share.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// Bytes parsed.
    pub(super) bytes: AtomicU64,
    /// Lines parsed, blank ones left out.
    pub(super) lines: AtomicU64,
    /// Lines taken care of: stored, refused or known.
    pub(super) settled: AtomicU64,
    /// Rows stored.
    pub(super) stored: AtomicU64,
    /// Tries that failed since the database last took something; 0 when all is well.
    pub(super) failures: AtomicU64,
}

//! What a record that was written survives.

use crate::spool::Spool;

/// When [`Writer::write`](super::Writer::write) returns, and what a record survives from then on.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub enum Durability {
    /// Once the record waits in memory. It survives the database going away, for as long as this
    /// process lives.
    #[default]
    Memory,
    /// Once the record is on disk. It survives the database going away, and this process and this machine
    /// going down: the next writer that uses the folder sends it. Such a writer is made inside a tokio
    /// runtime, for it begins to send what an earlier one left; it may be dropped anywhere.
    Spool(Spool),
    /// Once the record is committed, or quarantined and told so. It survives what the database
    /// survives.
    Commit,
}

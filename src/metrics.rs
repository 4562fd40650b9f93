//! The names of what this program counts, through the `metrics` facade: whoever installs a recorder
//! sees them. Every one has the label `table`.
//!
//! A recorder counts for the writers that are made after it was installed.

/// Rows that were stored, a counter.
pub const WRITER_ROWS: &str = "hitherto_writer_rows_total";
/// Bytes of the records in stored batches, about, as the queue counts them; a counter.
pub const WRITER_BYTES: &str = "hitherto_writer_bytes_total";
/// Batches that were stored, a counter.
pub const WRITER_BATCHES: &str = "hitherto_writer_batches_total";
/// Rows that the table had already, by their own id; a counter.
pub const WRITER_DUPLICATES: &str = "hitherto_writer_duplicates_total";
/// Rows that the database refused and that are in quarantine, a counter.
pub const WRITER_QUARANTINED: &str = "hitherto_writer_quarantined_total";
/// Batches that were sent again, a counter. Its label `class` is the SQLSTATE's class (its first two
/// characters), `connection` or `timeout`.
pub const WRITER_RETRIES: &str = "hitherto_writer_retries_total";
/// Records that wait in memory or are under way, a gauge.
pub const WRITER_QUEUE_ROWS: &str = "hitherto_writer_queue_rows";
/// Their bytes, about, a gauge.
pub const WRITER_QUEUE_BYTES: &str = "hitherto_writer_queue_bytes";
/// Seconds from the first send of a batch until it was stored, a histogram.
pub const WRITER_COMMIT_SECONDS: &str = "hitherto_writer_commit_seconds";
/// Bytes of a table's spool that are not in the database yet, a gauge.
pub const SPOOL_BYTES: &str = "hitherto_spool_bytes";
/// Seconds since the oldest record that waits in a table's spool came in, a gauge.
pub const SPOOL_AGE_SECONDS: &str = "hitherto_spool_age_seconds";
/// Records that a full spool threw away because it was told to, a counter.
pub const SPOOL_DROPPED: &str = "hitherto_spool_dropped_total";

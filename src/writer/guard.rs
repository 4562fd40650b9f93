//! Keeps two runs over the same lines apart.

use deadpool_postgres::Transaction;
use uuid::Uuid;

use crate::error::{Error, ErrorKind, Result};

/// What a batch's rows were chosen by: the batches of the same stretch of a stream that the ledger has.
/// Another run, or one that was killed and whose COMMIT is still under way, may store more of them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Guard {
    /// The least and the greatest id that a batch of this stretch can have.
    pub(crate) range: (Uuid, Uuid),
    /// The greatest that the ledger has.
    pub(crate) last: Option<Uuid>,
}

/// The ledger has more of the stretch than the batch's rows were chosen by; nothing was stored.
#[derive(Debug, thiserror::Error)]
#[error("another run stored a part of the same lines meanwhile")]
pub(crate) struct Overtaken;

const LOCK: &str = "-- ingest_lock
    SELECT pg_advisory_xact_lock($1)";

const LAST: &str = "-- ingest_last
    SELECT batch_id FROM hitherto.ingest_batch WHERE batch_id BETWEEN $1 AND $2 ORDER BY batch_id DESC LIMIT 1";

impl Guard {
    /// Waits for whoever is at the same stretch and sees what they stored. Holds until the transaction ends.
    pub(super) async fn hold(&self, tx: &Transaction<'_>) -> Result<()> {
        let failed = |e| Error::database("looking for another run over the same lines", e);
        let (from, to) = self.range;
        let key = i64::from_be_bytes(std::array::from_fn(|at| from.as_bytes()[at]));
        let lock = tx.prepare_cached(LOCK).await.map_err(failed)?;
        tx.query_one(&lock, &[&key]).await.map_err(failed)?;
        // A statement of its own: it sees what was committed while the one before waited.
        let last = tx.prepare_cached(LAST).await.map_err(failed)?;
        let last = tx.query_opt(&last, &[&from, &to]).await.map_err(failed)?.map(|row| row.get::<_, Uuid>(0));
        if last == self.last { Ok(()) } else { Err(Error::new(ErrorKind::Conflict, Overtaken.to_string()).caused_by(Overtaken)) }
    }
}

/// Whether this is what a guard said.
pub(crate) fn is_overtaken(error: &Error) -> bool {
    std::error::Error::source(error).is_some_and(|source| source.is::<Overtaken>())
}

//! A batch: rows that are stored together, once.

use chrono::Utc;
use uuid::Uuid;

use crate::error::{Error, ErrorKind, Result};
use crate::records::{Limits, Record};

/// Rows of one table under one id, frozen: sent as often as it takes, stored once.
#[derive(Debug, Clone)]
pub struct Batch<R> {
    pub(super) id: Uuid,
    pub(super) producer: String,
    pub(super) rows: Vec<R>,
    /// The id may stand in the ledger already, for it was derived from content or sent before.
    pub(super) known: bool,
    /// What else must hold when it is stored.
    #[cfg(feature = "cli")]
    pub(super) guard: Option<super::Guard>,
}

impl<R: Record> Batch<R> {
    /// A batch under a fresh id.
    ///
    /// # Errors
    /// `Invalid` for the first row that breaks a rule, with its place in the batch.
    pub fn new(producer: impl Into<String>, rows: Vec<R>) -> Result<Self> {
        let (limits, now) = (Limits::default(), Utc::now());
        for (place, row) in rows.iter().enumerate() {
            row.validate(&limits, now).map_err(|e| Error::new(ErrorKind::Invalid, format!("row {}: {e}", place + 1)))?;
        }
        Ok(Self::freeze(Uuid::now_v7(), producer.into(), rows, false))
    }

    /// A batch under an id that the caller derived from what is in it, rows checked by the caller. The
    /// guard sees to it that the ledger does not have it.
    #[cfg(feature = "cli")]
    pub(crate) fn derived(id: Uuid, producer: String, rows: Vec<R>, guard: super::Guard) -> Self {
        Self { guard: Some(guard), ..Self::freeze(id, producer, rows, false) }
    }

    #[cfg(feature = "cli")]
    pub(crate) fn into_rows(self) -> Vec<R> {
        self.rows
    }

    pub(super) fn freeze(id: Uuid, producer: String, rows: Vec<R>, known: bool) -> Self {
        Self {
            id,
            producer,
            rows,
            known,
            #[cfg(feature = "cli")]
            guard: None,
        }
    }

    /// The batch's id, its line in the ledger.
    pub fn id(&self) -> Uuid {
        self.id
    }

    /// The rows.
    pub fn rows(&self) -> &[R] {
        &self.rows
    }
}

/// What became of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct Stored {
    /// Rows stored, as the ledger says.
    pub rows: u64,
    /// Rows that the table had already, by their own id.
    pub duplicates: u64,
    /// Rows that the database refused; they are in `hitherto.quarantine` with the reason.
    pub quarantined: u64,
    /// The ledger had the batch: nothing was done now.
    pub already: bool,
}

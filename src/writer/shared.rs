//! What all lanes of a writer share.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::sync::{Notify, SetOnce, watch};
use tokio::time::sleep;

use super::batch::Batch;
use super::config::WriterConfig;
use super::part::Outcome;
use super::send::{Patience, Sender};
use crate::error::{Error, ErrorKind, Result};
use crate::records::Record;

/// How long a batch waits between tries when its failure is not one that passes by itself: somebody
/// must grant a privilege or migrate.
const STUCK_PAUSE: Duration = Duration::from_secs(5);

/// What all lanes of a writer share.
pub(super) struct Shared {
    pub(super) config: WriterConfig,
    /// There once the database was reached.
    sender: SetOnce<Sender>,
    pub(super) counters: Counters,
    pub(super) stuck: watch::Sender<Stuck>,
    /// Wakes batches that wait before they are tried again: somebody wants to know now.
    pub(super) asked: Notify,
}

/// Which tables can't be written to, for reasons that do not pass by themselves.
#[derive(Default)]
pub(super) struct Stuck {
    /// Tries that failed so.
    pub(super) tries: u64,
    /// Why, by table.
    pub(super) reasons: BTreeMap<&'static str, (ErrorKind, String)>,
}

/// Stands for every table: the database itself can't be used.
pub(super) const ANY_TABLE: &str = "";

impl Stuck {
    /// The first reason as an error.
    pub(super) fn error(&self) -> Option<Error> {
        self.reasons.keys().next().and_then(|table| self.error_of(table))
    }

    /// A table's reason as an error.
    pub(super) fn error_of(&self, table: &str) -> Option<Error> {
        self.reasons.get(table).or_else(|| self.reasons.get(ANY_TABLE)).map(|(kind, words)| Error::new(*kind, words.clone()))
    }
}

#[derive(Default)]
pub(super) struct Counters {
    pub(super) accepted: AtomicU64,
    pub(super) stored: AtomicU64,
    pub(super) duplicates: AtomicU64,
    pub(super) quarantined: AtomicU64,
    pub(super) batches: AtomicU64,
    pub(super) retries: AtomicU64,
    pub(super) queued_rows: AtomicU64,
    pub(super) queued_bytes: AtomicU64,
    pub(super) dropped: AtomicU64,
}

impl Counters {
    /// A record came in.
    pub(super) fn entered(&self, bytes: u64) {
        self.accepted.fetch_add(1, Relaxed);
        self.queued_rows.fetch_add(1, Relaxed);
        self.queued_bytes.fetch_add(bytes, Relaxed);
    }

    /// Records are stored.
    pub(super) fn left(&self, rows: u64, bytes: u64) {
        self.queued_rows.fetch_sub(rows, Relaxed);
        self.queued_bytes.fetch_sub(bytes, Relaxed);
    }
}

impl Shared {
    /// The sender may come later.
    pub(super) fn new(config: WriterConfig, sender: Option<Sender>) -> Self {
        let sender = sender.map_or_else(SetOnce::new, |sender| SetOnce::new_with(Some(sender)));
        Self { config, sender, counters: Counters::default(), stuck: watch::channel(Stuck::default()).0, asked: Notify::new() }
    }

    /// The database was reached.
    pub(super) fn connected(&self, sender: Sender) {
        // It is set once; who comes second has nothing to add.
        let _ = self.sender.set(sender);
        self.unstuck(ANY_TABLE);
    }

    /// Somebody must do something before this can go on: tells whoever asks, and waits a while or until
    /// somebody wants to know.
    pub(super) async fn wait_stuck(&self, table: &'static str, error: &Error) {
        let asked = self.asked.notified();
        self.stuck.send_modify(|stuck| {
            stuck.tries += 1;
            stuck.reasons.insert(table, (error.kind(), error.to_string()));
        });
        tokio::select! { () = sleep(STUCK_PAUSE) => {}, () = asked => {} }
    }

    pub(super) fn unstuck(&self, table: &str) {
        self.stuck.send_if_modified(|stuck| stuck.reasons.remove(table).is_some());
    }

    /// Sends a batch until it is stored. While it can't be for a reason that does not pass by itself,
    /// that is told to whoever asks and the batch is tried again now and then: nothing is thrown away.
    pub(super) async fn store<R: Record>(&self, batch: &mut Batch<R>) -> Outcome {
        loop {
            if let Ok(outcome) = self.store_unless(batch, |_| false).await {
                return outcome;
            }
        }
    }

    /// The same, but gives up when `hopeless` says so of an error.
    ///
    /// # Errors
    /// That error.
    pub(super) async fn store_unless<R: Record>(&self, batch: &mut Batch<R>, hopeless: impl Fn(&Error) -> bool) -> Result<Outcome> {
        let sender = self.sender.wait().await;
        loop {
            let on_retry = |_: &Error| {
                self.counters.retries.fetch_add(1, Relaxed);
            };
            match sender.send(batch, Patience::Endless, on_retry).await {
                Ok(outcome) => {
                    let (counters, stored) = (&self.counters, &outcome.stored);
                    counters.batches.fetch_add(1, Relaxed);
                    counters.stored.fetch_add(stored.rows, Relaxed);
                    counters.duplicates.fetch_add(stored.duplicates, Relaxed);
                    counters.quarantined.fetch_add(stored.quarantined, Relaxed);
                    self.unstuck(R::TABLE);
                    return Ok(outcome);
                }
                Err(error) if hopeless(&error) => return Err(error),
                Err(error) => {
                    tracing::error!(table = R::TABLE, %error, "writer can't go on; it keeps its records and tries again");
                    batch.known = true;
                    self.wait_stuck(R::TABLE, &error).await;
                }
            }
        }
    }
}

//! One table's way in: collects records into batches and sends them, one after the other.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore, mpsc, oneshot, watch};
use tokio::time::{Instant, sleep, timeout_at};
use uuid::Uuid;

use super::WriterConfig;
use super::batch::Batch;
use super::send::{Patience, Sender};
use crate::error::{Error, ErrorKind};
use crate::records::Record;

/// How long a lane waits between tries when its failure is not one that passes by itself: somebody
/// must grant a privilege or migrate.
const STUCK_PAUSE: Duration = Duration::from_secs(5);

/// What a lane is handed.
pub(super) enum Message<R> {
    /// A record and the room that it takes up.
    Record(R, u32),
    /// Answer once everything before is committed.
    Flush(oneshot::Sender<()>),
}

/// What all lanes of a writer share.
pub(super) struct Shared {
    pub(super) config: WriterConfig,
    pub(super) sender: Sender,
    pub(super) counters: Counters,
    pub(super) stuck: watch::Sender<Stuck>,
    /// Wakes lanes that wait before they try again: somebody wants to know now.
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

impl Stuck {
    /// The first reason as an error.
    pub(super) fn error(&self) -> Option<Error> {
        self.reasons.values().next().map(|(kind, words)| Error::new(*kind, words.clone()))
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
}

/// The lane's task: ends when its channel is closed and everything is sent.
pub(super) async fn run<R: Record>(shared: Arc<Shared>, mut messages: mpsc::Receiver<Message<R>>, room: Arc<Semaphore>) {
    let config = &shared.config;
    let mut open = true;
    while open {
        let mut rows = Vec::new();
        let mut bytes = 0u64;
        let mut waiting = Vec::new();
        // Idle: nothing runs until the first record comes.
        match messages.recv().await {
            Some(Message::Record(record, size)) => {
                rows.push(record);
                bytes += u64::from(size);
            }
            Some(Message::Flush(answer)) => {
                let _ = answer.send(());
                continue;
            }
            None => break,
        }
        let due = Instant::now() + config.max_age;
        while rows.len() < config.max_batch_rows && bytes < config.max_batch_bytes as u64 {
            match timeout_at(due, messages.recv()).await {
                Ok(Some(Message::Record(record, size))) => {
                    rows.push(record);
                    bytes += u64::from(size);
                }
                Ok(Some(Message::Flush(answer))) => {
                    waiting.push(answer);
                    break;
                }
                Ok(None) => {
                    open = false;
                    break;
                }
                Err(_) => break,
            }
        }
        let count = rows.len() as u64;
        let batch = Batch::freeze(Uuid::now_v7(), config.producer.clone(), rows, false);
        store(&shared, batch).await;
        shared.counters.queued_rows.fetch_sub(count, Relaxed);
        shared.counters.queued_bytes.fetch_sub(bytes, Relaxed);
        room.add_permits(bytes as usize);
        for answer in waiting {
            let _ = answer.send(());
        }
    }
}

/// Sends a batch until it is stored. While it can't be for a reason that does not pass by itself,
/// that is told to whoever asks and the lane tries again now and then: nothing is thrown away.
async fn store<R: Record>(shared: &Shared, mut batch: Batch<R>) {
    loop {
        let on_retry = |_: &Error| {
            shared.counters.retries.fetch_add(1, Relaxed);
        };
        match shared.sender.send(&batch, Patience::Endless, on_retry).await {
            Ok(stored) => {
                let counters = &shared.counters;
                counters.batches.fetch_add(1, Relaxed);
                counters.stored.fetch_add(stored.rows, Relaxed);
                counters.duplicates.fetch_add(stored.duplicates, Relaxed);
                counters.quarantined.fetch_add(stored.quarantined, Relaxed);
                shared.stuck.send_if_modified(|stuck| stuck.reasons.remove(R::TABLE).is_some());
                return;
            }
            Err(error) => {
                tracing::error!(table = R::TABLE, %error, "writer can't go on; it keeps its records and tries again");
                batch.known = true;
                let asked = shared.asked.notified();
                shared.stuck.send_modify(|stuck| {
                    stuck.tries += 1;
                    stuck.reasons.insert(R::TABLE, (error.kind(), error.to_string()));
                });
                tokio::select! { () = sleep(STUCK_PAUSE) => {}, () = asked => {} }
            }
        }
    }
}

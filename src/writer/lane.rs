//! One table's way in: collects records into batches and sends them, one after the other.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::time::{Instant, sleep, timeout_at};
use uuid::Uuid;

use super::WriterConfig;
use super::batch::Batch;
use super::send::{Patience, Sender};
use crate::error::{Error, ErrorKind, Result};
use crate::records::Record;

/// How long a lane waits between tries when its failure is not one that passes by itself: somebody
/// must grant a privilege or migrate.
const STUCK_PAUSE: Duration = Duration::from_secs(5);

/// What a lane is handed.
pub(super) enum Message<R> {
    /// A record and the room that it takes up.
    Record(R, u32),
    /// Answer once everything before is committed, or can't be.
    Flush(oneshot::Sender<Result<()>>),
}

/// What all lanes of a writer share.
pub(super) struct Shared {
    pub(super) config: WriterConfig,
    pub(super) sender: Sender,
    /// Bytes of the queue that are free.
    pub(super) room: Semaphore,
    pub(super) counters: Counters,
    /// Why a lane can't go on, while it can't.
    pub(super) stuck: watch::Sender<Option<(ErrorKind, String)>>,
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
pub(super) async fn run<R: Record>(shared: Arc<Shared>, mut messages: mpsc::Receiver<Message<R>>) {
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
                let _ = answer.send(Ok(()));
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
        store(&shared, batch, &mut waiting).await;
        shared.counters.queued_rows.fetch_sub(count, Relaxed);
        shared.counters.queued_bytes.fetch_sub(bytes, Relaxed);
        shared.room.add_permits(bytes as usize);
        for answer in waiting {
            let _ = answer.send(Ok(()));
        }
    }
}

/// Sends a batch until it is stored. While it can't be for a reason that does not pass by itself,
/// those who wait for a flush are told and the lane tries again now and then: nothing is thrown away.
async fn store<R: Record>(shared: &Shared, mut batch: Batch<R>, waiting: &mut Vec<oneshot::Sender<Result<()>>>) {
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
                shared.stuck.send_if_modified(|stuck| stuck.take().is_some());
                return;
            }
            Err(error) => {
                tracing::error!(table = R::TABLE, %error, "writer can't go on; it keeps its records and tries again");
                batch.known = true;
                for answer in waiting.drain(..) {
                    let _ = answer.send(Err(Error::new(error.kind(), error.to_string())));
                }
                shared.stuck.send_replace(Some((error.kind(), error.to_string())));
                sleep(STUCK_PAUSE).await;
            }
        }
    }
}

//! Sends what a table's spool holds, batch by batch.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{sleep, sleep_until};

use super::batch::Batch;
use super::payload::parse;
use super::shared::Shared;
use super::spooled::SpoolLane;
use super::sql;
use crate::error::{Error, ErrorKind};
use crate::records::Record;
use crate::spool::{SpoolLog, SpoolReader, SpooledBatch};

/// Between tries to become the log's reader, after another writer of this process.
const READER_PAUSE: Duration = Duration::from_millis(50);

/// The lane's draining task. When the lane ends, what it has not sent stays on disk.
pub(super) async fn run<R: Record>(shared: Arc<Shared>, lane: Arc<SpoolLane>) {
    let mut under_way = JoinSet::new();
    tokio::select! {
        () = lane.stop.notified() => {}
        () = drain::<R>(shared, &lane, &mut under_way) => {}
    }
    // Batches that are amid a COPY are rolled back with their connections.
    under_way.shutdown().await;
}

async fn drain<R: Record>(shared: Arc<Shared>, lane: &SpoolLane, under_way: &mut JoinSet<()>) {
    let reader = loop {
        match lane.log.reader().await {
            Ok(reader) => break reader,
            Err(error) if error.kind() == ErrorKind::Conflict => sleep(READER_PAUSE).await,
            Err(error) => shared.wait_stuck(R::TABLE, &error).await,
        }
    };
    let slots = if sql::last_wins(R::TABLE) { 1 } else { shared.config.connections };
    // Pinned, so that reading goes on while something else is looked after.
    let mut next = Box::pin(next(shared.clone(), R::TABLE, reader));
    loop {
        // While as many batches are under way as may be, the open one goes on gathering.
        let due = if under_way.len() < slots { lane.due() } else { None };
        tokio::select! {
            (batch, reader) = &mut next, if under_way.len() < slots => {
                under_way.spawn(store::<R>(shared.clone(), lane.log.clone(), batch));
                next.set(self::next(shared.clone(), R::TABLE, reader));
            }
            Some(done) = under_way.join_next() => if done.is_err_and(|error| error.is_panic()) {
                let error = Error::new(
                    ErrorKind::Closed,
                    format!("draining the spool of {} has failed, by a fault of this program; what waits is on disk, start again", R::TABLE),
                );
                tracing::error!(table = R::TABLE, "{error}");
                // Whoever flushes is told.
                loop {
                    shared.wait_stuck(R::TABLE, &error).await;
                }
            },
            () = lane.changed.notified() => {}
            () = async { sleep_until(due.expect("asked only if there is one")).await }, if due.is_some() => {}
        }
    }
}

async fn next(shared: Arc<Shared>, table: &'static str, mut reader: SpoolReader) -> (SpooledBatch, SpoolReader) {
    let mut failed = false;
    loop {
        match reader.next().await {
            Ok(batch) => {
                if failed {
                    shared.unstuck(table);
                }
                return (batch, reader);
            }
            Err(error) => {
                failed = true;
                tracing::error!(table, %error, "the spool can't be read; what is in it is kept, and tried again");
                shared.wait_stuck(table, &error).await;
            }
        }
    }
}

/// Sends a batch until it is stored.
async fn store<R: Record>(shared: Arc<Shared>, log: SpoolLog, spooled: SpooledBatch) {
    let spooled = Arc::new(spooled);
    let rows = loop {
        let parsed = spooled.clone();
        let parsing = tokio::task::spawn_blocking(move || parse::<R>(&parsed));
        match parsing.await.unwrap_or_else(|_| Err(super::closed())) {
            Ok((rows, bad)) if bad.is_empty() => break rows,
            Ok((rows, bad)) => match log.keep_aside(&spooled, bad.lines, &bad.reason).await {
                Ok(()) => break rows,
                Err(error) => shared.wait_stuck(R::TABLE, &error).await,
            },
            Err(error) => shared.wait_stuck(R::TABLE, &error).await,
        }
    };
    let mut batch = Batch::freeze(spooled.id, shared.config.producer.clone(), rows, spooled.known);
    // The ledger has the id with other content: what was read is not what was sent then, for the disk has
    // lost some of it, or a module's id has changed.
    while let Err(error) = shared.store_unless(&mut batch, |error| error.kind() == ErrorKind::Conflict).await {
        match log.keep_aside(&spooled, spooled.payloads(), &error.to_string()).await {
            Ok(()) => {
                shared.unstuck(R::TABLE);
                break;
            }
            Err(error) => shared.wait_stuck(R::TABLE, &error).await,
        }
    }
    // Only a program that ends can't say that it is done; then it is looked up in the ledger next time.
    let _ = log.done(&spooled).await;
}

//! From the spool into the database.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::chain::Chain;
use super::frame;
use super::intake::{Intake, Taken};
use super::progress::Progress;
use super::worker;
use crate::error::{Error, ErrorKind, Result};
use crate::records::Record;
use crate::spool::{KIND_RECORDS, SpoolLog, SpooledBatch};
use crate::store::Store;
use crate::writer::{Patience, spooled_batch, takes_twice};

/// Between looks at a log that is about to be empty.
const LOOK: Duration = Duration::from_millis(20);

/// Puts batches of lines into the database, in the order in which they come.
pub(crate) struct Drain<R> {
    intake: Intake<R>,
    /// Batches whose lines are held back: whether they are stored depends on those that follow.
    held: Vec<SpooledBatch>,
    /// The place behind their last line.
    end: Option<Chain>,
    /// Who writes a writer's records that stand between the lines; without it they are refused.
    records_by: Option<String>,
}

impl<R: Record> Drain<R> {
    pub(crate) fn new(store: Store, patience: Patience, progress: Arc<Progress>) -> Self {
        Self { intake: Intake::new(store, String::new(), patience, progress), held: Vec::new(), end: None, records_by: None }
    }

    /// Takes a writer's records, too, in the name of this producer. Nothing must be appended meanwhile.
    pub(super) fn with_records(mut self, producer: String) -> Self {
        self.records_by = Some(producer);
        self
    }

    /// Stores a batch, unless that depends on the next one, and tells the log what is done.
    ///
    /// # Errors
    /// What keeps it from being stored; then it stays where it is.
    pub(crate) async fn take(&mut self, log: &SpoolLog, batch: SpooledBatch) -> Result<()> {
        if let Some(producer) = self.records_by.clone().filter(|_| batch.is_of(KIND_RECORDS)) {
            return self.take_records(log, batch, producer).await;
        }
        let parsing = tokio::task::spawn_blocking(move || {
            let parsed: Result<Vec<frame::Read<R>>> = batch.frames.iter().map(frame::read).collect();
            (batch, parsed)
        });
        let (batch, parsed) = parsing.await.map_err(|ended| match ended.is_panic() {
            true => worker::panicked("the reader of the spool"),
            false => Error::new(ErrorKind::Closed, "the program ended before a batch was read"),
        })?;
        for read in parsed? {
            if self.end.is_some_and(|end| end != read.piece.before) {
                // Another stream, or the same one from its start: what is held has no other half.
                self.finish(log).await?;
            }
            if !read.bad.is_empty() {
                log.keep_aside(&batch, read.bad, &read.reason).await?;
            }
            self.intake.producer = read.producer;
            let end = *read.piece.end();
            match self.intake.take(read.piece, None).await? {
                Taken::All => {
                    self.end = None;
                    for held in self.held.drain(..) {
                        log.done(&held).await?;
                    }
                }
                Taken::Held => self.end = Some(end),
            }
        }
        if self.end.is_some() {
            self.held.push(batch);
            return Ok(());
        }
        log.done(&batch).await
    }

    /// Stores a batch of a writer's records. Lines that are held back stay so: the cursor waits for them.
    async fn take_records(&mut self, log: &SpoolLog, batch: SpooledBatch, producer: String) -> Result<()> {
        let parsing = tokio::task::spawn_blocking(move || {
            let parsed = spooled_batch::<R>(&batch, producer);
            (batch, parsed)
        });
        let (batch, parsed) = parsing.await.map_err(|_| Error::new(ErrorKind::Closed, "the program ended before a batch was read"))?;
        let (records, bad) = parsed?;
        if !bad.lines.is_empty() {
            log.keep_aside(&batch, bad.lines, &bad.reason).await?;
        }
        match self.intake.send(&records).await {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::Conflict => log.keep_aside(&batch, batch.payloads(), &error.to_string()).await?,
            Err(error) => return Err(error),
        }
        log.done(&batch).await
    }

    /// Records that are held back.
    fn held_rows(&self) -> u64 {
        self.held.iter().map(|batch| batch.rows).sum()
    }

    /// Nothing follows what is held: it is stored where the table knows a row that it has, and otherwise kept in
    /// a file of its own, for it may be stored already.
    pub(crate) async fn finish(&mut self, log: &SpoolLog) -> Result<()> {
        self.end = None;
        self.intake.finish(false).await?;
        for batch in self.held.drain(..) {
            if takes_twice(R::TABLE) {
                let lines = batch.frames.iter().flat_map(frame::lines).collect();
                let reason = "the ledger has more of a stream that begins with the same line, and these lines came to an end before it could \
                              be told whether they are part of it";
                log.keep_aside(&batch, lines, reason).await?;
            }
            log.done(&batch).await?;
        }
        Ok(())
    }

    /// Drains the log while lines come, and to its end once none do; tells whether they came to an end by
    /// themselves. What is held when the run is stopped stays in the log: its stream will come again.
    pub(super) async fn run(mut self, log: &SpoolLog, mut ended: watch::Receiver<Option<bool>>) -> Result<()> {
        let mut reader = log.reader().await?;
        loop {
            // Looked at first: what was spooled before the end is found after it.
            let at_end = *ended.borrow();
            if let Some(batch) = reader.try_next().await? {
                self.take(log, batch).await?;
                continue;
            }
            let Some(stopped) = at_end else {
                tokio::select! {
                    batch = reader.next() => self.take(log, batch?).await?,
                    _ = ended.changed() => {}
                }
                continue;
            };
            let waiting = log.waiting();
            let open = self.records_by.is_none();
            if open && waiting.bytes > 0 && (self.held.is_empty() || waiting.rows > self.held_rows()) {
                // The last frame is on disk and not sealed yet.
                tokio::time::sleep(LOOK).await;
                continue;
            }
            return if stopped { Ok(()) } else { self.finish(log).await };
        }
    }
}

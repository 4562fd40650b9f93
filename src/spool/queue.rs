//! Puts callers together: whoever comes while a write is under way shares the next one, and its sync.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard};

use chrono::Utc;
use tokio::sync::{Notify, OwnedSemaphorePermit, oneshot, watch};

use super::files::Files;
use super::format::{KIND_RECORDS, KIND_VOID, MAX_PAYLOAD, Position};
use super::lock::Lock;
use super::log::{Log, NewFrame, Waiting};
use super::reader::SpoolReader;
use super::reading::Reading;
use crate::error::{Error, ErrorKind, Result};
use crate::metrics::{SPOOL_AGE_SECONDS, SPOOL_BYTES};

/// Bytes that are written in one go, about.
const GROUP_BYTES: u64 = 4 << 20;

/// One table's log, as callers see it. Cheap to clone.
#[derive(Clone)]
pub(crate) struct SpoolLog {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    table: String,
    /// The spool's folder.
    folder: PathBuf,
    quota: u64,
    queue: Mutex<Queue>,
    pub(super) log: Mutex<Log>,
    /// Something was sealed.
    pub(super) sealed: Notify,
    pub(super) has_reader: AtomicBool,
    /// The reading that counts: one that was given up may end late, and must not hand out anything then.
    pub(super) turn: AtomicU64,
    /// How far batches are done.
    drained: watch::Sender<Position>,
    bytes_gauge: metrics::Gauge,
    age_gauge: metrics::Gauge,
    /// The folder stays ours while any of its logs is in use.
    _lock: Arc<Lock>,
}

#[derive(Default)]
struct Queue {
    items: Vec<Item>,
    /// Bytes of the frames in `items` and in the write that is under way.
    bytes: u64,
    /// What the log said last.
    waiting: Waiting,
    working: bool,
}

enum Item {
    Frame {
        frame: NewFrame,
        answer: oneshot::Sender<Result<()>>,
        /// Given back once the frame is on disk, whether anybody waits for that or not.
        room: Option<OwnedSemaphorePermit>,
    },
    Seal,
    /// Answer with where the log ends once all before is written.
    Mark(oneshot::Sender<Position>),
}

impl SpoolLog {
    pub(super) fn new(table: &str, quota: u64, log: Log, lock: Arc<Lock>) -> Self {
        let queue = Mutex::new(Queue { waiting: log.waiting(), ..Queue::default() });
        let log_waiting = log.waiting();
        let drained = watch::channel(log.drained()).0;
        let inner = Inner {
            drained,
            folder: log.folder.parent().unwrap_or(Path::new("")).to_owned(),
            bytes_gauge: metrics::gauge!(SPOOL_BYTES, "table" => table.to_owned()),
            age_gauge: metrics::gauge!(SPOOL_AGE_SECONDS, "table" => table.to_owned()),
            table: table.to_owned(),
            quota,
            queue,
            log: Mutex::new(log),
            sealed: Notify::new(),
            has_reader: AtomicBool::new(false),
            turn: AtomicU64::new(0),
            _lock: lock,
        };
        inner.gauge(log_waiting);
        Self { inner: Arc::new(inner) }
    }

    /// The table.
    pub(crate) fn table(&self) -> &str {
        &self.inner.table
    }

    /// Puts a frame on disk: it is there when this returns without an error. Frames with one batch id follow
    /// one another; the first with another id seals the batch before. A future that is dropped may have
    /// put its frame there, or not.
    ///
    /// # Errors
    /// `Full` when the quota is reached, `Disk` when it can't be written, `Conflict` when its batch is
    /// sealed or frames of another kind wait. With `Full` and `Conflict` nothing was written.
    #[cfg(any(feature = "cli", test))]
    pub(crate) async fn append(&self, frame: NewFrame) -> Result<()> {
        let answer = self.push(frame, None)?;
        answer.await.map_err(|_| self.closed())?
    }

    /// Takes a frame into the next write; the answer comes when it is on disk. Frames get there in the
    /// order in which they were pushed. `room` is given back when it is there.
    ///
    /// # Errors
    /// `Full` when the quota is reached, `Invalid` when the frame is empty or too long, `Conflict` while
    /// frames of another kind wait.
    pub(crate) fn push(&self, frame: NewFrame, room: Option<OwnedSemaphorePermit>) -> Result<oneshot::Receiver<Result<()>>> {
        let length = frame.payload.len();
        if !(1..=MAX_PAYLOAD).contains(&length) || frame.head.kind == KIND_VOID {
            return Err(Error::new(ErrorKind::Invalid, format!("{length} bytes are no payload for a frame of {}", self.inner.table)));
        }
        let (answer, answered) = oneshot::channel();
        let mut queue = self.inner.queue();
        self.inner.require_only(queue.waiting, frame.head.kind)?;
        let after = queue.waiting.bytes + queue.bytes + frame.span();
        if after > self.inner.quota {
            return Err(Error::new(
                ErrorKind::Full,
                format!(
                    "the spool of {} has reached its quota of {} bytes; the record was not taken: wait until the database takes records again, or raise the quota",
                    self.inner.table, self.inner.quota
                ),
            ));
        }
        queue.bytes += frame.span();
        queue.items.push(Item::Frame { frame, answer, room });
        self.work(queue);
        Ok(answered)
    }

    /// Whoever writes frames of one kind drains no others, and would wait for them for ever.
    ///
    /// # Errors
    /// `Conflict` while frames of another kind wait.
    pub(crate) fn require_only(&self, kind: u8) -> Result<()> {
        self.inner.require_only(self.waiting(), kind)
    }

    /// No frame joins the last batch any more: it is complete once its frames are on disk.
    pub(crate) fn seal(&self) {
        let mut queue = self.inner.queue();
        queue.items.push(Item::Seal);
        self.work(queue);
    }

    /// Comes to its end once all that was pushed before is done. With another frame's batch still open
    /// it would wait for that: seal first.
    ///
    /// # Errors
    /// `Closed` when the program is ending.
    pub(crate) async fn drained(&self) -> Result<()> {
        let (answer, marked) = oneshot::channel();
        {
            let mut queue = self.inner.queue();
            queue.items.push(Item::Mark(answer));
            self.work(queue);
        }
        let mark = marked.await.map_err(|_| self.closed())?;
        let mut drained = self.inner.drained.subscribe();
        drained.wait_for(|drained| *drained >= mark).await.map(|_| ()).map_err(|_| self.closed())
    }

    fn work(&self, mut queue: MutexGuard<'_, Queue>) {
        if !std::mem::replace(&mut queue.working, true) {
            drop(queue);
            let work = Work { inner: self.inner.clone(), idle: false };
            tokio::task::spawn_blocking(move || work.run());
        }
    }

    /// Nothing gets to the disk until this is dropped.
    #[cfg(test)]
    pub(crate) fn stall(&self) -> impl Drop + '_ {
        self.inner.log()
    }

    /// What waits, frames that are being written left out.
    pub(crate) fn waiting(&self) -> Waiting {
        self.inner.queue().waiting
    }

    /// The one reader of the log. A new one begins with the first batch that isn't done.
    ///
    /// # Errors
    /// `Conflict` while there is another.
    pub(crate) async fn reader(&self) -> Result<SpoolReader> {
        if self.inner.has_reader.swap(true, SeqCst) {
            return Err(Error::new(ErrorKind::Conflict, format!("the spool of {} is being drained already", self.inner.table)));
        }
        // From here on dropping it lets go.
        let mut reader = SpoolReader { log: self.clone(), reading: Reading::default() };
        self.inner.turn.fetch_add(1, SeqCst);
        let at = self.blocking(|inner| Ok(inner.log().read_again())).await?;
        reader.reading = Reading::from(at);
        Ok(reader)
    }

    /// Runs something that waits for the disk where waiting harms nobody.
    pub(super) async fn blocking<T: Send + 'static>(&self, f: impl FnOnce(&Inner) -> Result<T> + Send + 'static) -> Result<T> {
        let inner = self.inner.clone();
        tokio::task::spawn_blocking(move || f(&inner)).await.map_err(|_| self.closed())?
    }

    pub(super) fn closed(&self) -> Error {
        Error::new(ErrorKind::Closed, format!("the program ended before the spool of {} had answered", self.inner.table))
    }
}

impl Inner {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn require_only(&self, waiting: Waiting, kind: u8) -> Result<()> {
        if !waiting.has_other_than(kind) {
            return Ok(());
        }
        let (records, lines) = ("a writer's records", "lines of hitherto ingest");
        let (ours, theirs) = if kind == KIND_RECORDS { (records, lines) } else { (lines, records) };
        let (table, folder) = (&self.table, self.folder.display());
        Err(Error::new(
            ErrorKind::Conflict,
            format!(
                "{theirs} wait in the spool of {table} in {folder}, and {ours} can't go behind them; send them with hitherto spool replay --dir {folder}, or name another folder"
            ),
        ))
    }

    /// Held while the disk works: for threads that may wait.
    pub(super) fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Where the log's files are.
    pub(super) fn place(&self) -> (Arc<dyn Files>, PathBuf) {
        let log = self.log();
        (log.files.clone(), log.folder.clone())
    }

    /// Tells the queue what the log holds now.
    pub(super) fn note(&self, log: &Log) {
        self.queue().waiting = log.waiting();
        self.gauge(log.waiting());
        self.drained.send_replace(log.drained());
    }

    fn gauge(&self, waiting: Waiting) {
        self.bytes_gauge.set(waiting.bytes as f64);
        let age = waiting.oldest_at.map_or(0, |at| (Utc::now().timestamp_micros() - at).max(0));
        self.age_gauge.set(age as f64 / 1e6);
    }
}

/// The thread that writes, while there is something to write.
struct Work {
    inner: Arc<Inner>,
    idle: bool,
}

impl Work {
    fn run(mut self) {
        loop {
            let items = {
                let mut queue = self.inner.queue();
                let mut bytes = 0;
                let fit = queue.items.iter().take_while(|item| {
                    let before = bytes;
                    bytes += if let Item::Frame { frame, .. } = item { frame.span() } else { 0 };
                    before == 0 || bytes <= GROUP_BYTES
                });
                let count = fit.count();
                if count == 0 {
                    // Whoever comes now starts another.
                    (queue.working, self.idle) = (false, true);
                    return;
                }
                queue.items.drain(..count).collect::<Vec<_>>()
            };
            let (mut frames, mut waiting, mut rooms, mut marks, mut seal) = (Vec::new(), Vec::new(), Vec::new(), Vec::new(), false);
            for item in items {
                match item {
                    Item::Frame { frame, answer, room } => {
                        // A seal that frames follow is told by their other batch.
                        seal = false;
                        frames.push(frame);
                        waiting.push(answer);
                        rooms.extend(room);
                    }
                    Item::Seal => seal = true,
                    Item::Mark(answer) => marks.push(answer),
                }
            }
            let mut log = self.inner.log();
            let sealed = log.sealed();
            let answers = log.append(&frames);
            if seal {
                log.seal();
            }
            let news = log.sealed() != sealed;
            {
                let mut queue = self.inner.queue();
                queue.bytes -= frames.iter().map(NewFrame::span).sum::<u64>();
                queue.waiting = log.waiting();
            }
            self.inner.gauge(log.waiting());
            let end = log.complete_end();
            drop((log, rooms));
            for mark in marks {
                let _ = mark.send(end);
            }
            for (answer, waiting) in answers.into_iter().zip(waiting) {
                let _ = waiting.send(answer);
            }
            if news {
                self.inner.sealed.notify_one();
            }
        }
    }
}

impl Drop for Work {
    /// The program ends, or the thread gave way: those who wait are told.
    fn drop(&mut self) {
        if self.idle {
            return;
        }
        let mut queue = self.inner.queue();
        queue.working = false;
        let left = std::mem::take(&mut queue.items);
        for item in &left {
            if let Item::Frame { frame, .. } = item {
                queue.bytes = queue.bytes.saturating_sub(frame.span());
            }
        }
    }
}

//! One table's queue: writers put records in, the lane takes batches out.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::{Notify, Semaphore, oneshot};
use tokio::time::Instant;

use super::config::WriterConfig;
use super::count::QueueGauges;
use super::durability::Durability;
use super::shared::Counters;
use crate::error::{Error, Result};

/// Who waits for a record's fate, and the record's place in its batch.
pub(super) type Answer = (usize, oneshot::Sender<Result<()>>);

/// Records that make a batch.
pub(super) struct Gathered<R> {
    /// Batches of a queue are numbered in the order of their records.
    pub(super) number: u64,
    pub(super) rows: Vec<R>,
    pub(super) bytes: u64,
    pub(super) answers: Vec<Answer>,
    /// When the first record came.
    since: Instant,
}

impl<R> Gathered<R> {
    fn new(number: u64) -> Self {
        Self { number, rows: Vec::new(), bytes: 0, answers: Vec::new(), since: Instant::now() }
    }
}

/// Records of one table on their way to the lane.
///
/// A record is put straight into its batch, so that the lane is woken once or twice a batch and not
/// for every record.
pub(super) struct Queue<R> {
    state: Mutex<State<R>>,
    /// Bytes that are free.
    pub(super) room: Semaphore,
    /// There is something for the lane to look at.
    pub(super) changed: Notify,
    max_rows: usize,
    max_bytes: u64,
    /// How long a batch gathers records before it is due.
    max_age: Duration,
    answered: bool,
    gauges: QueueGauges,
}

struct State<R> {
    /// The batch that records go into.
    gathering: Gathered<R>,
    /// Rows of the batch before.
    last_rows: usize,
    /// Batches that take no more.
    sealed: VecDeque<Gathered<R>>,
    /// Numbers of the batches that are sealed or under way.
    outstanding: BTreeSet<u64>,
    /// Who wants to know when all batches up to a number are stored.
    flushes: VecDeque<(u64, oneshot::Sender<()>)>,
    closed: bool,
    ended: bool,
    /// Nobody sends what is here any more.
    abandoned: bool,
}

/// What the lane does next.
pub(super) enum Next<R> {
    Send(Gathered<R>),
    /// Nothing is due until then.
    Wait(Instant),
    /// Nothing is there.
    Idle,
    /// Nothing is there, and nothing will be.
    End,
}

impl<R> Queue<R> {
    pub(super) fn new(config: &WriterConfig, table: &'static str) -> Self {
        let answered = matches!(config.durability, Durability::Commit);
        Self {
            state: Mutex::new(State {
                gathering: Gathered::new(0),
                last_rows: 0,
                sealed: VecDeque::new(),
                outstanding: BTreeSet::new(),
                flushes: VecDeque::new(),
                closed: false,
                ended: false,
                abandoned: false,
            }),
            room: Semaphore::new(config.queue_bytes),
            changed: Notify::new(),
            max_rows: config.max_batch_rows,
            max_bytes: config.max_batch_bytes as u64,
            // Whoever waits for a COMMIT does not wait for others first.
            max_age: if answered { Duration::ZERO } else { config.max_age },
            answered,
            gauges: QueueGauges::new(table),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<R>> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Takes a record whose room is secured, unless the queue is closed. Gives back what tells the
    /// record's fate, where the durability asks for it.
    pub(super) fn put(&self, record: R, size: u32, counters: &Counters) -> Result<Option<oneshot::Receiver<Result<()>>>> {
        let (wake, fate) = {
            let mut state = self.lock();
            if state.closed {
                return Err(super::closed());
            }
            let State { gathering: batch, last_rows, .. } = &mut *state;
            let first = batch.rows.is_empty();
            if first {
                batch.since = Instant::now();
                // It is likely to be as large as the last one.
                batch.rows.reserve(*last_rows);
            }
            let fate = self.answered.then(|| {
                let (answer, fate) = oneshot::channel();
                batch.answers.push((batch.rows.len(), answer));
                fate
            });
            batch.rows.push(record);
            batch.bytes += u64::from(size);
            counters.entered(u64::from(size));
            self.gauges.entered(u64::from(size));
            let full = batch.rows.len() >= self.max_rows || batch.bytes >= self.max_bytes;
            if full {
                state.seal();
            }
            (first || full, fate)
        };
        if wake {
            self.changed.notify_one();
        }
        Ok(fate)
    }

    /// A record finds no room. When all that is here is one batch that gathers, it is due: no other
    /// record can join it.
    pub(super) fn press(&self) {
        let mut state = self.lock();
        if state.outstanding.is_empty() && !state.gathering.rows.is_empty() {
            state.seal();
            self.changed.notify_one();
        }
    }

    pub(super) fn next(&self) -> Next<R> {
        let mut state = self.lock();
        if state.sealed.is_empty() && !state.gathering.rows.is_empty() {
            let due = state.gathering.since + self.max_age;
            if due > Instant::now() && !state.ended {
                return Next::Wait(due);
            }
            state.seal();
        }
        match state.sealed.pop_front() {
            Some(batch) => Next::Send(batch),
            None if state.ended => Next::End,
            None => Next::Idle,
        }
    }

    /// A batch is stored: its room is free, and those who waited for it know.
    pub(super) fn stored(&self, number: u64, rows: u64, bytes: u64) {
        self.gauges.left(rows, bytes);
        let answers: Vec<_> = {
            let mut state = self.lock();
            state.outstanding.remove(&number);
            let oldest = state.outstanding.first().copied().unwrap_or(u64::MAX);
            let count = state.flushes.iter().take_while(|(last, _)| *last < oldest).count();
            state.flushes.drain(..count).collect()
        };
        self.room.add_permits(bytes as usize);
        for (_, answer) in answers {
            let _ = answer.send(());
        }
    }

    /// The lane is gone, whatever the reason: nobody is to wait for it.
    pub(super) fn abandon(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.abandoned = true;
        state.flushes.clear();
        state.gathering.answers.clear();
        state.sealed.clear();
        self.room.close();
    }
}

impl<R> State<R> {
    fn seal(&mut self) {
        let fresh = Gathered::new(self.gathering.number + 1);
        let batch = std::mem::replace(&mut self.gathering, fresh);
        self.last_rows = batch.rows.len();
        self.outstanding.insert(batch.number);
        self.sealed.push_back(batch);
    }
}

/// A queue, whatever its records are.
pub(super) trait AnyQueue: Send + Sync {
    /// Comes to an answer once all that was put in before is stored; to an error if it never will be.
    fn flush(&self) -> oneshot::Receiver<()>;

    /// Takes no more records.
    fn close(&self);

    /// Takes no more records; the lane ends once it has sent what is there.
    fn end(&self);

    /// The lane is gone once this is done; only a lane over the disk is waited for.
    fn ended(&self) -> BoxFuture<'static, ()> {
        Box::pin(std::future::ready(()))
    }
}

impl<R: Send> AnyQueue for Queue<R> {
    fn flush(&self) -> oneshot::Receiver<()> {
        let (answer, answered) = oneshot::channel();
        let mut state = self.lock();
        if state.abandoned {
            // Dropped without a word, the answer is an error.
            return answered;
        }
        if !state.gathering.rows.is_empty() {
            state.seal();
            self.changed.notify_one();
        }
        match state.outstanding.last().copied() {
            Some(last) => state.flushes.push_back((last, answer)),
            None => drop(answer.send(())),
        }
        answered
    }

    fn close(&self) {
        self.lock().closed = true;
    }

    fn end(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.ended = true;
        self.changed.notify_one();
    }
}

/// The record that a caller wrote was refused.
pub(super) fn refused(table: &str, reason: &str) -> Error {
    Error::new(crate::error::ErrorKind::Invalid, format!("{table}: the database refused the record, which is in quarantine now: {reason}"))
}

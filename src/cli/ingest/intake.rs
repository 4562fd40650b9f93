//! Puts pieces into the database, in their order, leaving out what an earlier run has taken care of.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use uuid::Uuid;

use super::chain::{Chain, End, Key};
use super::piece::{Mark, Piece};
use super::progress::Progress;
use crate::error::{Error, Result};
use crate::records::Record;
use crate::store::Store;
use crate::writer::{Batch, Guard, Patience, Stored, is_overtaken, takes_twice};

/// What the ledger has of a cell.
pub(super) struct Known {
    /// Where batches of the cell end, the last one last.
    ends: Vec<End>,
    last: Option<Uuid>,
    /// Ends of batches that have an id of the form before.
    early: HashSet<Uuid>,
}

impl Known {
    /// Lines of the cell, up to the end of this piece, that were taken care of.
    fn reach<R>(&self, piece: &Piece<R>) -> usize {
        let end = |place: usize| -> Option<&Chain> { piece.ends.get(place.checked_sub(piece.from + 1)?) };
        let reach = self.ends.iter().rev().find(|known| end(known.place).is_some_and(|end| known.is(end))).map_or(0, |known| known.place);
        let early = if self.early.is_empty() {
            0
        } else {
            piece.ends.iter().rposition(|end| self.early.contains(&end.early_id())).map_or(0, |at| piece.from + at + 1)
        };
        reach.max(early)
    }

    /// A batch ends behind this piece: whether its lines are these can't be told yet.
    fn is_beyond<R>(&self, piece: &Piece<R>) -> bool {
        self.ends.last().is_some_and(|known| known.place > piece.to())
    }
}

/// What became of the lines of a piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    /// They are taken care of, and those that were held before them.
    All,
    /// Nothing was done: it depends on the lines that follow.
    Held,
}

pub(super) struct Intake<R> {
    store: Store,
    pub(super) producer: String,
    patience: Patience,
    progress: Arc<Progress>,
    /// Lines that an earlier run refused and that look good, and whether they were passed over.
    pub(super) settled: Vec<(Mark, bool)>,
    held: Option<Piece<R>>,
}

impl<R: Record> Intake<R> {
    pub(super) fn new(store: Store, producer: String, patience: Patience, progress: Arc<Progress>) -> Self {
        Self { store, producer, patience, progress, settled: Vec::new(), held: None }
    }

    /// Stores what of a piece the ledger does not have. `known` is what it had of the piece's cell when that
    /// was looked up, if it was.
    pub(super) async fn take(&mut self, piece: Piece<R>, known: Option<Known>) -> Result<Taken> {
        let whole = match self.held.take() {
            Some(mut held) => {
                held.join(piece);
                held
            }
            None => piece,
        };
        self.store_or_hold(whole, known, false).await
    }

    /// No line follows: decides about lines that are held. Those whose run was stopped are sent again, from the
    /// stream's start, and so are those of a table that takes a row twice: they are left out, and counted.
    pub(super) async fn finish(&mut self, stopped: bool) -> Result<()> {
        let Some(piece) = self.held.take() else { return Ok(()) };
        if stopped || takes_twice(R::TABLE) {
            self.progress.held.fetch_add(piece.rows.len() as u64, Relaxed);
            self.settled.extend(piece.refused_before.iter().map(|(_, mark)| (*mark, true)));
            self.progress.settled.fetch_add(piece.ends.len() as u64, Relaxed);
            return Ok(());
        }
        self.store_or_hold(piece, None, true).await.map(|_| ())
    }

    async fn store_or_hold(&mut self, mut piece: Piece<R>, mut known: Option<Known>, last: bool) -> Result<Taken> {
        let lines = piece.ends.len() as u64;
        loop {
            let found = match known.take() {
                Some(known) => known,
                None => self.look(&piece).await?,
            };
            if found.is_beyond(&piece) && !piece.closes && !last {
                self.held = Some(piece);
                return Ok(Taken::Held);
            }
            let done = found.reach(&piece);
            piece.skip(done);
            if !piece.rows.is_empty() {
                let (id, guard) = (piece.key.id(piece.to(), piece.end()), Guard { range: piece.key.range(), last: found.last });
                let batch = Batch::guarded(id, self.producer.clone(), std::mem::take(&mut piece.rows), guard);
                match self.send(&batch).await {
                    Ok(_) => {}
                    Err(error) if is_overtaken(&error) => {
                        piece.rows = batch.into_rows();
                        continue;
                    }
                    Err(error) => return Err(error),
                }
            }
            self.progress.already.fetch_add(done.saturating_sub(piece.from) as u64, Relaxed);
            self.settled.extend(piece.refused_before.drain(..).map(|(place, mark)| (mark, place < done)));
            self.progress.settled.fetch_add(lines, Relaxed);
            return Ok(Taken::All);
        }
    }

    /// Stores a batch and counts what was stored.
    pub(super) async fn send(&self, batch: &Batch<R>) -> Result<Stored> {
        let sent = self.store.batch_send(batch, self.patience, |_| {
            self.progress.failures.fetch_add(1, Relaxed);
        });
        let stored = sent.await?;
        self.progress.failures.store(0, Relaxed);
        self.progress.batches.fetch_add(1, Relaxed);
        self.progress.stored.fetch_add(stored.rows, Relaxed);
        self.progress.duplicates.fetch_add(stored.duplicates, Relaxed);
        self.progress.quarantined.fetch_add(stored.quarantined, Relaxed);
        Ok(stored)
    }

    async fn look(&self, piece: &Piece<R>) -> Result<Known> {
        look(&self.store, self.patience, &self.progress, piece.key, &piece.ends).await
    }
}

/// What the ledger has of a cell, and which of these places batches of the form before end at.
pub(super) async fn look(store: &Store, patience: Patience, progress: &Progress, key: Key, ends: &[Chain]) -> Result<Known> {
    let early: Vec<Uuid> = ends.iter().map(Chain::early_id).collect();
    let backoff =
        ExponentialBuilder::default().with_min_delay(Duration::from_millis(50)).with_max_delay(Duration::from_secs(5)).with_jitter();
    let backoff = match patience {
        Patience::Endless => backoff.without_max_times(),
        Patience::Tries(tries) => backoff.with_max_times(tries.saturating_sub(1)),
    };
    let (from, to) = key.range();
    let ids: Vec<Uuid> = (|| store.batches_known((from, to), &early))
        .retry(backoff)
        .when(Error::is_retryable)
        .notify(|error, pause| {
            progress.failures.fetch_add(1, Relaxed);
            tracing::warn!(%error, ?pause, "the ledger can't be read, trying again");
        })
        .await?;
    let (mut ours, early): (Vec<Uuid>, HashSet<Uuid>) = {
        let (ours, early): (Vec<Uuid>, Vec<Uuid>) = ids.into_iter().partition(|id| (from..=to).contains(id));
        (ours, early.into_iter().collect())
    };
    ours.sort_unstable();
    Ok(Known { last: ours.last().copied(), ends: ours.into_iter().map(End::of).collect(), early })
}

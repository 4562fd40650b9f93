//! From a file or pipe straight into the database.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::intake::{self, Intake, Known};
use super::parse::{Parsed, Parsing};
use super::progress::Progress;
use super::rejects::Rejects;
use super::source::Source;
use super::stop::Stop;
use super::worker::{self, Handed};
use super::{Database, Job, Summary, interrupted};
use crate::error::{Error, ErrorKind, Result};
use crate::records::Record;
use crate::store::Store;
use crate::writer::Patience;

impl Job<'_> {
    pub(super) async fn direct<R: Record>(&self, source: Source, rejects: Rejects, database: &Database, stop: &Stop) -> Result<Summary> {
        let store = tokio::select! {
            store = database.store() => store?,
            () = stop.asked(1) => return Err(interrupted()),
        };
        let _watch = self.watch::<R>(source.total_bytes, None);
        tokio::select! {
            ended = self.send::<R>(source, rejects, store, stop) => ended,
            () = stop.overdue(self.stop_within()) => Err(self.left_behind()),
        }
    }

    async fn send<R: Record>(&self, source: Source, mut rejects: Rejects, store: Store, stop: &Stop) -> Result<Summary> {
        let parsing = Parsing {
            refused_before: rejects.earlier(),
            max_age: self.endless.then_some(self.args.max_age),
            spool: false,
            stop: stop.flag.clone(),
            progress: self.progress.clone(),
        };
        // Whoever feeds a pipe goes on by and by, and would lose what was read.
        let patience = if self.endless { Patience::Endless } else { Patience::Tries(store.config().max_attempts) };
        let parsed = parsing.start::<R>(source.start(stop.flag.clone()));
        let mut pieces = look_ahead(parsed, store.clone(), patience, self.progress.clone());
        let mut intake = Intake::new(store, self.args.producer.clone(), patience, self.progress.clone());
        let stopped = loop {
            let (parsed, known) = pieces.next().await?;
            let mut end = None;
            match parsed {
                Parsed::Piece(mut piece) => {
                    for refused in piece.refused.drain(..) {
                        rejects.add(refused)?;
                    }
                    // Before the ledger says that they were taken care of.
                    rejects.secure()?;
                    intake.take(piece, known.transpose()?).await?;
                }
                Parsed::Half(refused) => rejects.add(refused)?,
                Parsed::End { stopped } => {
                    intake.finish(stopped).await?;
                    end = Some(stopped);
                }
                Parsed::Failed(error) => return Err(error),
            }
            for (mark, passed_over) in intake.settled.drain(..) {
                rejects.settle(mark, passed_over);
            }
            if let Some(stopped) = end {
                break stopped;
            }
        };
        let rejected = rejects.count();
        Ok(Summary { rejected, rejects: rejects.finish(self.endless)?, stopped, ..self.summary::<R>() })
    }

    /// Told to stop, and the database does not take what was read.
    fn left_behind(&self) -> Error {
        let left = self.progress.lines.load(Relaxed).saturating_sub(self.progress.settled.load(Relaxed));
        let message = format!(
            "stopped; the database did not take all within {} s, and {left} lines that were read are not stored: send the stream again from \
             its start, what is stored is not stored twice",
            self.stop_within().as_secs_f64()
        );
        Error::new(ErrorKind::Timeout, message)
    }
}

/// A piece, and what the ledger has of its cell where that can be said before the piece's turn.
type Ahead<R> = (Parsed<R>, Option<Result<Known>>);

/// Looks the next cell up while the one before is stored.
fn look_ahead<R: Record>(mut parsed: Handed<Parsed<R>>, store: Store, patience: Patience, progress: Arc<Progress>) -> Handed<Ahead<R>> {
    worker::task("the look-up ahead", 1, async move |to| {
        loop {
            let parsed = parsed.next().await.unwrap_or_else(Parsed::Failed);
            let is_last = matches!(parsed, Parsed::End { .. } | Parsed::Failed(_));
            let known = match &parsed {
                // Later pieces of a cell follow ones that are still under way.
                Parsed::Piece(piece) if piece.from == 0 => Some(intake::look(&store, patience, &progress, piece.key, &piece.ends).await),
                _ => None,
            };
            if to.send((parsed, known)).await.is_err() || is_last {
                return;
            }
        }
    })
}

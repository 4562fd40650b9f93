//! From a file or pipe onto disk, and from there into the database whenever it is there.

use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use backon::{ExponentialBuilder, Retryable};
use tokio::sync::watch;

use super::drain::Drain;
use super::frame;
use super::parse::{Parsed, Parsing};
use super::piece::Piece;
use super::rejects::Rejects;
use super::source::Source;
use super::stop::Stop;
use super::{Database, Job, Summary};
use crate::error::{Error, ErrorKind, Result};
use crate::records::Record;
use crate::spool::{KIND_LINES, Spool, SpoolConfig, SpoolLog};
use crate::store::Store;
use crate::writer::Patience;

/// How often a spool that is full is asked whether there is room again.
const ROOM: Duration = Duration::from_millis(100);
/// How often it is looked whether the database still takes something when no line is left to read.
const LOOK: Duration = Duration::from_millis(100);

impl Job<'_> {
    pub(super) async fn spooled<R: Record>(
        &self,
        source: Source,
        rejects: Rejects,
        database: &Database,
        folder: &Path,
        stop: &Stop,
    ) -> Result<Summary> {
        // A wrong URL is told now, and not when the spool is full.
        let config = database.config()?;
        let settings = SpoolConfig { quota_bytes: self.args.spool_bytes, ..SpoolConfig::new(folder) };
        let opened = tokio::task::spawn_blocking(move || Spool::open(settings)).await;
        let spool = opened.map_err(|_| Error::new(ErrorKind::Closed, "the program ended before the spool was open"))??;
        let log = spool.log(R::TABLE).await?;
        log.require_only(KIND_LINES)?;
        for table in spool.tables().iter().filter(|table| *table != R::TABLE) {
            let rows = spool.existing_log(table).map_or(0, |log| log.waiting().rows);
            if rows > 0 {
                tracing::warn!("{rows} records of {table} wait in the spool; hitherto spool replay puts them in");
            }
        }
        let _watch = self.watch::<R>(source.total_bytes, Some(log.clone()));
        let (tell, ended) = watch::channel(None);
        let reading = async {
            let read = self.read::<R>(source, rejects, &log, stop).await?;
            tell.send_replace(Some(read.stopped));
            Ok::<_, Error>(read)
        };
        let (mut reading, mut draining) = (std::pin::pin!(reading), std::pin::pin!(self.drain::<R>(config, &log, ended.clone())));
        let mut read = None;
        loop {
            tokio::select! {
                summary = &mut reading, if read.is_none() => read = Some(summary?),
                drained = &mut draining => {
                    if let Err(error) = drained {
                        // What was taken from the pipe gets to the disk before the error is told.
                        stop.flag.store(true, Relaxed);
                        if read.is_none() {
                            let _ = tokio::time::timeout(self.stop_within(), &mut reading).await;
                        }
                        return Err(self.kept(error, &log));
                    }
                    // It ends when reading has.
                    break;
                }
                () = self.gave_up(ended.clone(), stop), if read.is_some() => break,
                () = stop.overdue(self.stop_within()), if read.is_none() => {
                    let lines = self.progress.lines.load(Relaxed).saturating_sub(self.progress.spooled.load(Relaxed));
                    return Err(Error::new(ErrorKind::Full, format!("stopped; the spool did not take {lines} lines that were read: send the stream again from its start, what is stored or in the spool is not stored twice")));
                }
            }
        }
        let read = match read {
            Some(read) => read,
            None => reading.await?,
        };
        Ok(Summary {
            rejected: read.rejected,
            rejects: read.rejects,
            stopped: read.stopped,
            waiting: log.waiting().rows,
            ..self.summary::<R>()
        })
    }

    /// Reads all there is into the spool.
    async fn read<R: Record>(&self, source: Source, mut rejects: Rejects, log: &SpoolLog, stop: &Stop) -> Result<Summary> {
        let parsing = Parsing {
            refused_before: rejects.earlier(),
            max_age: self.endless.then_some(self.args.max_age),
            spool: true,
            stop: stop.flag.clone(),
            progress: self.progress.clone(),
        };
        let mut parsed = parsing.start::<R>(source.start(stop.flag.clone()));
        let stopped = loop {
            match parsed.next().await? {
                Parsed::Piece(mut piece) => {
                    for refused in piece.refused.drain(..) {
                        rejects.add(refused)?;
                    }
                    rejects.secure()?;
                    self.append(&piece, log).await?;
                    self.progress.spooled.fetch_add(piece.ends.len() as u64, Relaxed);
                }
                Parsed::Half(refused) => rejects.add(refused)?,
                Parsed::End { stopped } => break stopped,
                Parsed::Failed(error) => return Err(error),
            }
        };
        Ok(Summary { rejected: rejects.count(), rejects: rejects.finish(self.endless)?, stopped, ..Summary::default() })
    }

    /// Puts a piece on disk; waits while the spool is full.
    async fn append<R: Record>(&self, piece: &Piece<R>, log: &SpoolLog) -> Result<()> {
        let frame = frame::write(piece, &self.args.producer)?;
        let mut told = false;
        loop {
            match log.append(frame.clone()).await {
                Err(error) if error.kind() == ErrorKind::Full => {
                    if !told {
                        tracing::warn!("the spool is full; the lines wait until the database takes some");
                        told = true;
                    }
                    tokio::time::sleep(ROOM).await;
                }
                other => {
                    // A frame is a batch: it can be sent at once.
                    log.seal();
                    return other;
                }
            }
        }
    }

    async fn drain<R: Record>(&self, config: crate::Config, log: &SpoolLog, ended: watch::Receiver<Option<bool>>) -> Result<()> {
        let backoff =
            ExponentialBuilder::default().with_min_delay(Duration::from_millis(100)).with_max_delay(Duration::from_secs(5)).with_jitter();
        let store = (|| Store::connect(config.clone()))
            .retry(backoff.without_max_times())
            .when(Error::is_retryable)
            .notify(|error, pause| {
                self.progress.failures.fetch_add(1, Relaxed);
                tracing::warn!(%error, ?pause, "the database is away; lines wait in the spool");
            })
            .await?;
        self.progress.failures.store(0, Relaxed);
        Drain::<R>::new(store, Patience::Endless, self.progress.clone()).run(log, ended).await
    }

    /// Reading is over, and the database has taken nothing for as long as it may take at the end.
    async fn gave_up(&self, mut ended: watch::Receiver<Option<bool>>, stop: &Stop) {
        let _ = ended.wait_for(Option::is_some).await;
        let (began, limit) = (Instant::now(), self.stop_within());
        let (mut settled, mut moved) = (self.progress.settled.load(Relaxed), began);
        loop {
            tokio::time::sleep(LOOK).await;
            let now = self.progress.settled.load(Relaxed);
            if now != settled {
                (settled, moved) = (now, Instant::now());
            }
            // Told to stop, the limit is one; a backlog that goes down may take its time.
            let since = if stop.by().is_some() { began } else { moved };
            if since.elapsed() >= limit {
                return;
            }
        }
    }

    /// The database turned the lines down, and they are still there.
    fn kept(&self, error: Error, log: &SpoolLog) -> Error {
        let waiting = log.waiting().rows;
        Error::new(error.kind(), format!("{error}; {waiting} records wait in the spool")).caused_by(error)
    }
}

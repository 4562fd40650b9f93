//! How far a run has come, and who is told.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use serde::Serialize;

use crate::spool::SpoolLog;

/// Counters that reader, parser and sender share.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// Bytes parsed.
    pub(super) bytes: AtomicU64,
    /// Lines parsed, blank ones left out.
    pub(super) lines: AtomicU64,
    /// Lines that are in the spool, those refused among them.
    pub(super) spooled: AtomicU64,
    /// Lines taken care of: stored, refused or known.
    pub(super) settled: AtomicU64,
    /// Batches sent now.
    pub(super) batches: AtomicU64,
    pub(super) stored: AtomicU64,
    pub(super) already: AtomicU64,
    pub(super) duplicates: AtomicU64,
    pub(super) quarantined: AtomicU64,
    pub(super) held: AtomicU64,
    /// Tries that failed since the database last took something; 0 when all is well.
    pub(super) failures: AtomicU64,
}

/// One line of what `--watch` says.
#[derive(Debug, Serialize)]
struct Glance {
    table: &'static str,
    lines: u64,
    lines_per_second: u64,
    /// Rows stored.
    stored: u64,
    /// Lines that are neither stored nor refused yet.
    waiting: u64,
    /// Bytes in the spool, where there is one.
    spool_bytes: Option<u64>,
    /// `up`, or `away` while it does not answer.
    database: &'static str,
}

impl Glance {
    fn text(&self) -> String {
        let spool = self.spool_bytes.map(|bytes| format!(", {bytes} bytes in the spool")).unwrap_or_default();
        format!(
            "{}: {} lines, {} lines/s, {} rows stored, {} waiting{spool}, database {}",
            self.table, self.lines, self.lines_per_second, self.stored, self.waiting, self.database
        )
    }
}

/// Tells how far the run has come, until it is dropped.
pub(super) struct Watch(tokio::task::JoinHandle<()>);

impl Watch {
    /// On the bar, where there is one; with `every_second` a line a second on standard error.
    pub(super) fn start(
        table: &'static str,
        progress: Arc<Progress>,
        spool: Option<SpoolLog>,
        bar: ProgressBar,
        every_second: bool,
        json: bool,
    ) -> Self {
        Self(tokio::spawn(async move {
            let mut ticks = tokio::time::interval(Duration::from_secs(1));
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            ticks.tick().await;
            let (mut before, mut then) = (0, Instant::now());
            loop {
                ticks.tick().await;
                let (lines, settled) = (progress.lines.load(Relaxed), progress.settled.load(Relaxed));
                let rate = (lines - before) as f64 / then.elapsed().as_secs_f64();
                (before, then) = (lines, Instant::now());
                let waiting = spool.as_ref().map(SpoolLog::waiting);
                let unspooled = lines.saturating_sub(progress.spooled.load(Relaxed));
                let glance = Glance {
                    table,
                    lines,
                    lines_per_second: rate as u64,
                    stored: progress.stored.load(Relaxed),
                    waiting: waiting.map_or(lines.saturating_sub(settled), |waiting| waiting.rows + unspooled),
                    spool_bytes: waiting.map(|waiting| waiting.bytes),
                    database: if progress.failures.load(Relaxed) == 0 { "up" } else { "away" },
                };
                bar.set_position(progress.bytes.load(Relaxed));
                bar.set_message(format!("{} lines/s", glance.lines_per_second));
                if every_second {
                    let line = if json { serde_json::to_string(&glance).unwrap_or_default() } else { glance.text() };
                    bar.suspend(|| drop(writeln!(std::io::stderr(), "{line}")));
                }
            }
        }))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.abort();
    }
}

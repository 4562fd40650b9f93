//! `hitherto ingest`

mod chain;
mod claim;
mod direct;
mod drain;
mod frame;
mod intake;
mod lines;
mod parse;
mod piece;
mod progress;
mod rejects;
mod source;
mod spooled;
mod stop;
mod worker;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use futures_util::future::LocalBoxFuture;
use serde::Serialize;

use super::Ending;
use super::connect::Database;
use super::output::Output;
use crate::error::{Error, ErrorKind, Result};
use crate::records::{Record, TABLES, WithRecord, with_record_of};
use crate::spool::Spool;
use crate::store::Store;
use crate::writer::{Patience, encode_rows};
use parse::{Parsed, Parsing};
use progress::{Progress, Watch};
use rejects::Rejects;
use source::Source;
use stop::{Asked, Stop};

/// Put newline-delimited JSON into a table.
///
/// One record a line; field names are the column names, `module` (a name) stands for module_id; times are
/// RFC 3339; decimals are JSON strings or numbers, kept exact. An id that a record lacks is derived from
/// its line. A file that was ingested before adds nothing, and one that has grown since adds what is new;
/// what stands in it already must not be edited. Refused lines go to a file of their own: correct the text there,
/// and ingest that file.
///
/// A pipe may go on for ever: its lines are stored when a batch is full or old enough, and while the database
/// is away the pipe waits, or the spool fills. SIGTERM ends the run once what was read is stored. A stream that
/// is sent again from its start adds what is new.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Example:
  echo '{\"module\":\"technical\",\"checked_at\":\"2026-01-31T09:30:00Z\",\"status\":\"healthy\",\"response_time_ms\":3.2}' |
    hitherto ingest health-check")]
pub(super) struct Args {
    /// A table's name with dashes: module-execution, health-check, signal, proposal, risk-evaluation,
    /// order-event, portfolio-snapshot, regime-state, module
    record: String,
    /// The file; - for standard input
    #[arg(default_value = "-")]
    file: PathBuf,
    /// Where refused lines go, with line number and reason [default: FILE.rejected.ndjson, or
    /// stdin.TABLE.rejected.ndjson]
    #[arg(long, value_name = "FILE")]
    rejects: Option<PathBuf>,
    /// Who writes, as the ledger will name it
    #[arg(long, default_value = "hitherto ingest", value_name = "NAME")]
    producer: String,
    /// How long a line from a pipe waits for its batch to fill
    #[arg(long, default_value = "1s", value_name = "TIME", value_parser = humantime::parse_duration)]
    max_age: Duration,
    /// How long the database may take when the run is told to stop (SIGTERM, Ctrl-C)
    #[arg(long, default_value = "10s", value_name = "TIME", value_parser = humantime::parse_duration)]
    stop_within: Duration,
    /// Keep what was read in this folder until the database has it
    #[arg(long, value_name = "DIR")]
    spool: Option<PathBuf>,
    /// Bytes that the spool may hold, 8 MiB at least; then the pipe waits
    #[arg(long, requires = "spool", default_value_t = crate::spool::DEFAULT_QUOTA_BYTES, value_name = "BYTES", value_parser = clap::value_parser!(u64).range(MIN_SPOOL_BYTES..))]
    spool_bytes: u64,
    /// Say once a second on standard error how far it has come; with --json as one JSON object a line
    #[arg(long)]
    watch: bool,
}

/// The largest frame fits: a cell, its last line of any length, and what stands before them.
const MIN_SPOOL_BYTES: u64 = 8 << 20;

#[derive(Debug, Default, Serialize)]
struct Summary {
    table: String,
    /// Lines read, blank ones left out.
    lines: u64,
    /// Rows stored now.
    stored: u64,
    /// Lines that an earlier run had taken care of.
    already: u64,
    /// Rows that the table had, by their own id.
    duplicates: u64,
    /// Lines refused here.
    rejected: u64,
    /// Rows that the database refused.
    quarantined: u64,
    /// Good lines that were not stored: the ledger has more of a stream that begins as theirs, and they came to an
    /// end before it could be told whether it is this one.
    held: u64,
    /// Records that wait in the spool.
    waiting: u64,
    /// The run was told to stop before its end.
    stopped: bool,
    /// The file with the refused lines.
    rejects: Option<PathBuf>,
}

pub(super) async fn run(args: Args, database: &Database, output: Output) -> Result<Ending> {
    let table = args.record.replace('-', "_");
    if table == "execution_report" {
        return Err(Error::new(ErrorKind::Config, "execution_report is derived from order events; ingest order-event"));
    }
    let stop = Stop::listen();
    let work = with_record_of(&table, Run { args: &args, database, output, stop: &stop }).ok_or_else(|| {
        let known: Vec<String> = TABLES.iter().map(|t| t.replace('_', "-")).collect();
        Error::new(ErrorKind::Config, format!("there is no record '{}'; there are {}", args.record, known.join(", ")))
    })?;
    tokio::select! {
        ended = work => ended,
        () = stop.asked(2) => Err(Error::new(ErrorKind::Closed, "interrupted; what was under way was rolled back, and sending it again is safe")),
    }
}

struct Run<'a> {
    args: &'a Args,
    database: &'a Database,
    output: Output,
    stop: &'a Stop,
}

impl<'a> WithRecord for Run<'a> {
    type Output = LocalBoxFuture<'a, Result<Ending>>;

    fn with<R: Record>(self) -> Self::Output {
        Box::pin(run_as::<R>(self.args, self.database, self.output, self.stop))
    }
}

async fn run_as<R: Record>(args: &Args, database: &Database, output: Output, stop: &Stop) -> Result<Ending> {
    // Before anything is read: a pipe's lines would be lost.
    let rejects = Rejects::new(&args.file, args.rejects.as_deref(), R::TABLE)?;
    let path = args.file.clone();
    let opened = tokio::task::spawn_blocking(move || Source::open(&path));
    let source = tokio::select! {
        opened = opened => opened.map_err(|e| Error::new(ErrorKind::Config, format!("opening {}: {e}", name(&args.file))))??,
        () = stop.asked(1) => return Err(interrupted()),
    };
    let endless = source.endless;
    let job = Job { args, output, endless, progress: Arc::default() };
    let summary = match &args.spool {
        None => job.direct::<R>(source, rejects, database, stop).await,
        Some(folder) => job.spooled::<R>(source, rejects, database, folder, stop).await,
    }?;
    output.print(&summary, text)?;
    let findings = summary.rejected + summary.quarantined + summary.held > 0;
    Ok(match (summary.stopped, stop.by()) {
        // For whoever waits for the end of a file, a part of it is not all.
        (true, by) if !endless || by == Some(Asked::Person) => Ending::Interrupted,
        _ if findings => Ending::Finding,
        _ => Ending::Done,
    })
}

/// A run, whichever way the lines take.
struct Job<'a> {
    args: &'a Args,
    output: Output,
    endless: bool,
    progress: Arc<Progress>,
}

/// The least that the end may take: threads have to see that it has come.
const MIN_STOP: Duration = Duration::from_millis(500);

impl Job<'_> {
    /// How long the end may take.
    fn stop_within(&self) -> Duration {
        self.args.stop_within.max(MIN_STOP)
    }

    fn watch<R: Record>(&self, total_bytes: u64, spool: Option<crate::spool::SpoolLog>) -> Watch {
        let bar = self.output.bar(&self.args.record, total_bytes);
        Watch::start(R::TABLE, self.progress.clone(), spool, bar, self.args.watch, self.output.is_json())
    }

    /// What was done so far.
    fn summary<R: Record>(&self) -> Summary {
        let progress = &self.progress;
        Summary {
            table: R::TABLE.to_owned(),
            lines: progress.lines.load(Relaxed),
            stored: progress.stored.load(Relaxed),
            already: progress.already.load(Relaxed),
            duplicates: progress.duplicates.load(Relaxed),
            quarantined: progress.quarantined.load(Relaxed),
            held: progress.held.load(Relaxed),
            ..Summary::default()
        }
    }
}

fn interrupted() -> Error {
    Error::new(ErrorKind::Closed, "interrupted; nothing was read")
}

fn text(s: &Summary) -> String {
    let mut text = format!("{}: {} lines, {} rows stored", s.table, s.lines, s.stored);
    for (count, what) in
        [(s.already, "ingested before"), (s.duplicates, "known by their id"), (s.quarantined, "quarantined (see hitherto.quarantine)")]
    {
        if count > 0 {
            text.push_str(&format!(", {count} {what}"));
        }
    }
    if s.held > 0 {
        text.push_str(&format!(
            ", {} not stored (the ledger has a longer stream that begins with the same line; send this one again from its start)",
            s.held
        ));
    }
    if s.waiting > 0 {
        text.push_str(&format!(", {} wait in the spool", s.waiting));
    }
    if s.stopped {
        text.push_str(", stopped");
    }
    if let Some(rejects) = &s.rejects {
        text.push_str(&format!(", {} refused (see {})", s.rejected, rejects.display()));
    }
    text
}

/// What was done with lines that waited in a spool.
#[derive(Debug, Default)]
pub(super) struct Replayed {
    pub(super) stored: u64,
    pub(super) duplicates: u64,
    pub(super) quarantined: u64,
    pub(super) batches: u64,
}

impl Replayed {
    pub(super) fn add(&mut self, other: Self) {
        self.stored += other.stored;
        self.duplicates += other.duplicates;
        self.quarantined += other.quarantined;
        self.batches += other.batches;
    }
}

/// Puts the lines that wait for a table into the database, and a writer's records where they stand between
/// them, in the order in which they were written.
pub(super) async fn replay(spool: &Spool, table: &str, store: Store, producer: String) -> Result<Replayed> {
    struct Replay<'a>(&'a Spool, Store, String);
    impl<'a> WithRecord for Replay<'a> {
        type Output = LocalBoxFuture<'a, Result<Replayed>>;

        fn with<R: Record>(self) -> Self::Output {
            Box::pin(replay_as::<R>(self.0, self.1, self.2))
        }
    }
    let unknown =
        || Error::new(ErrorKind::Refused, format!("the spool holds lines of {table}, which this program does not know; they stay there"));
    with_record_of(table, Replay(spool, store, producer)).ok_or_else(unknown)?.await
}

async fn replay_as<R: Record>(spool: &Spool, store: Store, producer: String) -> Result<Replayed> {
    let log = spool.log(R::TABLE).await?;
    let (progress, patience) = (Arc::<Progress>::default(), Patience::Tries(store.config().max_attempts));
    // Nothing is read: as at the end of a run that was stopped.
    let (_tell, ended) = tokio::sync::watch::channel(Some(true));
    drain::Drain::<R>::new(store, patience, progress.clone()).with_records(producer).run(&log, ended).await?;
    Ok(Replayed {
        stored: progress.stored.load(Relaxed),
        duplicates: progress.duplicates.load(Relaxed),
        quarantined: progress.quarantined.load(Relaxed),
        batches: progress.batches.load(Relaxed),
    })
}

/// Does to lines what the command does before it sends them, and encodes the rows, with the ledger's digests if they
/// are asked for; gives lines, rows and bytes. For measuring, without a database.
#[doc(hidden)]
pub fn parse_and_encode<R: Record>(lines: impl std::io::Read + Send + 'static, digests: bool) -> (u64, u64, u64) {
    let progress = Arc::new(Progress::default());
    let parsing =
        Parsing { refused_before: Default::default(), max_age: None, spool: false, stop: Arc::default(), progress: progress.clone() };
    let mut parsed = parsing.start::<R>(Source::made_of(lines).start(Arc::default()));
    let (mut rows, mut bytes) = (0, 0);
    loop {
        match parsed.blocking_next().expect("the parser gets to the end") {
            Parsed::Piece(piece) => {
                rows += piece.rows.len() as u64;
                let module_ids = vec![1; piece.rows.len()];
                bytes += encode_rows(&piece.rows, &module_ids, digests) as u64;
            }
            Parsed::Half(_) => {}
            Parsed::End { .. } => break,
            Parsed::Failed(error) => unreachable!("what is measured can be read: {error}"),
        }
    }
    (progress.lines.load(Relaxed), rows, bytes)
}

/// What a file is called in messages.
fn name(file: &Path) -> String {
    if file == Path::new("-") { "standard input".to_owned() } else { file.display().to_string() }
}

//! `hitherto ingest`

mod lines;
mod rejects;

use std::path::{Path, PathBuf};

use chrono::Utc;
use indicatif::ProgressBar;
use serde::Serialize;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::Ending;
use super::connect::Database;
use super::output::Output;
use crate::error::{Error, ErrorKind, Result};
use crate::records::{
    HealthCheck, Limits, Module, ModuleExecution, OrderEvent, PortfolioSnapshot, Proposal, Record, RegimeState, RiskEvaluation, Signal,
    TABLES,
};
use crate::store::Store;
use crate::writer::{Batch, Stored};
use lines::{Line, Lines};
use rejects::{Reject, Rejects};

/// Put newline-delimited JSON into a table.
///
/// One record a line; field names are the column names, `module` (a name) stands for module_id; times are
/// RFC 3339; decimals are JSON strings or numbers, kept exact. An id that a record lacks is derived from
/// its line. A file that was ingested before adds nothing, and one that has grown since adds what is new;
/// what stands in it already must not be edited. Refused lines go to a file of their own: correct the text there,
/// and ingest that file.
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
    /// Where refused lines go, with line number and reason [default: FILE.rejected.ndjson]
    #[arg(long, value_name = "FILE")]
    rejects: Option<PathBuf>,
    /// Who writes, as the ledger will name it
    #[arg(long, default_value = "hitherto ingest", value_name = "NAME")]
    producer: String,
}

/// Lines in a batch. The cut is part of what a batch's id is derived from: it never changes.
const BATCH_LINES: usize = 10_000;
/// Bytes of lines in a batch; part of the cut as well.
const BATCH_BYTES: usize = 4 << 20;

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
    /// The file with the refused lines.
    rejects: Option<PathBuf>,
}

pub(super) async fn run(args: Args, database: &Database, output: Output) -> Result<Ending> {
    let table = args.record.replace('-', "_");
    if table == "execution_report" {
        return Err(Error::new(ErrorKind::Config, "execution_report is derived from order events; ingest order-event"));
    }
    if !TABLES.contains(&table.as_str()) {
        let known: Vec<String> = TABLES.iter().map(|t| t.replace('_', "-")).collect();
        return Err(Error::new(ErrorKind::Config, format!("there is no record '{}'; there are {}", args.record, known.join(", "))));
    }
    let lines = Lines::open(&args.file).await?;
    let store = database.store().await?;
    let bar = output.bar(&args.record, lines.total_bytes());
    let mut job = Job {
        store,
        args,
        bar,
        chain: Sha256::digest(format!("hitherto ingest 1 {table}")).into(),
        summary: Summary { table: table.clone(), ..Summary::default() },
    };
    match table.as_str() {
        "module" => job.ingest::<Module>(lines).await,
        "module_execution" => job.ingest::<ModuleExecution>(lines).await,
        "health_check" => job.ingest::<HealthCheck>(lines).await,
        "signal" => job.ingest::<Signal>(lines).await,
        "proposal" => job.ingest::<Proposal>(lines).await,
        "risk_evaluation" => job.ingest::<RiskEvaluation>(lines).await,
        "order_event" => job.ingest::<OrderEvent>(lines).await,
        "portfolio_snapshot" => job.ingest::<PortfolioSnapshot>(lines).await,
        _ => job.ingest::<RegimeState>(lines).await,
    }?;
    job.bar.finish_and_clear();
    let summary = job.summary;
    output.print(&summary, text)?;
    Ok(if summary.rejected + summary.quarantined > 0 { Ending::Finding } else { Ending::Done })
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
    if let Some(rejects) = &s.rejects {
        text.push_str(&format!(", {} refused (see {})", s.rejected, rejects.display()));
    }
    text
}

/// A running digest over all lines so far: names a place in a file by everything before it.
type Chain = [u8; 32];

struct Job {
    store: Store,
    args: Args,
    bar: ProgressBar,
    chain: Chain,
    summary: Summary,
}

/// Lines that are sent together, each with the id that a batch ending there would have.
struct Pending<R> {
    rows: Vec<(usize, R)>,
    ends: Vec<Uuid>,
    /// Place and mark of lines that look good and that an earlier run refused.
    refused_before: Vec<(usize, (u64, u64))>,
    bytes: usize,
}

impl Job {
    async fn ingest<R: Record>(&mut self, mut lines: Lines) -> Result<()> {
        let mut rejects = Rejects::new(&self.args.file, self.args.rejects.as_deref())?;
        let limits = Limits::default();
        let mut pending = Pending { rows: Vec::new(), ends: Vec::new(), refused_before: Vec::new(), bytes: 0 };
        while let Some(line) = lines.next().await? {
            self.bar.set_position(line.read);
            if line.is_blank() {
                continue;
            }
            self.summary.lines += 1;
            let parsed = parse::<R>(&line, &limits);
            if let Err(reason) = &parsed
                && !line.ended
            {
                // Half a line, whose other half may come: it is no part of what was taken care of.
                rejects.add(&line, reason)?;
                break;
            }
            self.chain = link(&self.chain, line.bytes);
            pending.ends.push(id_of(&self.chain));
            pending.bytes += line.bytes.len();
            let place = pending.ends.len() - 1;
            match parsed {
                Ok(record) => {
                    pending.refused_before.extend(rejects.mark(&line).map(|mark| (place, mark)));
                    pending.rows.push((place, record));
                }
                Err(reason) => rejects.add(&line, &reason)?,
            }
            if pending.ends.len() >= BATCH_LINES || pending.bytes >= BATCH_BYTES {
                self.send(&mut pending, &mut rejects).await?;
            }
        }
        if !pending.ends.is_empty() {
            self.send(&mut pending, &mut rejects).await?;
        }
        self.summary.rejected = rejects.count();
        self.summary.rejects = rejects.finish()?;
        Ok(())
    }

    /// Sends what an earlier run has not, under an id that is derived from everything before its end:
    /// the same file cut at the same place gives the same id.
    async fn send<R: Record>(&mut self, pending: &mut Pending<R>, rejects: &mut Rejects) -> Result<()> {
        let done = self.last_known(&pending.ends).await?.map_or(0, |at| at + 1);
        let id = pending.ends[pending.ends.len() - 1];
        self.summary.already += done as u64;
        for (at, mark) in pending.refused_before.drain(..) {
            rejects.settle(mark, at < done);
        }
        let rows: Vec<R> = pending.rows.drain(..).filter(|(at, _)| *at >= done).map(|(_, row)| row).collect();
        rejects.secure()?;
        if !rows.is_empty() {
            let batch = Batch::derived(id, self.args.producer.clone(), rows);
            let Stored { rows, duplicates, quarantined, .. } = self.store.batch_store(&batch).await?;
            self.summary.stored += rows;
            self.summary.duplicates += duplicates;
            self.summary.quarantined += quarantined;
        }
        pending.ends.clear();
        pending.bytes = 0;
        Ok(())
    }

    /// The last of these places that a batch in the ledger ends at.
    async fn last_known(&self, ends: &[Uuid]) -> Result<Option<usize>> {
        let rows = self
            .store
            .client()
            .await?
            .query("-- ingest_known\nSELECT batch_id FROM hitherto.batches_known($1) AS k (batch_id)", &[&ends])
            .await
            .map_err(|e| Error::database("looking the file up in the ledger", e))?;
        let known: std::collections::HashSet<Uuid> = rows.iter().map(|row| row.get(0)).collect();
        Ok(ends.iter().rposition(|id| known.contains(id)))
    }
}

fn link(chain: &Chain, line: &[u8]) -> Chain {
    let mut sha = Sha256::new();
    sha.update(chain);
    sha.update(line);
    sha.finalize().into()
}

/// A UUID of version 8: of our own making, by RFC 9562.
fn id_of(digest: &Chain) -> Uuid {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}

fn parse<R: Record>(line: &Line<'_>, limits: &Limits) -> Result<R, String> {
    if line.cut {
        return Err(format!("the line is longer than {} bytes", lines::MAX_LINE_BYTES));
    }
    let text = std::str::from_utf8(line.bytes).map_err(|e| format!("not UTF-8: {e}"))?;
    let reject = Reject::parse(text);
    let text = reject.as_ref().map_or(text, |reject| reject.text.as_str());
    let mut record: R = serde_json::from_str(text).map_err(|e| {
        let unfinished = if e.is_eof() && !line.ended { "; the file ends amid this line" } else { "" };
        format!("{e}{unfinished}")
    })?;
    if let Some(id) = record.id_mut()
        && id.is_empty()
    {
        *id = id_of(&link(&Sha256::digest(R::TABLE).into(), text.as_bytes())).to_string();
    }
    record.validate(limits, Utc::now()).map_err(|e| e.to_string())?;
    Ok(record)
}

/// What a file is called in messages.
fn name(file: &Path) -> String {
    if file == Path::new("-") { "standard input".to_owned() } else { file.display().to_string() }
}

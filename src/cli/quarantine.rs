//! `hitherto quarantine`

use std::io::Read;
use std::path::{Path, PathBuf};

use clap::Subcommand;

use super::Ending;
use super::connect::Database;
use super::output::{Output, table};
use crate::error::{Error, ErrorKind, Result};
use crate::store::{QuarantineFilter, Quarantined, ResolveOutcome, Resolved, Store};

/// Records that could not be stored: show them, try them again, give them up.
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    #[command(subcommand)]
    step: Step,
}

#[derive(Subcommand, Debug)]
enum Step {
    /// List the records that wait, oldest first
    List {
        /// Those of this table alone
        #[arg(long)]
        table: Option<String>,
        /// Those that were stored or dropped meanwhile, too
        #[arg(long)]
        all: bool,
        /// So many at most
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(i64).range(1..))]
        limit: i64,
    },
    /// Show a record, why it was refused and what became of it
    Show {
        /// Its number, as list shows it
        id: i64,
    },
    /// Try to store records again; exit code 1 when one is refused again, which leaves it as it was
    Retry {
        /// Their numbers, as list shows them
        #[arg(required_unless_present = "all", conflicts_with = "all")]
        ids: Vec<i64>,
        /// All that wait
        #[arg(long)]
        all: bool,
        /// Of all that wait, those of this table alone
        #[arg(long, requires = "all")]
        table: Option<String>,
        /// Store the record in this file (- for standard input) in place of the one in quarantine, which is kept
        #[arg(long, value_name = "FILE", conflicts_with = "all")]
        record: Option<PathBuf>,
        /// Who does it, as the resolution will name them [default: the database login]
        #[arg(long, value_name = "NAME")]
        by: Option<String>,
    },
    /// Give records up: they stay in quarantine, and are counted no more
    Drop {
        /// Their numbers, as list shows them
        #[arg(required = true)]
        ids: Vec<i64>,
        /// Why
        #[arg(long, value_name = "TEXT")]
        reason: String,
        /// Who does it, as the resolution will name them [default: the database login]
        #[arg(long, value_name = "NAME")]
        by: Option<String>,
    },
}

pub(super) async fn run(args: Args, database: &Database, output: Output) -> Result<Ending> {
    match args.step {
        Step::List { table, all, limit } => {
            let filter = QuarantineFilter { table_name: table.map(|name| name.replace('-', "_")), resolved: all, limit: Some(limit) };
            let rows = database.store().await?.quarantine_list(&filter).await?;
            output.print(&rows, |rows| list_text(rows, limit))?;
            Ok(Ending::Done)
        }
        Step::Show { id } => {
            let row = database.store().await?.quarantine_get(id).await?;
            output.print(&row, show_text)?;
            Ok(Ending::Done)
        }
        Step::Retry { ids, all, table, record, by } => {
            if record.is_some() && ids.len() != 1 {
                return Err(Error::new(ErrorKind::Config, "--record is for one row; name one"));
            }
            let record = record.as_deref().map(read).transpose()?;
            let store = database.store().await?;
            let ids = if all { waiting(&store, table).await? } else { ids };
            resolve_each(ids, output, async |id| store.quarantine_retry(id, record.as_deref(), by.as_deref()).await).await
        }
        Step::Drop { ids, reason, by } => {
            let store = database.store().await?;
            resolve_each(ids, output, async |id| store.quarantine_drop(id, by.as_deref(), &reason).await).await
        }
    }
}

/// Tells of every row that was come to, whatever ends it.
async fn resolve_each(ids: Vec<i64>, output: Output, mut resolve: impl AsyncFnMut(i64) -> Result<Resolved>) -> Result<Ending> {
    let (mut results, mut failed) = (Vec::new(), None);
    for id in ids {
        match resolve(id).await {
            Ok(result) => results.push(result),
            // A number that no row has keeps nothing from the others; what the database refuses, it refuses to them, too.
            Err(error) => {
                let alone = error.kind() == ErrorKind::NotFound;
                failed.get_or_insert(error);
                if !alone {
                    break;
                }
            }
        }
    }
    if let Some(error) = failed {
        if results.is_empty() {
            return Err(error);
        }
        if !output.is_json() {
            output.print(&results, |results| results_text(results))?;
            return Err(error);
        }
        // One document: the error, which tells of the others.
        let others: Vec<String> = results.iter().map(|r| format!("{} {}", r.quarantine_id, word(r.outcome))).collect();
        return Err(error.with(&format!("the other rows: {}", others.join(", "))));
    }
    output.print(&results, |results| results_text(results))?;
    if results.iter().any(|result| result.outcome == ResolveOutcome::Refused) { Ok(Ending::Finding) } else { Ok(Ending::Done) }
}

async fn waiting(store: &Store, table: Option<String>) -> Result<Vec<i64>> {
    let filter = QuarantineFilter { table_name: table.map(|name| name.replace('-', "_")), resolved: false, limit: None };
    Ok(store.quarantine_list(&filter).await?.iter().map(|row| row.quarantine_id).collect())
}

fn read(file: &Path) -> Result<String> {
    let mut text = String::new();
    let read = if file == Path::new("-") {
        std::io::stdin().read_to_string(&mut text)
    } else {
        std::fs::File::open(file).and_then(|mut file| file.read_to_string(&mut text))
    };
    read.map_err(|e| Error::new(ErrorKind::Config, format!("{}: {e}", file.display())))?;
    Ok(text)
}

fn list_text(rows: &[Quarantined], limit: i64) -> String {
    if rows.is_empty() {
        return "nothing is in quarantine".to_owned();
    }
    let cells: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            vec![
                row.quarantine_id.to_string(),
                row.table_name.clone(),
                row.quarantined_at.format("%Y-%m-%d %H:%M").to_string(),
                row.producer.clone(),
                row.resolution.as_ref().map_or("waits", |r| r.resolution.as_str()).to_owned(),
                short(&row.reason),
            ]
        })
        .collect();
    let mut text = table(&["id", "table", "since (UTC)", "producer", "state", "reason"], &cells);
    if rows.len() as i64 == limit {
        text.push_str(&format!("the first {limit}; --limit shows more\n"));
    }
    text
}

/// A reason's first words, on one line.
fn short(reason: &str) -> String {
    const CHARS: usize = 100;
    // Which batch it came with says nothing of why.
    let reason = reason.strip_prefix("storing batch ").and_then(|rest| rest.split_once(": ")).map_or(reason, |(_, why)| why);
    let line: String = reason.chars().map(|c| if c.is_control() { ' ' } else { c }).take(CHARS).collect();
    if reason.chars().count() > CHARS { format!("{line}...") } else { line }
}

fn show_text(row: &Quarantined) -> String {
    let mut text = format!(
        "row {} of {}, from {}, batch {}\n  since    {}\n  reason   {} ({})\n",
        row.quarantine_id,
        row.table_name,
        row.producer,
        row.batch_id,
        row.quarantined_at.format("%Y-%m-%d %H:%M:%S UTC"),
        row.reason,
        row.sqlstate
    );
    match &row.resolution {
        None => text.push_str("  state    waits\n"),
        Some(r) => {
            let why = r.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
            let at = r.resolved_at.format("%Y-%m-%d %H:%M:%S UTC");
            text.push_str(&format!("  state    {} by {} at {at}{why}\n", r.resolution, r.resolved_by));
        }
    }
    text.push_str(&format!("  record   {}\n", row.record));
    text
}

fn results_text(results: &[Resolved]) -> String {
    if results.is_empty() {
        return "nothing waits in quarantine".to_owned();
    }
    let line = |result: &Resolved| {
        let reason = result.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
        format!("{}: {}{reason}\n", result.quarantine_id, word(result.outcome))
    };
    results.iter().map(line).collect()
}

fn word(outcome: ResolveOutcome) -> &'static str {
    match outcome {
        ResolveOutcome::Stored => "stored",
        ResolveOutcome::Refused => "refused again",
        ResolveOutcome::Dropped => "dropped",
        ResolveOutcome::Already => "nothing done",
    }
}

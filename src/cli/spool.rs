//! `hitherto spool`

use std::path::PathBuf;

use chrono::Utc;
use clap::Subcommand;
use serde::Serialize;

use super::connect::Database;
use super::output::{Output, table};
use super::{Ending, ingest};
use crate::error::{Error, ErrorKind, Result};
use crate::spool::{Spool, SpoolConfig, SpoolFinding, SpoolSurvey, survey};
use crate::writer::{Durability, WriterConfig};

/// Look at records that wait on disk for the database, and send them.
///
/// list and verify only read, whether a program uses the spool or not. replay takes the spool for itself.
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Debug)]
enum What {
    /// Show what waits, by table
    List(Folder),
    /// Check every checksum; exit code 1 on a finding
    Verify(Folder),
    /// Send everything to the database; what it has already is not stored twice
    #[command(after_help = "Ctrl-C leaves on disk what is not stored; run it again.")]
    Replay(Replay),
}

#[derive(clap::Args, Debug)]
struct Folder {
    /// The spool's folder
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
}

#[derive(clap::Args, Debug)]
struct Replay {
    #[command(flatten)]
    folder: Folder,
    /// Who writes, as the ledger will name it
    #[arg(long, default_value = "hitherto spool replay", value_name = "NAME")]
    producer: String,
}

pub(super) async fn run(args: Args, database: &Database, output: Output) -> Result<Ending> {
    match args.what {
        What::List(folder) => {
            let survey = look(folder.dir).await?;
            output.print(&list(&survey), |list| list_text(list, &survey))?;
            Ok(Ending::Done)
        }
        What::Verify(folder) => {
            let survey = look(folder.dir).await?;
            output.print(&survey, verify_text)?;
            Ok(if survey.findings.iter().all(SpoolFinding::is_harmless) { Ending::Done } else { Ending::Finding })
        }
        What::Replay(args) => replay(args, database, output).await,
    }
}

async fn look(folder: PathBuf) -> Result<SpoolSurvey> {
    let looking = tokio::task::spawn_blocking(move || survey(&folder)).await;
    looking.map_err(|_| Error::new(ErrorKind::Closed, "the program ended while reading the spool"))?
}

#[derive(Serialize)]
struct List {
    in_use: bool,
    tables: Vec<Line>,
}

#[derive(Serialize)]
struct Line {
    table: String,
    batches: u64,
    records: u64,
    bytes: u64,
    /// Of the oldest record that waits.
    oldest_age_seconds: Option<f64>,
    /// Findings that a person should look at.
    damaged: usize,
}

fn list(survey: &SpoolSurvey) -> List {
    let now = Utc::now();
    let lines = survey.tables.iter().map(|waiting| Line {
        table: waiting.table.clone(),
        batches: waiting.batches,
        records: waiting.records,
        bytes: waiting.bytes,
        oldest_age_seconds: waiting.oldest_at.map(|at| (now - at).as_seconds_f64().max(0.0)),
        damaged: survey.findings.iter().filter(|f| f.table() == waiting.table && !f.is_harmless()).count(),
    });
    List { in_use: survey.in_use, tables: lines.collect() }
}

fn list_text(list: &List, survey: &SpoolSurvey) -> String {
    if list.tables.iter().all(|line| line.records == 0 && line.damaged == 0) {
        return "nothing waits".to_owned();
    }
    let rows: Vec<Vec<String>> = list
        .tables
        .iter()
        .map(|line| {
            let age = line.oldest_age_seconds.map(|age| humantime::format_duration(std::time::Duration::from_secs(age as u64)).to_string());
            let numbers = [line.batches, line.records, line.bytes].map(|n| n.to_string());
            let mut cells = vec![line.table.clone()];
            cells.extend(numbers);
            cells.extend([age.unwrap_or_default(), if line.damaged > 0 { line.damaged.to_string() } else { String::new() }]);
            cells
        })
        .collect();
    let mut text = table(&["table", "batches", "records", "bytes", "oldest", "findings"], &rows);
    if survey.findings.iter().any(|f| !f.is_harmless()) {
        text.push_str("see: hitherto spool verify\n");
    }
    text
}

fn verify_text(survey: &SpoolSurvey) -> String {
    let (records, bytes) = survey.tables.iter().fold((0, 0), |(records, bytes), t| (records + t.records, bytes + t.bytes));
    let mut text: String = survey.findings.iter().map(|finding| format!("{finding}\n")).collect();
    text.push_str(&format!("{records} records in {bytes} bytes are whole"));
    if survey.in_use {
        text.push_str("; a program uses the spool, what it is writing now was left out");
    }
    text
}

#[derive(Serialize)]
struct Replayed {
    /// Rows that the ledger has for the batches that were here.
    stored: u64,
    /// Rows that the table had already, by their own id.
    duplicates: u64,
    /// Rows that the database refused.
    quarantined: u64,
    batches: u64,
    /// Records that still wait.
    left: u64,
    findings: Vec<SpoolFinding>,
}

async fn replay(args: Replay, database: &Database, output: Output) -> Result<Ending> {
    let (folder, place) = (args.folder.dir.clone(), args.folder.dir);
    let before = look(place.clone()).await?;
    let opening = tokio::task::spawn_blocking(move || Spool::open(SpoolConfig::new(folder))).await;
    let spool = opening.map_err(|_| Error::new(ErrorKind::Closed, "the program ended while opening the spool"))??;
    let store = database.store().await?;
    let mut lines = ingest::Replayed::default();
    for table in before.tables.iter().filter(|t| t.foreign) {
        lines.add(ingest::replay(&spool, &table.table, store.clone(), args.producer.clone()).await?);
    }
    let mut config = WriterConfig::new(args.producer);
    config.durability = Durability::Spool(spool.clone());
    let writer = store.writer(config);
    writer.flush().await?;
    let stats = writer.close().await?;
    let mut findings = spool.findings().to_vec();
    findings.extend(look(place).await?.findings.into_iter().filter(|finding| matches!(finding, SpoolFinding::Aside { .. })));
    let replayed = Replayed {
        stored: stats.stored + lines.stored,
        duplicates: stats.duplicates + lines.duplicates,
        quarantined: stats.quarantined + lines.quarantined,
        batches: stats.batches + lines.batches,
        left: stats.spooled,
        findings,
    };
    output.print(&replayed, text)?;
    let finding = replayed.quarantined + replayed.left > 0 || !replayed.findings.iter().all(SpoolFinding::is_harmless);
    Ok(if finding { Ending::Finding } else { Ending::Done })
}

fn text(replayed: &Replayed) -> String {
    let mut text = format!("{} rows stored in {} batches", replayed.stored, replayed.batches);
    for (count, what) in [
        (replayed.duplicates, "known by their id"),
        (replayed.quarantined, "quarantined (see hitherto.quarantine)"),
        (replayed.left, "left"),
    ] {
        if count > 0 {
            text.push_str(&format!(", {count} {what}"));
        }
    }
    for finding in &replayed.findings {
        text.push_str(&format!("\n{finding}"));
    }
    text
}

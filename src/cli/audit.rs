//! `hitherto audit`

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use clap::Subcommand;

use super::Ending;
use super::connect::Database;
use super::output::Output;
use crate::error::{Error, ErrorKind, Result};
use crate::store::{Anchor, Audit, Sealed};

/// Seal what has been stored, and verify that it is still there as it was stored.
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    #[command(subcommand)]
    step: Step,
}

#[derive(Subcommand, Debug)]
enum Step {
    /// Chain the ledger lines that have come since into a new block
    Seal {
        /// Append the new blocks' numbers and hashes to this file: keep it away from the database
        #[arg(long, value_name = "FILE")]
        anchor: Option<PathBuf>,
    },
    /// Compute every hash again, from the rows up; exit code 1 when something differs
    Verify {
        /// Compare the chain with the numbers and hashes in this file, so that a chain made anew is found
        #[arg(long, value_name = "FILE")]
        anchor: Option<PathBuf>,
    },
}

pub(super) async fn run(args: Args, database: &Database, output: Output) -> Result<Ending> {
    match args.step {
        Step::Seal { anchor } => {
            // Opened first: a block that can't be noted had better not be made.
            let mut file = anchor.as_deref().map(AnchorFile::open).transpose()?;
            let sealed = database.store().await?.audit_seal().await?;
            if let Some(file) = &mut file {
                file.note(&sealed)?;
            }
            output.print(&sealed, sealed_text)?;
            Ok(Ending::Done)
        }
        Step::Verify { anchor } => {
            let anchors = anchor.as_deref().map(anchors).transpose()?.unwrap_or_default();
            let audit = database.store().await?.audit_verify(&anchors).await?;
            output.print(&audit, audit_text)?;
            Ok(if audit.finding_count == 0 { Ending::Done } else { Ending::Finding })
        }
    }
}

/// The file that blocks are noted in: a line each, number and hash.
struct AnchorFile<'a> {
    path: &'a Path,
    file: File,
    noted: Vec<Anchor>,
}

impl<'a> AnchorFile<'a> {
    fn open(path: &'a Path) -> Result<Self> {
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(path).map_err(|e| file_error(path, &e))?;
        let mut text = String::new();
        file.read_to_string(&mut text).map_err(|e| file_error(path, &e))?;
        Ok(Self { path, file, noted: parse(path, &text)? })
    }

    /// Adds the new blocks, and the last one if it was sealed without having been noted.
    fn note(&mut self, sealed: &Sealed) -> Result<()> {
        let last = sealed.last.iter().filter(|last| !sealed.added.contains(last) && !self.noted.contains(last));
        let lines: String = sealed.added.iter().chain(last).map(|anchor| format!("{anchor}\n")).collect();
        self.file.write_all(lines.as_bytes()).and_then(|()| self.file.sync_all()).map_err(|e| file_error(self.path, &e))
    }
}

fn anchors(path: &Path) -> Result<Vec<Anchor>> {
    let text = std::fs::read_to_string(path).map_err(|e| file_error(path, &e))?;
    let anchors = parse(path, &text)?;
    if anchors.is_empty() {
        return Err(Error::new(
            ErrorKind::Config,
            format!("{}: holds no anchor; hitherto audit seal --anchor writes them", path.display()),
        ));
    }
    Ok(anchors)
}

fn parse(path: &Path, text: &str) -> Result<Vec<Anchor>> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#'));
    lines
        .map(|(at, line)| {
            line.parse().map_err(|e: Error| Error::new(ErrorKind::Config, format!("{}, line {}: {e}", path.display(), at + 1)))
        })
        .collect()
}

fn file_error(path: &Path, error: &std::io::Error) -> Error {
    Error::new(ErrorKind::Config, format!("{}: {error}", path.display()))
}

fn sealed_text(sealed: &Sealed) -> String {
    match (&sealed.last, sealed.added.is_empty()) {
        (None, _) => "nothing to seal yet".to_owned(),
        (Some(last), true) => format!("nothing new; the last block is {last}"),
        (Some(_), false) => {
            let blocks: String = sealed.added.iter().map(|anchor| format!("block {anchor}\n")).collect();
            format!("{} entries sealed; keep this where the database's owner can't change it:\n{blocks}", sealed.entries)
        }
    }
}

fn audit_text(audit: &Audit) -> String {
    let mut text = match &audit.last {
        Some(last) => format!("blocks: {}, entries: {}; the last block is {last}\n", audit.blocks, audit.entries),
        None => "nothing is sealed yet; run: hitherto audit seal\n".to_owned(),
    };
    let mut say = |count: u64, what: &str| {
        if count > 0 {
            text.push_str(&format!("{count} {what}\n"));
        }
    };
    say(audit.anchors, "anchors were compared with the chain");
    say(audit.rows, "rows were read");
    say(audit.batches, "batches hold what was stored");
    say(audit.unsealed_batches, "batches are not sealed yet: they were compared with the ledger alone");
    say(audit.counted_batches, "batches are older than row digests: their rows were counted");
    say(audit.trimmed_batches, "batches were dropped by retention");
    say(audit.partly_trimmed_batches, "batches were dropped in part by retention: the rest of them was not compared");
    say(audit.other_batches, "batches of tables whose rows change were not compared");
    for note in &audit.notes {
        text.push_str(&format!("note: {note}\n"));
    }
    if audit.finding_count == 0 {
        text.push_str("nothing differs\n");
        return text;
    }
    text.push_str(&format!("{} findings, the first block first:\n", audit.finding_count));
    for f in &audit.findings {
        let block = f.block_number.map_or("not sealed".to_owned(), |number| format!("block {number}"));
        let batch = f.batch_id.map_or(String::new(), |id| format!(", batch {id}"));
        text.push_str(&format!("  {block}{batch}, {}: {}\n", f.table_name, f.what));
    }
    text
}

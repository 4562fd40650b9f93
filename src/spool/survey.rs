//! Looks through a spool without changing anything, whether a program uses it or not.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::cursor::{self, Reading};
use super::files::{Files, RealFiles, read_all};
use super::finding::SpoolFinding;
use super::format::{KIND_RECORDS, KIND_VOID, Position, SEGMENT_HEADER};
use super::lock::Lock;
use super::log::segment_name;
use super::open::{header, segment_numbers};
use super::scan::scan;
use super::{aside, failed, tables};
use crate::error::{Error, ErrorKind, Result};

/// What a spool holds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SpoolSurvey {
    /// A program uses it now: what it is writing this moment is left out.
    pub in_use: bool,
    /// What waits, by table.
    pub tables: Vec<SpoolTable>,
    /// What is not as it should be.
    pub findings: Vec<SpoolFinding>,
}

/// What waits in a table's log.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SpoolTable {
    /// The table.
    pub table: String,
    /// Segments on disk.
    pub segments: u64,
    /// Batches that the cursor has not passed.
    pub batches: u64,
    /// Records in them.
    pub records: u64,
    /// Bytes of their frames.
    pub bytes: u64,
    /// When the oldest was handed over.
    pub oldest_at: Option<DateTime<Utc>>,
    /// Some are no records of a writer: the program that wrote them drains them.
    pub foreign: bool,
}

/// Reads a spool through and checks every checksum of what waits.
///
/// # Errors
/// `NotFound` when there is no such folder, `Refused` when a newer program wrote it, `Disk` when it can't
/// be read.
pub fn survey(folder: &Path) -> Result<SpoolSurvey> {
    if !folder.is_dir() {
        return Err(Error::new(ErrorKind::NotFound, format!("there is no spool {}", folder.display())));
    }
    let mut survey = SpoolSurvey { in_use: Lock::is_held(folder), tables: Vec::new(), findings: Vec::new() };
    for table in tables(folder)? {
        look(&mut survey, &folder.join(&table), table)?;
    }
    Ok(survey)
}

fn look(survey: &mut SpoolSurvey, folder: &Path, table: String) -> Result<()> {
    let files = RealFiles;
    let fail = |error: io::Error| failed("reading it", folder, &error);
    // The cursor is read last: what it has passed meanwhile is left out, and nothing seems to be missing.
    let mut names = files.list(folder).map_err(fail)?;
    names.sort();
    let reading = match files.open(&folder.join("cursor"), false).and_then(|file| read_all(&*file)) {
        Ok(bytes) => cursor::read(&bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Reading::New,
        Err(error) => return Err(fail(error)),
    };
    let at = if let Reading::At { position, .. } = reading { position } else { Position::default() };
    let mut numbers = segment_numbers(&names);
    numbers.retain(|number| *number >= at.segment);
    if !matches!(reading, Reading::At { .. }) && !numbers.is_empty() {
        survey.findings.push(SpoolFinding::Cursor { table: table.clone() });
    }
    let expected = if at.segment > 0 { at.segment + 1 } else { numbers.first().copied().unwrap_or(1) };
    let missing = (expected..numbers.last().copied().unwrap_or(0)).filter(|number| !numbers.contains(number));
    survey.findings.extend(missing.map(|segment| SpoolFinding::Missing { table: table.clone(), segment }));
    let mut found = SpoolTable { table: table.clone(), segments: 0, batches: 0, records: 0, bytes: 0, oldest_at: None, foreign: false };
    let mut batches = BTreeSet::new();
    for number in numbers.iter().copied() {
        let bytes = match files.open(&folder.join(segment_name(number)), false).and_then(|file| read_all(&*file)) {
            Ok(bytes) => bytes,
            // Drained this moment.
            Err(error) if error.kind() == io::ErrorKind::NotFound && survey.in_use => continue,
            Err(error) => return Err(fail(error)),
        };
        let last = Some(&number) == numbers.last();
        let next = if numbers.contains(&(number + 1)) { header(&files, folder, &table, number + 1).ok().flatten() } else { None };
        let acknowledged = next.and_then(|next| next.prior_end);
        let offset = if number == at.segment { at.offset.max(SEGMENT_HEADER) } else { SEGMENT_HEADER };
        let scanned = scan(&bytes, Position { segment: number, offset }, acknowledged);
        let headless = match header(&files, folder, &table, number) {
            Ok(header) => header.is_none(),
            Err(error) if error.kind() == ErrorKind::Disk && survey.in_use => continue,
            Err(error) => return Err(error),
        };
        if headless && last && scanned.frames.is_empty() {
            // It was being begun.
            continue;
        }
        found.segments += 1;
        for (_, info) in scanned.frames.iter().filter(|(_, info)| info.head.kind != KIND_VOID) {
            batches.insert(info.head.batch);
            found.records += u64::from(info.head.rows);
            found.bytes += info.span();
            found.oldest_at = found.oldest_at.or(info.head.time());
            found.foreign |= info.head.kind != KIND_RECORDS;
        }
        let lost: u64 = scanned.lost.iter().map(|lost| lost.end - lost.start).sum::<u64>() + if headless { SEGMENT_HEADER } else { 0 };
        if lost > 0 {
            survey.findings.push(SpoolFinding::Damaged { table: table.clone(), segment: number, bytes: lost, kept: None });
        }
        let torn = scanned.torn_bytes();
        // What is being written is half there for whoever looks now.
        if torn > 0 && !survey.in_use {
            survey.findings.push(SpoolFinding::Torn { table: table.clone(), segment: number, bytes: torn });
        }
    }
    found.batches = batches.len() as u64;
    for name in &names {
        let file = folder.join(name);
        if name.ends_with(".damaged") {
            survey.findings.push(SpoolFinding::Kept { table: table.clone(), file });
        } else if let Some(batch) = name.strip_suffix(aside::ENDING).and_then(|id| id.parse().ok()) {
            survey.findings.push(SpoolFinding::Aside { table: table.clone(), batch, file });
        }
    }
    survey.tables.push(found);
    Ok(())
}

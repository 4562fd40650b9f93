//! Finds out what an earlier program left in a table's folder.

use std::collections::VecDeque;
use std::path::Path;

use super::cursor::{Cursor, Reading};
use super::failed;
use super::files::{Files, read_all};
use super::finding::SpoolFinding;
use super::format::{KIND_VOID, Position, SEGMENT_HEADER, SegmentHeader};
use super::log::{Segment, Waiting, segment_name};
use super::mend::mend;
use super::scan::scan;
use crate::error::{Error, ErrorKind, Result};

/// What an earlier program left, put right.
pub(super) struct Opened {
    pub(super) cursor: Cursor,
    pub(super) segments: VecDeque<Segment>,
    pub(super) waiting: Waiting,
    pub(super) findings: Vec<SpoolFinding>,
}

impl Opened {
    pub(super) fn open(files: &dyn Files, folder: &Path, table: &str) -> Result<Self> {
        let fail = |doing: &str| {
            let doing = format!("{doing} of {table}");
            move |error: std::io::Error| failed(&doing, folder, &error)
        };
        files.create_folder(folder).map_err(fail("making the folder"))?;
        let names = files.list(folder).map_err(fail("reading the folder"))?;
        for name in names.iter().filter(|name| name.ends_with(".tmp")) {
            files.unlink(&folder.join(name)).map_err(fail("removing a draft"))?;
        }
        let (cursor, reading) = Cursor::open(files, &folder.join("cursor")).map_err(fail("opening the cursor"))?;
        let at = cursor.at();
        let mut numbers = segment_numbers(&names);
        let mut findings = Vec::new();
        // A cursor is there before the first segment is.
        if !matches!(reading, Reading::At { .. }) && !numbers.is_empty() {
            findings.push(SpoolFinding::Cursor { table: table.to_owned() });
        }
        let remove = |number: u64| files.unlink(&folder.join(segment_name(number))).map_err(fail("removing a segment"));
        // The cursor was past them; the machine went down before they were gone.
        for number in numbers.iter().filter(|number| **number < at.segment) {
            remove(*number)?;
        }
        numbers.retain(|number| *number >= at.segment);
        let mut headers = Vec::new();
        for number in &numbers {
            headers.push(header(files, folder, table, *number)?);
        }
        // A segment that was being begun.
        while let (Some(None), Some(number)) = (headers.last(), numbers.last().copied()) {
            let bytes = files
                .open(&folder.join(segment_name(number)), false)
                .and_then(|file| read_all(&*file))
                .map_err(fail("reading a segment"))?;
            if !scan(&bytes, Position { segment: number, offset: SEGMENT_HEADER }, None).frames.is_empty() {
                break;
            }
            remove(number)?;
            headers.pop();
            numbers.pop();
        }
        for (before, after) in numbers.iter().zip(numbers.iter().skip(1)) {
            findings.extend((before + 1..*after).map(|segment| SpoolFinding::Missing { table: table.to_owned(), segment }));
        }
        if let (Reading::At { .. }, Some(first)) = (reading, numbers.first()) {
            findings.extend((at.segment + 1..*first).map(|segment| SpoolFinding::Missing { table: table.to_owned(), segment }));
        }
        let (mut segments, mut waiting) = (VecDeque::new(), Waiting::default());
        for (place, number) in numbers.iter().copied().enumerate() {
            let offset = if number == at.segment { at.offset.max(SEGMENT_HEADER) } else { SEGMENT_HEADER };
            let next_follows = numbers.get(place + 1) == Some(&(number + 1));
            let acknowledged = headers.get(place + 1).and_then(Option::as_ref).filter(|_| next_follows).and_then(|next| next.prior_end);
            let mended = mend(files, folder, table, Position { segment: number, offset }, acknowledged)?;
            findings.extend(mended.findings);
            let mut rows = 0;
            for (_, info) in &mended.scan.frames {
                rows += u64::from(info.head.rows);
                waiting.note_kind(info.head.kind);
                waiting.bytes += info.span();
                waiting.oldest_at = waiting.oldest_at.or(Some(info.head.written_at));
                if info.head.kind != KIND_VOID {
                    waiting.kind = waiting.kind.or(Some(info.head.kind));
                }
            }
            waiting.rows += rows;
            segments.push_back(Segment { number, end: mended.scan.end, rows });
        }
        // Nothing is left in them. Their numbers are free again unless the cursor has passed them.
        while let Some(last) = segments.pop_back_if(|last| last.end <= SEGMENT_HEADER || last.number == at.segment && last.end <= at.offset)
        {
            remove(last.number)?;
        }
        files.sync_folder(folder).map_err(fail("syncing the folder"))?;
        Ok(Self { cursor, segments, waiting, findings })
    }
}

/// The numbers of the segments in a folder, in order.
pub(super) fn segment_numbers(names: &[String]) -> Vec<u64> {
    let mut numbers: Vec<u64> = names.iter().filter_map(|name| name.strip_suffix(".seg")?.parse().ok()).collect();
    numbers.sort_unstable();
    numbers
}

/// A segment's header; `None` when it can't be read.
pub(super) fn header(files: &dyn Files, folder: &Path, table: &str, number: u64) -> Result<Option<SegmentHeader>> {
    let path = folder.join(segment_name(number));
    let mut bytes = [0; SEGMENT_HEADER as usize];
    let read = files.open(&path, false).and_then(|file| file.read_at(&mut bytes, 0));
    let read = read.map_err(|e| failed(&format!("reading {}", path.display()), folder, &e))?;
    let header = SegmentHeader::decode(&bytes[..read]).map_err(|e| Error::new(e.kind(), format!("{}: {e}", path.display())))?;
    if let Some(header) = &header
        && (header.number != number || header.table != table)
    {
        return Err(Error::new(
            ErrorKind::Refused,
            format!("{} says that it is segment {} of {}; put it back where it was", path.display(), header.number, header.table),
        ));
    }
    Ok(header)
}

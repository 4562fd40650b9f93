//! Puts a segment right in which bytes are lost: whole frames stay where they are, and a frame that says
//! so stands where they are not.

use std::path::{Path, PathBuf};

use chrono::Utc;
use uuid::Uuid;

use super::failed;
use super::files::{Files, read_all};
use super::finding::SpoolFinding;
use super::format::{FRAME_HEADER, FrameHead, KIND_VOID, Position, SEGMENT_HEADER, SegmentHeader, encode_frame};
use super::log::segment_name;
use super::scan::{Scan, scan};
use crate::error::{Error, ErrorKind, Result};

/// A segment as it is now.
pub(super) struct Mended {
    pub(super) scan: Scan,
    pub(super) findings: Vec<SpoolFinding>,
}

/// Reads a segment from a frame's beginning on and puts right what is not whole. `acknowledged` as for
/// [`scan`].
pub(super) fn mend(files: &dyn Files, folder: &Path, table: &str, from: Position, acknowledged: Option<u64>) -> Result<Mended> {
    let path = folder.join(segment_name(from.segment));
    let doing = format!("reading {}", path.display());
    let whole = |error: std::io::Error| failed(&doing, folder, &error);
    let bytes = read_all(&*files.open(&path, false).map_err(whole)?).map_err(whole)?;
    let header = SegmentHeader::decode(&bytes).map_err(|e| Error::new(e.kind(), format!("{}: {e}", path.display())))?;
    if let Some(end) = acknowledged
        && bytes.get(end as usize..).is_some_and(|behind| behind.iter().any(|b| *b != 0))
    {
        // Whoever wrote it was told that it failed; it must not come up again when the next segment is gone.
        let file = files.open(&path, true).map_err(whole)?;
        file.truncate(end).and_then(|()| file.sync()).map_err(|e| failed(&format!("cutting {}", path.display()), folder, &e))?;
    }
    let found = scan(&bytes, from, acknowledged);
    if found.is_whole() && header.is_some() {
        return Ok(Mended { scan: found, findings: Vec::new() });
    }
    let mut findings = Vec::new();
    let headless = if header.is_some() { 0 } else { SEGMENT_HEADER };
    let lost = headless + found.lost.iter().map(|hole| hole.end - hole.start).sum::<u64>();
    let kept = if lost > 0 { Some(keep(files, folder, from.segment, &bytes)?) } else { None };
    let only_tail = lost == 0 && found.torn.iter().all(|torn| torn.start >= found.end);
    if only_tail {
        let file = files.open(&path, true).map_err(whole)?;
        file.truncate(found.end).and_then(|()| file.sync()).map_err(|e| failed(&format!("cutting {}", path.display()), folder, &e))?;
    } else {
        let header = header.unwrap_or_else(|| SegmentHeader {
            table: table.to_owned(),
            number: from.segment,
            prior_end: None,
            created_at: Utc::now().timestamp_micros(),
        });
        replace(files, folder, from, &header, &bytes, &found)?;
    }
    if let Some(kept) = kept {
        findings.push(SpoolFinding::Damaged { table: table.to_owned(), segment: from.segment, bytes: lost, kept: Some(kept) });
    }
    if found.torn_bytes() > 0 {
        findings.push(SpoolFinding::Torn { table: table.to_owned(), segment: from.segment, bytes: found.torn_bytes() });
    }
    // As it is now: with frames where the holes were.
    let bytes = read_all(&*files.open(&path, false).map_err(whole)?).map_err(whole)?;
    let scan = scan(&bytes, from, acknowledged.map(|end| end.max(found.end)));
    if !scan.is_whole() {
        return Err(Error::new(ErrorKind::Disk, format!("{} is damaged and could not be mended: move it away", path.display())));
    }
    Ok(Mended { scan, findings })
}

/// Gives the damaged file a second name, under which it stays.
fn keep(files: &dyn Files, folder: &Path, number: u64, bytes: &[u8]) -> Result<PathBuf> {
    let path = folder.join(segment_name(number));
    let mut kept = folder.join(format!("{number:012}.damaged"));
    let mut again = 1;
    loop {
        match files.link(&path, &kept) {
            Ok(()) => break,
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                // From a crash amid this, or from damage that was found earlier.
                let same = files.open(&kept, false).and_then(|file| read_all(&*file)).is_ok_and(|there| there == bytes);
                if same {
                    break;
                }
                again += 1;
                kept = folder.join(format!("{number:012}.{again}.damaged"));
            }
            Err(error) => return Err(failed(&format!("keeping {} aside", path.display()), folder, &error)),
        }
    }
    files.sync_folder(folder).map_err(|e| failed(&format!("keeping {} aside", path.display()), folder, &e))?;
    Ok(kept)
}

fn replace(files: &dyn Files, folder: &Path, from: Position, header: &SegmentHeader, bytes: &[u8], found: &Scan) -> Result<()> {
    let path = folder.join(segment_name(from.segment));
    let mut made = header.encode().to_vec();
    // What was drained already is of no interest; frames keep their places.
    made.resize(from.offset as usize, 0);
    let now = Utc::now().timestamp_micros();
    let fill = |made: &mut Vec<u8>, to: u64| {
        let at = made.len() as u64;
        if to > at {
            let length = (to - at).saturating_sub(FRAME_HEADER as u64) as usize;
            let head = FrameHead { batch: Uuid::nil(), kind: KIND_VOID, version: 0, rows: 0, written_at: now };
            encode_frame(made, Position { segment: from.segment, offset: at }, at, &head, &vec![0; length]);
        }
    };
    for (at, info) in &found.frames {
        fill(&mut made, *at);
        made.extend_from_slice(&bytes[*at as usize..][..info.span() as usize]);
    }
    fill(&mut made, found.end);
    let draft = folder.join(format!("{:012}.tmp", from.segment));
    let write = || {
        let _ = files.unlink(&draft);
        let file = files.create(&draft, made.len() as u64)?;
        file.write_at(&made, 0)?;
        file.sync()?;
        files.rename(&draft, &path)?;
        files.sync_folder(folder)
    };
    write().map_err(|e| failed(&format!("mending {}", path.display()), folder, &e))
}

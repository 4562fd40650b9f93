//! From lines to records, on a thread of its own: a core parses while another sends.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use tokio::sync::mpsc;

use super::chain::{CELL_BYTES, CELL_LINES, Chain, Key, RecordIds};
use super::frame;
use super::lines::{Line, Lines, MAX_LINE_BYTES};
use super::piece::{Mark, Piece, Refused};
use super::progress::Progress;
use super::rejects::{self, Reject};
use super::source::{self, Block};
use super::worker::{self, Handed};
use crate::error::Error;
use crate::records::{Limits, Record};

/// How often the parser looks up when nothing comes and a piece waits to be old enough.
const TICK: Duration = Duration::from_millis(20);
/// The same when nothing waits: how long it may take to see that the run is to stop.
const IDLE: Duration = Duration::from_millis(50);
/// Pieces that wait to be sent, at most.
const PIECES: usize = 1;

/// Why a line stays refused that looks good.
const REFUSED_BEFORE: &str = "an earlier run refused it; ingest the file of refused lines to store it now";

/// What the parser hands over; its last word is one of the last two.
pub(super) enum Parsed<R> {
    Piece(Piece<R>),
    /// Half a line at the end that is no record. Its other half may come: it is no part of what was taken care of.
    Half(Refused),
    /// Nothing more comes: because the stream ended, or because the run was told to stop.
    End {
        stopped: bool,
    },
    Failed(Error),
}

/// How lines are parsed.
pub(super) struct Parsing {
    /// Lines that an earlier run refused.
    pub(super) refused_before: HashSet<Mark>,
    /// How long a line waits for its batch to fill; for ever in a file.
    pub(super) max_age: Option<Duration>,
    /// The lines go to a spool. Then what an earlier run refused stays refused: when the lines get to the database,
    /// and whether that takes them then, is not known yet.
    pub(super) spool: bool,
    pub(super) stop: Arc<AtomicBool>,
    pub(super) progress: Arc<Progress>,
}

impl Parsing {
    /// Parses what the reader reads. What waits is bounded.
    pub(super) fn start<R: Record>(self, blocks: Receiver<Block>) -> Handed<Parsed<R>> {
        worker::thread("the parser of the lines", PIECES, move |to| Parser::new(self, to).run(&blocks))
    }
}

/// Whoever took the pieces has gone: nothing is left to do.
struct Gone;

struct Parser<R> {
    how: Parsing,
    to: mpsc::Sender<Parsed<R>>,
    ids: RecordIds,
    limits: Limits,
    now: DateTime<Utc>,
    chain: Chain,
    /// Lines and bytes of the cell so far.
    lines: usize,
    bytes: usize,
    key: Option<Key>,
    piece: Option<Piece<R>>,
    /// When the piece got its first line.
    began: Instant,
    /// Lines that the next piece is likely to have.
    likely: usize,
}

impl<R: Record> Parser<R> {
    fn new(how: Parsing, to: mpsc::Sender<Parsed<R>>) -> Self {
        Self {
            how,
            to,
            ids: RecordIds::of(R::TABLE),
            limits: Limits::default(),
            now: Utc::now(),
            chain: Chain::start(R::TABLE),
            lines: 0,
            bytes: 0,
            key: None,
            piece: None,
            began: Instant::now(),
            likely: 0,
        }
    }

    fn run(mut self, blocks: &Receiver<Block>) {
        let mut lines = Lines::default();
        let end = loop {
            let mut gone = Ok(());
            let told = self.how.stop.load(Relaxed);
            match blocks.recv_timeout(if self.piece.is_some() { TICK } else { IDLE }) {
                Ok(Block::Bytes(bytes)) => {
                    self.now = Utc::now();
                    lines.cut(&bytes, |line| {
                        if gone.is_ok() {
                            gone = self.take(line);
                        }
                    });
                    self.how.progress.bytes.fetch_add(bytes.len() as u64, Relaxed);
                }
                Ok(Block::End) => {
                    self.now = Utc::now();
                    if let Some(line) = lines.rest() {
                        gone = self.take(&line);
                    }
                    if gone.is_ok() {
                        break Parsed::End { stopped: false };
                    }
                }
                Ok(Block::Failed(error)) => break Parsed::Failed(error),
                // Half a line is left behind.
                Ok(Block::Stopped) => break Parsed::End { stopped: true },
                Err(RecvTimeoutError::Disconnected) => break Parsed::Failed(worker::panicked(source::READER)),
                // It may wait for more in vain.
                Err(RecvTimeoutError::Timeout) if told => break Parsed::End { stopped: true },
                Err(RecvTimeoutError::Timeout) => {}
            }
            if gone.and_then(|()| self.cut_by_age()).is_err() {
                return;
            }
        };
        if self.hand_over().is_ok() {
            let _ = self.to.blocking_send(end);
        }
    }

    fn take(&mut self, line: &Line<'_>) -> Result<(), Gone> {
        if line.is_blank() {
            return Ok(());
        }
        self.how.progress.lines.fetch_add(1, Relaxed);
        let parsed = parse::<R>(line, &self.ids, &self.limits, self.now).map_err(|reason| refused(line, reason));
        let parsed = match parsed {
            Err(half) if !line.ended => {
                self.hand_over()?;
                return self.to.blocking_send(Parsed::Half(half)).map_err(|_| Gone);
            }
            parsed => parsed,
        };
        let before = self.chain;
        self.chain = before.link(line.bytes);
        let key = *self.key.get_or_insert_with(|| Key::of(&self.chain));
        let piece = self.piece.get_or_insert_with(|| {
            self.began = Instant::now();
            Piece::new(key, before, self.lines, self.likely)
        });
        piece.ends.push(self.chain);
        let parsed = match parsed {
            Ok(record) if !self.how.refused_before.is_empty() => {
                let mark = rejects::mark(line.number, &line.text());
                match self.how.refused_before.contains(&mark) {
                    true if self.how.spool => Err(refused(line, REFUSED_BEFORE.to_owned())),
                    true => {
                        piece.refused_before.push((self.lines, mark));
                        Ok(record)
                    }
                    false => Ok(record),
                }
            }
            parsed => parsed,
        };
        if self.how.spool {
            frame::note(&mut piece.raw, line.bytes, parsed.is_ok());
        }
        match parsed {
            Ok(record) => {
                piece.rows.push(record);
                piece.places.push(self.lines);
            }
            Err(refused) => piece.refused.push(refused),
        }
        self.lines += 1;
        self.bytes += line.bytes.len();
        if self.lines < CELL_LINES && self.bytes < CELL_BYTES {
            return Ok(());
        }
        piece.closes = true;
        (self.lines, self.bytes, self.key) = (0, 0, None);
        self.hand_over()
    }

    /// Ends a piece that is old enough, unless there is one that waits: then this one goes on filling.
    fn cut_by_age(&mut self) -> Result<(), Gone> {
        let due = self.piece.is_some() && self.how.max_age.is_some_and(|age| self.began.elapsed() >= age);
        if due && self.to.capacity() == PIECES { self.hand_over() } else { Ok(()) }
    }

    fn hand_over(&mut self) -> Result<(), Gone> {
        let Some(piece) = self.piece.take() else { return Ok(()) };
        // A piece was cut by age amid a stream that is slow, or is as large as the next.
        self.likely = piece.ends.len();
        self.to.blocking_send(Parsed::Piece(piece)).map_err(|_| Gone)
    }
}

fn refused(line: &Line<'_>, reason: String) -> Refused {
    Refused { number: line.number, reason, text: line.text() }
}

/// The record in a line, or why there is none.
fn parse<R: Record>(line: &Line<'_>, ids: &RecordIds, limits: &Limits, now: DateTime<Utc>) -> Result<R, String> {
    if line.cut {
        return Err(format!("the line is longer than {MAX_LINE_BYTES} bytes"));
    }
    let record: R = record(line.bytes, line.ended, ids)?;
    record.validate(limits, now).map_err(|e| e.to_string())?;
    Ok(record)
}

/// The record in these bytes, whatever the rules say of it.
pub(super) fn record<R: Record>(bytes: &[u8], ended: bool, ids: &RecordIds) -> Result<R, String> {
    let text = std::str::from_utf8(bytes).map_err(|e| format!("not UTF-8: {e}"))?;
    let reject = Reject::parse(text);
    let text = reject.as_ref().map_or(text, |reject| reject.text.as_str());
    let mut record: R = serde_json::from_str(text).map_err(|e| {
        let unfinished = if e.is_eof() && !ended { "; the file ends amid this line" } else { "" };
        format!("{e}{unfinished}")
    })?;
    record.nulls_are_none();
    if let Some(id) = record.id_mut()
        && id.is_empty()
    {
        *id = ids.id(text);
    }
    Ok(record)
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;
    use crate::cli::ingest::frame;
    use crate::cli::ingest::source::Source;
    use crate::records::HealthCheck;
    use crate::spool::SpooledFrame;

    /// Gives a few bytes at a time.
    struct Drops(std::io::Cursor<Vec<u8>>, usize);

    impl Read for Drops {
        fn read(&mut self, to: &mut [u8]) -> std::io::Result<usize> {
            self.1 = self.1 * 31 % 10_007 + 1;
            let most = self.1.min(to.len());
            self.0.read(&mut to[..most])
        }
    }

    fn text() -> Vec<u8> {
        let time = Utc::now().format("%Y-%m-%dT%H:%M:%SZ");
        let line = |n: usize| match n % 1000 {
            7 => "nonsense\n".to_owned(),
            8 => "\n".to_owned(),
            _ => format!("{{\"module\":\"m\",\"checked_at\":\"{time}\",\"status\":\"healthy\",\"error_count\":{n}}}\r\n"),
        };
        (0..25_000).map(line).collect::<String>().into_bytes()
    }

    fn pieces(text: &[u8], max_age: Option<Duration>) -> Vec<Piece<HealthCheck>> {
        let how = Parsing { refused_before: HashSet::new(), max_age, spool: true, stop: Arc::default(), progress: Arc::default() };
        let mut parsed = how.start(Source::made_of(Drops(std::io::Cursor::new(text.to_vec()), 17)).start(Arc::default()));
        let mut pieces = Vec::new();
        loop {
            match parsed.blocking_next() {
                Ok(Parsed::Piece(piece)) => pieces.push(piece),
                Ok(Parsed::End { stopped }) => {
                    assert!(!stopped);
                    return pieces;
                }
                _ => panic!("it is a whole stream"),
            }
        }
    }

    #[test]
    fn null_in_a_line_is_the_same_as_nothing() {
        let ids = RecordIds::of("health_check");
        let read = |details: &str| {
            let line = format!(r#"{{"module":"m","checked_at":"2026-01-31T09:30:00Z","status":"healthy"{details}}}"#);
            record::<HealthCheck>(line.as_bytes(), true, &ids).unwrap()
        };
        assert_eq!(read(r#","details":null"#), read(""));
        assert!(read(r#","details":[null]"#).details.is_some());
    }

    #[test]
    fn cells_are_the_same_wherever_pieces_are_cut() {
        let text = text();
        let whole = pieces(&text, None);
        assert_eq!(
            whole.iter().map(|p| (p.from, p.ends.len(), p.closes)).collect::<Vec<_>>(),
            [(0, 10_000, true), (0, 10_000, true), (0, 4975, false)]
        );
        let mut cells: Vec<Piece<HealthCheck>> = Vec::new();
        let cut = pieces(&text, Some(Duration::ZERO));
        assert!(cut.len() > 10);
        for piece in cut {
            match cells.last_mut() {
                Some(cell) if !cell.closes => {
                    assert!(cell.key == piece.key && cell.to() == piece.from && *cell.end() == piece.before);
                    cell.join(piece);
                }
                _ => cells.push(piece),
            }
        }
        for (cell, expected) in cells.iter().zip(&whole) {
            assert!(
                cell.key == expected.key && cell.before == expected.before && cell.ends == expected.ends && cell.closes == expected.closes
            );
            assert!(cell.rows == expected.rows && cell.places == expected.places);
            assert_eq!(
                cell.refused.iter().map(|r| r.number).collect::<Vec<_>>(),
                expected.refused.iter().map(|r| r.number).collect::<Vec<_>>()
            );
        }
        assert_eq!(cells.len(), whole.len());
    }

    #[test]
    fn a_frame_holds_the_whole_piece() {
        for piece in pieces(&text(), None) {
            let frame = frame::write(&piece, "me").unwrap();
            assert_eq!(frame.head.rows as usize, piece.rows.len());
            let spooled = SpooledFrame { head: frame.head, payload: frame.payload };
            let read = frame::read::<HealthCheck>(&spooled).unwrap();
            let back = read.piece;
            assert!(read.producer == "me" && read.bad.is_empty() && back.closes == piece.closes && back.from == piece.from);
            assert!(back.key == piece.key && back.before == piece.before && back.ends == piece.ends);
            assert!(back.rows == piece.rows && back.places == piece.places);
            assert_eq!(frame::lines(&spooled).split(|b| *b == b'\n').count(), piece.rows.len() + 1);
            let newer =
                SpooledFrame { head: crate::spool::NewFrame::new(uuid::Uuid::nil(), spooled.head.kind, 9, 1, vec![0]).head, ..spooled };
            assert!(frame::read::<HealthCheck>(&newer).is_err());
        }
    }

    /// Gives one line, and then breaks.
    struct Broken(Option<&'static [u8]>);

    impl Read for Broken {
        fn read(&mut self, to: &mut [u8]) -> std::io::Result<usize> {
            let line = self.0.take().expect("this reader breaks on purpose");
            to[..line.len()].copy_from_slice(line);
            Ok(line.len())
        }
    }

    #[test]
    fn a_reader_that_breaks_is_no_end_of_the_stream() {
        let how = Parsing { refused_before: HashSet::new(), max_age: None, spool: false, stop: Arc::default(), progress: Arc::default() };
        let mut parsed = how.start::<HealthCheck>(Source::made_of(Broken(Some(b"nonsense\n"))).start(Arc::default()));
        assert!(matches!(parsed.blocking_next(), Ok(Parsed::Piece(piece)) if piece.refused.len() == 1));
        assert!(
            matches!(parsed.blocking_next(), Ok(Parsed::Failed(error)) if error.to_string().starts_with("the reader of the input has failed"))
        );
    }
}

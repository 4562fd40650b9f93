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
use super::source::Block;
use crate::error::Error;
use crate::records::{Limits, Record};

/// How often the parser looks up when nothing comes and a piece waits to be old enough.
const TICK: Duration = Duration::from_millis(20);
/// The same when nothing waits: how long it may take to see that the run is to stop.
const IDLE: Duration = Duration::from_millis(200);
/// Pieces that wait to be sent, at most.
const PIECES: usize = 1;

/// Why a line stays refused that looks good.
const REFUSED_BEFORE: &str = "an earlier run refused it; ingest the file of refused lines to store it now";

/// What the parser hands over.
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
    pub(super) fn start<R: Record>(self, blocks: Receiver<Block>) -> mpsc::Receiver<Parsed<R>> {
        let (to, parsed) = mpsc::channel(PIECES);
        std::thread::spawn(move || Parser::new(self, to).run(&blocks));
        parsed
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
                // The reader goes when it is told to stop, and leaves half a line behind.
                Err(RecvTimeoutError::Disconnected) => break Parsed::End { stopped: true },
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
    if let Some(id) = record.id_mut()
        && id.is_empty()
    {
        *id = ids.id(text);
    }
    Ok(record)
}

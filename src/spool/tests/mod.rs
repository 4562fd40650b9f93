//! What the spool promises, on a file system that forgets, and on the real one.

mod codec;
mod crash;
mod damage;
mod late;
mod real;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::finding::SpoolFinding;
use super::format::KIND_RECORDS;
use super::log::{Log, NewFrame};
use super::model::Model;
use super::reading::{Reading, SpooledBatch, Unread};
use crate::error::Result;

/// The folder of the table that the tests write to.
fn folder() -> &'static Path {
    Path::new("/spool/health_check")
}

/// Small, so that a few frames fill one.
const SEGMENT: u64 = 512;

fn open(model: &Model) -> Result<(Log, Vec<SpoolFinding>)> {
    let (mut log, findings) = Log::open(Arc::new(model.clone()), folder(), "health_check", SEGMENT)?;
    log.cursor_lag = Duration::ZERO;
    Ok((log, findings))
}

fn frame(batch: u128, payload: &str) -> NewFrame {
    NewFrame::new(Uuid::from_u128(batch), KIND_RECORDS, 1, 1, payload.as_bytes().to_vec())
}

/// Stands for the database: what it has by batch.
type Database = BTreeMap<u128, Vec<String>>;

/// Stores a batch, once: what comes again under its id must be the same.
fn store(database: &mut Database, batch: &SpooledBatch) {
    let rows: Vec<String> = batch.frames.iter().map(|f| String::from_utf8(f.payload.clone()).unwrap()).collect();
    let id = batch.id.as_u128();
    if let Some(stored) = database.get(&id) {
        assert!(batch.known, "batch {id} is sent again, and must be looked up");
        assert_eq!(*stored, rows, "batch {id} comes again with other content");
    }
    database.insert(id, rows);
}

/// Takes the next batch out of a log and stores it. `false` when there is none.
fn drain_one(log: &mut Log, reading: &mut Reading, database: &mut Database) -> Result<bool> {
    loop {
        let complete = log.complete_from(reading.at);
        match reading.next(&*log.files, folder(), &complete) {
            Ok(None) => return Ok(false),
            Ok(Some((mut batch, next))) => {
                batch.known = log.hand_out(batch.start, batch.end, batch.rows, batch.bytes);
                *reading = next;
                if !batch.frames.is_empty() {
                    store(database, &batch);
                }
                log.done(batch.start);
                return Ok(true);
            }
            Err(Unread::Failed(error)) => return Err(error),
            Err(Unread::Damaged(segment)) => drop(log.mend(segment)?),
        }
    }
}

fn drain_all(log: &mut Log, database: &mut Database) -> Result<()> {
    let mut reading = Reading::from(log.read_again());
    while drain_one(log, &mut reading, database)? {}
    Ok(())
}

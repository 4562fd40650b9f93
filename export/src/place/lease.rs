//! The lock of a lake in an object store: an object that says until when somebody holds the lake, made only if
//! it is not there, and renewed and taken over only if it is still the one that was read.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use chrono::{DateTime, Utc};
use object_store::{Error, PutMode, UpdateVersion};
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;

use super::Place;
use crate::error::{ExportError, ExportErrorKind, Result};

/// The object.
pub(crate) const LOCK: &str = "_lock";
/// How long it holds without being renewed.
const HELD: Duration = Duration::from_secs(60);
/// How often it is renewed.
const EVERY: Duration = Duration::from_secs(15);
/// By how much clocks may differ.
const SKEW: Duration = Duration::from_secs(10);

/// What the object says.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Note {
    holder: String,
    until: DateTime<Utc>,
}

/// A lake that is held. It is let go of when this is dropped.
#[derive(Debug)]
pub(crate) struct Lease {
    place: Place,
    /// Until when it holds, in milliseconds; 0 when it was lost. By the clock, since a machine may sleep.
    until: Arc<AtomicI64>,
    renewing: JoinHandle<()>,
}

impl Lease {
    /// Takes the lake, unless somebody else holds it.
    pub(crate) async fn take(place: &Place) -> Result<Self> {
        let failed = |e| ExportError::lake(&format!("taking the lock {}", place.shown_in(LOCK)), e);
        let holder = holder();
        let mut mode = PutMode::Create;
        let (e_tag, until) = loop {
            let (text, until) = note(&holder);
            match place.put(LOCK, text, mode).await {
                Ok(put) => break (put.e_tag, Arc::new(AtomicI64::new(until))),
                Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => {}
                Err(e) => return Err(failed(e)),
            }
            // Let go of meanwhile: once more.
            let Some((text, found_tag)) = place.read(LOCK).await? else {
                mode = PutMode::Create;
                continue;
            };
            let found: Option<Note> = serde_json::from_slice(&text).ok();
            // The answer to our own request was lost, and it was sent again.
            if let Some(found) = found.as_ref().filter(|found| found.holder == holder) {
                break (found_tag, Arc::new(AtomicI64::new(found.until.timestamp_millis())));
            }
            if let Some(found) = found.filter(|found| found.until + SKEW > Utc::now()) {
                return Err(ExportError::new(
                    ExportErrorKind::Conflict,
                    format!(
                        "the lake {} is being written by another export ({}); wait for it, then run this again. \
                         If that one was killed, its lock ends at {}",
                        place.shown(),
                        found.holder,
                        (found.until + SKEW).to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
                    ),
                ));
            }
            tracing::info!("the lock of {} was left by an export that has ended; it is taken over", place.shown());
            mode = PutMode::Update(UpdateVersion { e_tag: found_tag, version: None });
        };
        let renewing = tokio::spawn(renew(place.clone(), holder, e_tag, until.clone()));
        Ok(Self { place: place.clone(), until, renewing })
    }

    /// Makes sure that the lake is still held.
    pub(crate) fn check(&self) -> Result<()> {
        if self.holds() {
            return Ok(());
        }
        Err(ExportError::new(
            ExportErrorKind::Conflict,
            format!(
                "the lock of the lake {} could not be renewed for {} s, or another export has taken it; run this again",
                self.place.shown(),
                HELD.as_secs()
            ),
        ))
    }

    /// Lets go of the lake, and comes back when that is done.
    pub(crate) async fn release(&mut self) {
        self.renewing.abort();
        if self.holds() {
            release(&self.place).await;
            self.until.store(0, Ordering::SeqCst);
        }
    }

    fn holds(&self) -> bool {
        Utc::now().timestamp_millis() < self.until.load(Ordering::SeqCst)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.renewing.abort();
        // Past its end it may be another's.
        if !self.holds() {
            return;
        }
        let place = self.place.clone();
        crate::lake::later(async move { release(&place).await });
    }
}

async fn release(place: &Place) {
    if let Err(e) = place.remove(LOCK).await {
        tracing::warn!("the lock {} stays until it ends by itself: {e}", place.shown_in(LOCK));
    }
}

/// What a holder writes, and until when that holds.
fn note(holder: &str) -> (Vec<u8>, i64) {
    let note = Note { holder: holder.to_owned(), until: Utc::now() + HELD };
    (serde_json::to_vec(&note).unwrap_or_default(), note.until.timestamp_millis())
}

fn holder() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("process {} on {}, {}", std::process::id(), host.trim(), uuid::Uuid::new_v4())
}

/// Renews the lease until it is let go of or lost.
async fn renew(place: Place, holder: String, mut e_tag: Option<String>, until: Arc<AtomicI64>) {
    loop {
        tokio::time::sleep(EVERY).await;
        let (text, next) = note(&holder);
        let mode = PutMode::Update(UpdateVersion { e_tag: e_tag.clone(), version: None });
        match tokio::time::timeout(EVERY, place.put(LOCK, text, mode)).await {
            Ok(Ok(put)) => e_tag = put.e_tag,
            // It may have been us: the answer to a renewal that went through was lost.
            Ok(Err(Error::Precondition { .. } | Error::NotFound { .. } | Error::AlreadyExists { .. })) => match place.read(LOCK).await {
                Ok(Some((text, found))) if serde_json::from_slice::<Note>(&text).is_ok_and(|n| n.holder == holder) => {
                    e_tag = found;
                    continue;
                }
                Ok(_) => {
                    until.store(0, Ordering::SeqCst);
                    return;
                }
                Err(_) => continue,
            },
            Ok(Err(_)) | Err(_) => continue,
        }
        until.store(next, Ordering::SeqCst);
    }
}

//! Hands complete batches to whoever puts them into the database.

use std::sync::atomic::Ordering::SeqCst;

use super::queue::SpoolLog;
use super::reading::{Reading, SpooledBatch, Unread};
use super::{aside, failed};
use crate::error::{Error, ErrorKind, Result};

/// Reads a table's log, in order. Several batches may be out at a time; the cursor moves once all before
/// are done.
pub(crate) struct SpoolReader {
    pub(super) log: SpoolLog,
    pub(super) reading: Reading,
}

/// How often damage that comes up while reading is mended before that is given up.
const MENDINGS: usize = 3;

impl SpoolReader {
    /// The next complete batch; waits for one. A future that is dropped has taken nothing, however late
    /// the disk answers it.
    ///
    /// # Errors
    /// `Disk` when it can't be read.
    pub(crate) async fn next(&mut self) -> Result<SpooledBatch> {
        loop {
            if let Some(batch) = self.try_next().await? {
                return Ok(batch);
            }
            self.log.inner.sealed.notified().await;
        }
    }

    /// The next complete batch, if there is one now.
    ///
    /// # Errors
    /// `Disk` when it can't be read.
    pub(crate) async fn try_next(&mut self) -> Result<Option<SpooledBatch>> {
        loop {
            let reading = self.reading;
            let turn = self.log.inner.turn.fetch_add(1, SeqCst) + 1;
            let next = self.log.blocking(move |inner| {
                for _ in 0..MENDINGS {
                    let (files, folder, complete) = {
                        let log = inner.log();
                        (log.files.clone(), log.folder.clone(), log.complete_from(reading.at))
                    };
                    match reading.next(&*files, &folder, &complete) {
                        Ok(None) => {
                            inner.log().settle();
                            return Ok(None);
                        }
                        Ok(Some((mut batch, reading))) => {
                            let mut log = inner.log();
                            if inner.turn.load(SeqCst) != turn {
                                // Nobody waits for it: the batch may be another's, and done, by now.
                                return Ok(None);
                            }
                            batch.known = log.hand_out(batch.start, batch.end, batch.rows, batch.bytes);
                            return Ok(Some((batch, reading)));
                        }
                        Err(Unread::Failed(error)) => return Err(error),
                        Err(Unread::Damaged(segment)) => {
                            let mut log = inner.log();
                            log.mend(segment)?;
                            inner.note(&log);
                        }
                    }
                }
                Err(Error::new(ErrorKind::Disk, "a segment that was mended is damaged again: the disk can't be trusted"))
            });
            let Some((batch, reading)) = next.await? else { return Ok(None) };
            self.reading = reading;
            if !batch.frames.is_empty() {
                return Ok(Some(batch));
            }
            // Nothing can be read where it was.
            self.log.done(&batch).await?;
        }
    }
}

impl SpoolLog {
    /// The database has the batch, or nobody wants it any more: it isn't read again.
    ///
    /// # Errors
    /// `Closed` when the program is ending.
    pub(crate) async fn done(&self, batch: &SpooledBatch) -> Result<()> {
        let start = batch.start;
        self.blocking(move |inner| {
            let mut log = inner.log();
            log.done(start);
            inner.note(&log);
            Ok(())
        })
        .await
    }

    /// Puts lines of a batch that can't be stored as they stand into a file of their own, loudly.
    ///
    /// # Errors
    /// `Disk` when the file can't be written.
    pub(crate) async fn keep_aside(&self, batch: &SpooledBatch, lines: Vec<u8>, reason: &str) -> Result<()> {
        let (batch, reason, table) = (batch.id, reason.to_owned(), self.table().to_owned());
        self.blocking(move |inner| {
            let (files, folder) = inner.place();
            let path = aside::keep(&*files, &folder, batch, &lines).map_err(|e| failed("keeping records aside", &folder, &e))?;
            tracing::error!(table, %batch, reason, "spool: records could not be stored as they stand; they are kept aside in {}", path.display());
            Ok(())
        })
        .await
    }
}

impl Drop for SpoolReader {
    fn drop(&mut self) {
        self.log.inner.has_reader.store(false, SeqCst);
    }
}

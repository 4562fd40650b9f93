//! Records on disk until the database has them: a log of segments for each table, in one folder.
//!
//! What is in the log survives the process and the machine. `docs/spool.md` says what each crash leaves
//! and shows the format byte for byte.

mod aside;
mod cursor;
mod files;
mod finding;
mod format;
mod lock;
mod log;
mod mend;
#[cfg(test)]
mod model;
mod open;
mod queue;
mod reader;
mod reading;
mod scan;
mod survey;
#[cfg(test)]
mod tests;

pub use finding::SpoolFinding;
#[cfg(feature = "cli")]
pub(crate) use format::KIND_LINES;
pub(crate) use format::KIND_RECORDS;
pub(crate) use log::NewFrame;
pub(crate) use queue::SpoolLog;
pub(crate) use reader::SpoolReader;
pub(crate) use reading::SpooledBatch;
#[cfg(any(feature = "cli", test))]
pub(crate) use reading::SpooledFrame;
pub use survey::{SpoolSurvey, SpoolTable, survey};

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, RwLock};

use crate::error::{Error, ErrorKind, Result};
use files::{Files, RealFiles};
use lock::Lock;
use log::Log;

/// Bytes of a segment unless told otherwise: 16 MiB.
pub const DEFAULT_SEGMENT_BYTES: u64 = 16 << 20;
/// Bytes that wait on disk, at most, by table, unless told otherwise: 1 GiB.
pub const DEFAULT_QUOTA_BYTES: u64 = 1 << 30;
/// The smallest segment.
const MIN_SEGMENT_BYTES: u64 = 4096;

/// What a write does when a table's quota is reached. Records of `order_event`, `risk_evaluation`,
/// `regime_state` and `proposal` always get the error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WhenFull {
    /// It fails with [`ErrorKind::Full`].
    #[default]
    Error,
    /// The record is dropped, and counted.
    Drop,
}

/// Where a spool is and how large it may grow.
#[derive(Debug, Clone)]
pub struct SpoolConfig {
    /// Its folder, for one program at a time; made if it isn't there.
    pub folder: PathBuf,
    /// Bytes of a segment.
    pub segment_bytes: u64,
    /// Bytes that wait, at most, by table. The files take up to two segments more.
    pub quota_bytes: u64,
    /// What a write does when the quota is reached.
    pub when_full: WhenFull,
}

impl SpoolConfig {
    /// The defaults, in this folder.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
            segment_bytes: DEFAULT_SEGMENT_BYTES,
            quota_bytes: DEFAULT_QUOTA_BYTES,
            when_full: WhenFull::default(),
        }
    }
}

/// A folder of logs that this program holds. Cheap to clone; another program is let in when the last
/// clone, and the last writer that uses it, is gone.
#[derive(Clone)]
pub struct Spool {
    inner: Arc<Inner>,
}

struct Inner {
    config: SpoolConfig,
    files: Arc<dyn Files>,
    lock: Arc<Lock>,
    logs: RwLock<BTreeMap<String, SpoolLog>>,
    /// Held while a log is opened.
    opening: Mutex<()>,
    claimed: AtomicBool,
    findings: Vec<SpoolFinding>,
}

impl Spool {
    /// Takes the folder and looks at what an earlier program left in it. Reads all that waits, so it takes
    /// as long as the disk needs for that: call it while starting.
    ///
    /// # Errors
    /// `Conflict` when another program has the folder, `Refused` when a newer program wrote it, `Disk`
    /// when it can't be read or written.
    pub fn open(mut config: SpoolConfig) -> Result<Self> {
        config.segment_bytes = config.segment_bytes.clamp(MIN_SEGMENT_BYTES, 1 << 30);
        let files: Arc<dyn Files> = Arc::new(RealFiles);
        files.create_folder(&config.folder).map_err(|e| failed("making it", &config.folder, &e))?;
        let lock = Arc::new(Lock::take(&config.folder)?);
        let (mut logs, mut findings) = (BTreeMap::new(), Vec::new());
        for table in tables(&config.folder)? {
            let (log, found) = Log::open(files.clone(), &config.folder.join(&table), &table, config.segment_bytes)?;
            found.iter().for_each(SpoolFinding::tell);
            findings.extend(found);
            logs.insert(table.clone(), SpoolLog::new(&table, config.quota_bytes, log, lock.clone()));
        }
        Ok(Self {
            inner: Arc::new(Inner {
                config,
                files,
                lock,
                logs: RwLock::new(logs),
                opening: Mutex::new(()),
                claimed: AtomicBool::new(false),
                findings,
            }),
        })
    }

    /// Its settings.
    pub fn config(&self) -> &SpoolConfig {
        &self.inner.config
    }

    /// What was not as it should be when the folder was opened. Each was told to the log too.
    pub fn findings(&self) -> &[SpoolFinding] {
        &self.inner.findings
    }

    /// Tables that have a log here.
    pub fn tables(&self) -> Vec<String> {
        self.inner.logs.read().unwrap_or_else(|e| e.into_inner()).keys().cloned().collect()
    }

    /// Records that wait, in all tables.
    pub fn waiting_rows(&self) -> u64 {
        self.inner.logs.read().unwrap_or_else(|e| e.into_inner()).values().map(|log| log.waiting().rows).sum()
    }

    /// A table's log, if there is one already.
    pub(crate) fn existing_log(&self, table: &str) -> Option<SpoolLog> {
        self.inner.logs.read().unwrap_or_else(|e| e.into_inner()).get(table).cloned()
    }

    /// A table's log, which is made when it isn't there.
    ///
    /// # Errors
    /// `Disk` when it can't be made, `Invalid` when the name is none of a table.
    pub(crate) async fn log(&self, table: &str) -> Result<SpoolLog> {
        if let Some(log) = self.existing_log(table) {
            return Ok(log);
        }
        let (spool, table) = (self.clone(), table.to_owned());
        let opened = tokio::task::spawn_blocking(move || spool.open_log(&table)).await;
        opened.map_err(|_| Error::new(ErrorKind::Closed, "the program ended before a spool was opened"))?
    }

    fn open_log(&self, table: &str) -> Result<SpoolLog> {
        let _one_at_a_time = self.inner.opening.lock().unwrap_or_else(|e| e.into_inner());
        if let Some(log) = self.existing_log(table) {
            return Ok(log);
        }
        if !is_table_name(table) {
            return Err(Error::new(ErrorKind::Invalid, format!("'{table}' is no table's name")));
        }
        let config = &self.inner.config;
        let (log, _) = Log::open(self.inner.files.clone(), &config.folder.join(table), table, config.segment_bytes)?;
        let log = SpoolLog::new(table, config.quota_bytes, log, self.inner.lock.clone());
        self.inner.logs.write().unwrap_or_else(|e| e.into_inner()).insert(table.to_owned(), log.clone());
        Ok(log)
    }
}

/// Held by the one who appends to a spool: batches of two would tear each other apart.
pub(crate) struct Claim {
    spool: Spool,
}

impl Spool {
    /// Becomes the one who appends, unless there is one.
    pub(crate) fn claim(&self) -> Option<Claim> {
        (!self.inner.claimed.swap(true, SeqCst)).then(|| Claim { spool: self.clone() })
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.spool.inner.claimed.store(false, SeqCst);
    }
}

impl std::fmt::Debug for Spool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Spool").field("config", &self.inner.config).field("tables", &self.tables()).finish_non_exhaustive()
    }
}

/// Names of tables are names of folders.
fn is_table_name(name: &str) -> bool {
    (1..=63).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

/// The tables that have a folder here.
fn tables(folder: &Path) -> Result<Vec<String>> {
    let mut tables = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(|e| failed("reading it", folder, &e))? {
        let entry = entry.map_err(|e| failed("reading it", folder, &e))?;
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            tables.extend(entry.file_name().into_string().ok().filter(|name| is_table_name(name)));
        }
    }
    tables.sort();
    Ok(tables)
}

/// An error of the folder: what was under way, where, and what to do.
fn failed(doing: &str, folder: &Path, error: &io::Error) -> Error {
    let advice = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "; make room on the disk, nothing that was acknowledged is lost",
        io::ErrorKind::PermissionDenied => "; the folder must belong to whoever runs the program",
        _ => "",
    };
    Error::new(ErrorKind::Disk, format!("spool {}: {doing}: {error}{advice}", folder.display()))
}

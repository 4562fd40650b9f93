//! The embedded engine: real TimescaleDB in WebAssembly, served by Node on a loopback port.
//!
//! For trying the store out and for tests; a platform's records belong on a server. One connection at
//! a time, no background jobs. Its script and lock file are compiled in and unpacked into the user's
//! cache folder, where npm installs what the lock file names (about 45 MB) the first time.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde::Deserialize;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};

use crate::error::{Error, ErrorKind, Result};

const PACKAGE: &str = include_str!("../../embedded/package.json");
const LOCK: &str = include_str!("../../embedded/package-lock.json");
const SERVER: &str = include_str!("../../embedded/server.mjs");

/// The oldest Node that the engine was tried with.
pub const MIN_NODE_MAJOR: u32 = 20;
/// How long the engine may take to come up.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// Variable that names another cache folder.
pub const CACHE_DIR_VARIABLE: &str = "HITHERTO_CACHE_DIR";

/// A running engine. Dropping it stops the process; [`Embedded::stop`] lets it close its data first.
#[derive(Debug)]
pub struct Embedded {
    child: Child,
    /// What it ends with; kept apart, because waiting for a child closes what it holds.
    stdin: Option<ChildStdin>,
    port: u16,
    /// Keeps a second engine off the same data.
    _lock: Option<File>,
}

#[derive(Deserialize)]
struct Ready {
    port: u16,
}

impl Embedded {
    /// Starts an engine whose data is in `data`, or in memory when that is `None`.
    ///
    /// # Errors
    /// `Config` when Node or npm is missing or too old, when npm can't install the engine, when the
    /// data folder is in use or can't be made; `Unreachable` when it does not come up.
    pub async fn start(data: Option<&Path>) -> Result<Self> {
        check_node().await?;
        let home = install().await?;
        let lock = data.map(lock_data).transpose()?;
        let mut command = Command::new("node");
        command.arg(home.join("server.mjs")).current_dir(&home);
        if let Some(data) = data {
            command.arg("--data").arg(engine_folder(data)?);
        }
        // The open standard input is what keeps it running: it ends when this process does.
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|e| Error::new(ErrorKind::Config, format!("starting node: {e}")))?;
        let stdin = child.stdin.take();
        let mut stdout = BufReader::new(child.stdout.take().expect("standard output is piped")).lines();
        let mut stderr = BufReader::new(child.stderr.take().expect("standard error is piped")).lines();
        let words = tokio::spawn(async move {
            let mut last = std::collections::VecDeque::new();
            while let Ok(Some(line)) = stderr.next_line().await {
                tracing::debug!(line, "embedded engine");
                if last.len() == 8 {
                    last.pop_front();
                }
                last.push_back(line);
            }
            Vec::from(last).join("\n")
        });
        let line = tokio::time::timeout(START_TIMEOUT, stdout.next_line()).await;
        let port = match line {
            Ok(Ok(Some(line))) => serde_json::from_str::<Ready>(&line).map(|ready| ready.port).map_err(|e| e.to_string()),
            Ok(Ok(None)) => Err(words.await.unwrap_or_default()),
            Ok(Err(e)) => Err(e.to_string()),
            Err(_) => Err(format!("nothing was heard of it for {} s", START_TIMEOUT.as_secs())),
        };
        let port = port.map_err(|why| Error::new(ErrorKind::Unreachable, format!("the embedded engine did not start: {why}")))?;
        Ok(Self { child, stdin, port, _lock: lock })
    }

    /// Waits until the process ends by itself.
    pub async fn ended(&mut self) {
        let _ = self.child.wait().await;
    }

    /// Where to connect to. Any password is right, but one must be sent.
    pub fn url(&self) -> String {
        format!("postgresql://postgres:embedded@127.0.0.1:{}/postgres?sslmode=disable", self.port)
    }

    /// Stops the engine once it has closed its data.
    ///
    /// # Errors
    /// `Unreachable` when it does not end in time; then it is killed.
    pub async fn stop(mut self) -> Result<()> {
        drop(self.stdin.take());
        match tokio::time::timeout(Duration::from_secs(20), self.child.wait()).await {
            Ok(_) => Ok(()),
            Err(_) => Err(Error::new(ErrorKind::Unreachable, "the embedded engine did not end within 20 s and was killed")),
        }
    }

    /// Kills the engine as a power cut would: for tests.
    ///
    /// # Errors
    /// When the process can't be killed.
    pub async fn kill(mut self) -> Result<()> {
        self.child.kill().await.map_err(|e| Error::new(ErrorKind::Unreachable, format!("killing the embedded engine: {e}")))
    }
}

fn config(what: impl Into<String>) -> Error {
    Error::new(ErrorKind::Config, what)
}

async fn check_node() -> Result<()> {
    let needed = "the embedded engine needs Node.js 20 or newer with npm (https://nodejs.org, or: apt-get install nodejs npm); \
                  or name a database with --database-url";
    let output = Command::new("node").arg("--version").output().await.map_err(|e| config(format!("node can't be run ({e}); {needed}")))?;
    let version = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let major = version.trim_start_matches('v').split('.').next().and_then(|m| m.parse::<u32>().ok());
    match major {
        Some(major) if major >= MIN_NODE_MAJOR => Ok(()),
        _ => Err(config(format!("node is '{version}'; {needed}"))),
    }
}

/// The folder with script and packages, filled at the first call. Safe to be called by many at once.
async fn install() -> Result<PathBuf> {
    let cache = match std::env::var_os(CACHE_DIR_VARIABLE).filter(|v| !v.is_empty()) {
        Some(folder) => PathBuf::from(folder),
        None => dirs::cache_dir().ok_or_else(|| config(format!("no cache folder is known; set {CACHE_DIR_VARIABLE}")))?.join("hitherto"),
    };
    let mut sha = Sha256::new();
    for part in [PACKAGE, LOCK, SERVER] {
        sha.update(part);
        sha.update([0]);
    }
    let digest: String = sha.finalize().iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    let home = cache.join(format!("embedded-{digest}"));
    if home.join("server.mjs").is_file() {
        return Ok(home);
    }
    let failed = |what: &str, e: std::io::Error| {
        config(format!("{what} {}: {e}; set {CACHE_DIR_VARIABLE} to a folder that can be written", cache.display()))
    };
    fs::create_dir_all(&cache).map_err(|e| failed("making", e))?;
    let room = tempfile::Builder::new().prefix("embedded-").tempdir_in(&cache).map_err(|e| failed("writing to", e))?;
    for (name, text) in [("package.json", PACKAGE), ("package-lock.json", LOCK), ("server.mjs", SERVER)] {
        fs::write(room.path().join(name), text).map_err(|e| failed("writing to", e))?;
    }
    tracing::info!("installing the embedded engine into {} (about 45 MB, once)", home.display());
    let output = Command::new("npm")
        .args(["ci", "--omit=dev", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"])
        .current_dir(room.path())
        .stdin(Stdio::null())
        .output()
        .await
        .map_err(|e| config(format!("npm can't be run ({e}); it comes with Node.js 20 (or: apt-get install npm)")))?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        let last: Vec<&str> = words.lines().rev().take(6).collect();
        let last = last.into_iter().rev().collect::<Vec<_>>().join("\n");
        return Err(config(format!("npm could not install the embedded engine; is its registry within reach?\n{last}")));
    }
    // Whoever renames first wins; the others find the same files there.
    match fs::rename(room.path(), &home) {
        Ok(()) => {
            let _ = room.keep();
        }
        Err(_) if home.join("server.mjs").is_file() => {}
        Err(e) => return Err(failed("writing to", e)),
    }
    Ok(home)
}

fn engine_folder(data: &Path) -> Result<PathBuf> {
    std::path::absolute(data).map(|path| path.join("engine")).map_err(|e| config(format!("{}: {e}", data.display())))
}

/// The lock stands beside the engine's own folder, which must be empty when it is first used.
fn lock_data(data: &Path) -> Result<File> {
    fs::create_dir_all(data).map_err(|e| config(format!("the data folder {} can't be made: {e}", data.display())))?;
    let path = data.join("lock");
    let file =
        File::options().create(true).truncate(false).write(true).open(&path).map_err(|e| config(format!("{}: {e}", path.display())))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            Err(config(format!("another embedded engine works on {}; stop it, or choose another folder", data.display())))
        }
        Err(TryLockError::Error(e)) => Err(config(format!("{} can't be locked: {e}", path.display()))),
    }
}

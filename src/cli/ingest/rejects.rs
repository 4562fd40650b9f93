//! The file of refused lines.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;

use super::claim::Claim;
use super::piece::{Mark, Refused};
use crate::error::{Error, ErrorKind, Result};

/// A line of the file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Reject {
    /// Number of the line in its file.
    line: u64,
    reason: String,
    /// The line as it stood; bytes that are no text are U+FFFD.
    pub(super) text: String,
}

impl Reject {
    /// The refused line in a line of such a file, so that a corrected file can be ingested.
    pub(super) fn parse(text: &str) -> Option<Self> {
        text.starts_with(r#"{"line":"#).then(|| serde_json::from_str(text).ok()).flatten()
    }
}

/// Refused lines of this run and, where this run passed over lines that an earlier one had taken care
/// of, of that one: a line that was refused then is in no table, however good it may look by now.
///
/// The file is made anew when the run is over; until then, what was refused stands at its end.
pub(super) struct Rejects {
    path: PathBuf,
    _claim: Option<Claim>,
    /// The input has no name.
    stdin: bool,
    /// Lines that an earlier run refused, by number and digest.
    earlier: HashSet<Mark>,
    kept: HashSet<Mark>,
    draft: Option<BufWriter<NamedTempFile>>,
    /// Lines refused since the last call of [`Rejects::secure`].
    loose: Vec<u8>,
    count: u64,
}

/// Refused lines that are also told on standard error.
const TOLD: u64 = 10;

impl Rejects {
    /// Takes the file for this run.
    ///
    /// # Errors
    /// `Conflict` while another run has it, `Config` when it is no file of refused lines.
    pub(super) fn new(input: &Path, named: Option<&Path>, table: &str) -> Result<Self> {
        let stdin = input == Path::new("-");
        let path = match named {
            Some(path) => path.to_owned(),
            None if stdin => PathBuf::from(format!("stdin.{table}.rejected.ndjson")),
            None => {
                let mut name = input.as_os_str().to_owned();
                name.push(".rejected.ndjson");
                PathBuf::from(name)
            }
        };
        if !stdin && fs::canonicalize(&path).is_ok_and(|path| fs::canonicalize(input).is_ok_and(|input| input == path)) {
            return Err(Error::new(ErrorKind::Config, format!("{} can't be the input and take its rejects", path.display())));
        }
        let claim = Claim::take(&path)?;
        cut_torn_end(&path).map_err(|e| failed(&path, &e))?;
        let mut earlier = HashSet::new();
        for reject in read(&path)? {
            let reject = reject?;
            earlier.insert(mark(reject.line, &reject.text));
        }
        Ok(Self { path, _claim: claim, stdin, earlier, kept: HashSet::new(), draft: None, loose: Vec::new(), count: 0 })
    }

    /// Notes a line that was refused.
    pub(super) fn add(&mut self, refused: Refused) -> Result<()> {
        self.count += 1;
        let Refused { number, reason, text } = refused;
        if self.count <= TOLD {
            tracing::warn!("line {number}: {reason}");
        } else if self.count == TOLD + 1 {
            tracing::warn!("more lines are refused; see {}", self.path.display());
        }
        let known = self.earlier.remove(&mark(number, &text));
        let reject = Reject { line: number, reason, text };
        if !known {
            serde_json::to_writer(&mut self.loose, &reject).map_err(|e| failed(&self.path, &e.into()))?;
            self.loose.push(b'\n');
        }
        self.write(&reject)
    }

    /// Puts the lines refused so far on disk, behind those of earlier runs: before a batch is sent whose id
    /// says that they were taken care of. A run that ends early leaves them there for the next.
    pub(super) fn secure(&mut self) -> Result<()> {
        if self.loose.is_empty() || self.is_device() {
            return Ok(());
        }
        let append = || -> std::io::Result<()> {
            let mut file = File::options().create(true).append(true).open(&self.path)?;
            file.write_all(&self.loose)?;
            file.sync_data()
        };
        append().map_err(|e| failed(&self.path, &e))?;
        self.loose.clear();
        Ok(())
    }

    /// Lines that an earlier run refused, as it left them.
    pub(super) fn earlier(&self) -> HashSet<Mark> {
        self.earlier.clone()
    }

    /// What becomes of a line that an earlier run refused and that looks good now: it stays refused if
    /// this run passes over it, and is forgotten if this run stores it.
    pub(super) fn settle(&mut self, mark: Mark, passed_over: bool) {
        if self.earlier.remove(&mark) && passed_over {
            self.kept.insert(mark);
        }
    }

    /// Lines refused now, and lines refused earlier that stay so.
    pub(super) fn count(&self) -> u64 {
        self.count + self.kept.len() as u64
    }

    /// Makes the file last, or removes one that has nothing to say any more; gives its path if there is one.
    pub(super) fn finish(mut self, endless: bool) -> Result<Option<PathBuf>> {
        // Other streams may have left theirs under the same name.
        let keep_strangers = self.stdin || endless;
        if !self.kept.is_empty() {
            tracing::warn!("{} lines were refused by an earlier run and stay in {}", self.kept.len(), self.path.display());
        }
        let path = self.path.clone();
        for reject in read(&path)? {
            let reject = reject?;
            let mark = mark(reject.line, &reject.text);
            if self.kept.contains(&mark) || keep_strangers && self.earlier.contains(&mark) {
                self.write(&reject)?;
            }
        }
        let result = match self.draft.take() {
            None if self.path.is_file() => fs::remove_file(&self.path).map(|()| None),
            None => Ok(None),
            Some(draft) => draft.into_inner().map_err(std::io::IntoInnerError::into_error).and_then(|draft| {
                if self.is_device() {
                    // A device or a pipe is written to, not replaced.
                    std::io::copy(&mut draft.reopen()?, &mut File::create(&self.path)?)?;
                } else {
                    draft.as_file().sync_all()?;
                    draft.persist(&self.path).map_err(|e| e.error)?;
                }
                Ok(Some(self.path.clone()))
            }),
        };
        result.map_err(|e| failed(&self.path, &e))
    }

    /// `/dev/null` and the like.
    fn is_device(&self) -> bool {
        self.path.exists() && !self.path.is_file()
    }

    fn write(&mut self, reject: &Reject) -> Result<()> {
        let anywhere = self.is_device();
        let write = |draft: &mut Option<BufWriter<NamedTempFile>>| -> std::io::Result<()> {
            let draft = match draft {
                Some(draft) => draft,
                None => {
                    let folder = self.path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
                    // With /dev/null and the like, anywhere will do.
                    let file = if anywhere { NamedTempFile::new()? } else { readable_in(folder)? };
                    draft.insert(BufWriter::new(file))
                }
            };
            serde_json::to_writer(&mut *draft, reject)?;
            draft.write_all(b"\n")
        };
        write(&mut self.draft).map_err(|e| failed(&self.path, &e))
    }
}

/// A temporary file with the permissions that an ordinary one would get.
fn readable_in(folder: &Path) -> std::io::Result<NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder.prefix(".rejected-").tempfile_in(folder)
}

/// Tells a refused line from others.
pub(super) fn mark(number: u64, text: &str) -> Mark {
    let sha = Sha256::digest(text);
    (number, u64::from_be_bytes(std::array::from_fn(|at| sha[at])))
}

/// Cuts off a line that a run that was killed has not written to its end: it will be refused again.
fn cut_torn_end(path: &Path) -> std::io::Result<()> {
    if !path.is_file() {
        return Ok(());
    }
    let mut reader = BufReader::new(File::open(path)?);
    let (mut whole, mut line) = (0, Vec::new());
    loop {
        line.clear();
        let read = reader.read_until(b'\n', &mut line)?;
        if read == 0 {
            return Ok(());
        }
        if !line.ends_with(b"\n") && line.starts_with(br#"{"line":"#) {
            return File::options().write(true).open(path)?.set_len(whole);
        }
        whole += read as u64;
    }
}

/// What an earlier run left under the name. A file of anything else is an error, and not touched.
fn read(path: &Path) -> Result<impl Iterator<Item = Result<Reject>>> {
    let file = match fs::metadata(path) {
        Ok(m) if m.is_file() => Some(File::open(path).map_err(|e| failed(path, &e))?),
        Ok(m) if m.is_dir() => return Err(failed(path, &std::io::Error::from(std::io::ErrorKind::IsADirectory))),
        _ => None,
    };
    Ok(file.into_iter().flat_map(|file| BufReader::new(file).lines()).map(move |line| {
        let line = line.map_err(|e| failed(path, &e))?;
        serde_json::from_str(&line).map_err(|_| {
            Error::new(
                ErrorKind::Config,
                format!("{} holds something else than refused lines; name another file with --rejects", path.display()),
            )
        })
    }))
}

pub(super) fn failed(path: &Path, error: &std::io::Error) -> Error {
    Error::new(
        ErrorKind::Config,
        format!("refused lines can't be written to {}: {error}; name another file with --rejects", path.display()),
    )
}

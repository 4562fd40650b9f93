//! The file of refused lines.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use serde_json::json;

use super::lines::Line;
use crate::error::{Error, ErrorKind, Result};

/// Made when the first line is refused; what an earlier run left under the name is removed.
pub(super) struct Rejects {
    path: PathBuf,
    file: Option<BufWriter<File>>,
    count: u64,
}

/// Refused lines that are also told on standard error.
const TOLD: u64 = 10;

impl Rejects {
    pub(super) fn new(input: &Path, named: Option<&Path>) -> Result<Self> {
        let path = match named {
            Some(path) => path.to_owned(),
            None if input == Path::new("-") => PathBuf::from("stdin.rejected.ndjson"),
            None => {
                let mut name = input.as_os_str().to_owned();
                name.push(".rejected.ndjson");
                PathBuf::from(name)
            }
        };
        if path == input {
            return Err(Error::new(ErrorKind::Config, format!("{} can't be the input and take its rejects", path.display())));
        }
        match std::fs::remove_file(&path) {
            Ok(()) => {}
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(failed(&path, &e)),
        }
        Ok(Self { path, file: None, count: 0 })
    }

    /// Notes a line that was refused, as it stood: bytes that are no text become U+FFFD.
    pub(super) fn add(&mut self, line: &Line<'_>, reason: &str) -> Result<()> {
        self.count += 1;
        if self.count <= TOLD {
            tracing::warn!("line {}: {reason}", line.number);
        } else if self.count == TOLD + 1 {
            tracing::warn!("more lines are refused; see {}", self.path.display());
        }
        let file = match &mut self.file {
            Some(file) => file,
            None => self.file.insert(BufWriter::new(File::create(&self.path).map_err(|e| failed(&self.path, &e))?)),
        };
        let text = String::from_utf8_lossy(line.bytes);
        let entry = json!({"line": line.number, "reason": reason, "text": text});
        writeln!(file, "{entry}").map_err(|e| failed(&self.path, &e))
    }

    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// Makes the file last; gives its path if there is one.
    pub(super) fn finish(self) -> Result<Option<PathBuf>> {
        let Some(file) = self.file else { return Ok(None) };
        let sync = file
            .into_inner()
            .map_err(|e| failed(&self.path, e.error()))
            .and_then(|file| file.sync_all().map_err(|e| failed(&self.path, &e)));
        sync.map(|()| Some(self.path))
    }
}

fn failed(path: &Path, error: &std::io::Error) -> Error {
    Error::new(
        ErrorKind::Config,
        format!("refused lines can't be written to {}: {error}; name another file with --rejects", path.display()),
    )
}

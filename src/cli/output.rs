//! What goes to standard output and standard error.

use std::io::{IsTerminal, Write};

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use serde_json::json;

use crate::error::{Error, ErrorKind, Result};

/// Prints text for people, or one JSON document.
#[derive(Debug, Clone, Copy)]
pub(super) struct Output {
    json: bool,
}

impl Output {
    pub(super) fn new(json: bool) -> Self {
        Self { json }
    }

    /// One JSON document was asked for.
    pub(super) fn is_json(self) -> bool {
        self.json
    }

    /// Prints the command's result: the document, or the text made of it.
    pub(super) fn print<T: Serialize>(self, document: &T, text: impl FnOnce(&T) -> String) -> Result<()> {
        let mut words = if self.json {
            serde_json::to_string_pretty(document).map_err(|e| Error::new(ErrorKind::Config, format!("printing the result: {e}")))?
        } else {
            text(document)
        };
        if !words.ends_with('\n') {
            words.push('\n');
        }
        write_stdout(words.as_bytes())
    }

    pub(super) fn error(self, error: &Error) {
        let _ = writeln!(std::io::stderr(), "hitherto: {error}");
        self.document_of(error);
    }

    /// The error as the one JSON document, where one was asked for.
    pub(super) fn document_of(self, error: &Error) {
        if self.json {
            let document = json!({"error": {"kind": format!("{:?}", error.kind()).to_lowercase(), "message": error.to_string()}});
            let _ = writeln!(std::io::stdout(), "{document:#}");
        }
    }

    /// A bar on a terminal, nothing elsewhere. A total of 0 stands for an unknown one.
    pub(super) fn bar(self, what: &str, total: u64) -> ProgressBar {
        if self.json || !std::io::stderr().is_terminal() {
            return ProgressBar::hidden();
        }
        let (bar, template) = if total > 0 {
            (ProgressBar::new(total), "{prefix:>12} [{bar:30}] {percent:>3} % {msg} {eta}")
        } else {
            (ProgressBar::new_spinner(), "{prefix:>12} {spinner} {msg} {elapsed}")
        };
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        bar.with_style(style.progress_chars("=> ")).with_prefix(what.to_owned())
    }
}

/// Writes to standard output.
pub(super) fn write_stdout(bytes: &[u8]) -> Result<()> {
    let mut out = std::io::stdout();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        // Whoever read us has seen enough, as head does.
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => other.map_err(|e| Error::new(ErrorKind::Config, format!("writing to standard output: {e}"))),
    }
}

/// A table for people: columns as wide as they need, numbers to the right.
pub(super) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let width = |at: usize| rows.iter().map(|row| row[at].chars().count()).chain([head[at].chars().count()]).max().unwrap_or(0);
    let number =
        |at: usize| rows.iter().all(|row| row[at].starts_with(|c: char| c.is_ascii_digit() || c == '-' || c == '+') || row[at].is_empty());
    let mut text = String::new();
    let mut line = |cells: Vec<&str>| {
        let cells: Vec<String> = cells
            .iter()
            .enumerate()
            .map(|(at, cell)| {
                let pad = " ".repeat(width(at).saturating_sub(cell.chars().count()));
                if number(at) { format!("{pad}{cell}") } else { format!("{cell}{pad}") }
            })
            .collect();
        text.push_str(format!("  {}", cells.join("  ")).trim_end());
        text.push('\n');
    };
    line(head.to_vec());
    for row in rows {
        line(row.iter().map(String::as_str).collect());
    }
    text
}

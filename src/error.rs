//! The crate's one error type.

use std::fmt;

/// The crate's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What sort of thing went wrong: decides what a caller does next and the command's exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A setting, flag or URL can't be used as it stands.
    Config,
    /// The database can't be reached, or the connection was lost.
    Unreachable,
    /// A deadline passed before the database answered.
    Timeout,
    /// The database or this program refuses: schema too new, checksum, privilege, unfit server.
    Refused,
    /// A record breaks a rule; it was not sent.
    Invalid,
    /// What was asked for is not there.
    NotFound,
    /// Somebody else changed it first, or its state does not allow the step.
    Conflict,
    /// The writer was closed, or can't go on.
    Closed,
    /// The spool's quota is used up; the record was not taken. Room comes back as the database takes records.
    Full,
    /// The spool's folder can't be read or written: a full disk, an I/O error, a damaged file.
    Disk,
    /// The database answered with an error that fits none of the others.
    Database,
    /// A part of this program has panicked, which is its own fault.
    Panicked,
}

/// An error: what happened, to what, and what to do next. The cause, where there is one, is in
/// [`source`](std::error::Error::source) and not repeated in the text.
pub struct Error {
    kind: ErrorKind,
    message: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error of a kind with its message.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), source: None }
    }

    /// The same error with its cause attached.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Wraps what the database (or the way to it) answered while `doing` was under way.
    ///
    /// The server's own message, detail and hint become part of the text, because that is what a
    /// reader needs; they never hold the password.
    pub fn database(doing: &str, source: tokio_postgres::Error) -> Self {
        let kind = match source.code().map(|c| c.code()) {
            None if source.is_closed() || source.as_db_error().is_none() => ErrorKind::Unreachable,
            Some("42501" | "28P01" | "28000" | "3D000") => ErrorKind::Refused,
            Some(_) if lacks_schema(&source) => ErrorKind::Refused,
            Some("57014") => ErrorKind::Timeout,
            Some(c) if c.starts_with("08") || c.starts_with("57P") || c.starts_with("53") => ErrorKind::Unreachable,
            _ => ErrorKind::Database,
        };
        let at = if doing.is_empty() { String::new() } else { format!("{doing}: ") };
        let message = match source.as_db_error() {
            Some(db) => {
                let mut text = format!("{at}{} ({})", db.message(), db.code().code());
                if let Some(detail) = db.detail() {
                    text.push_str(&format!("; {detail}"));
                }
                if let Some(hint) = db.hint() {
                    text.push_str(&format!("; hint: {hint}"));
                }
                if lacks_schema(&source) {
                    text.push_str("; the database lacks this store's schema, or a part of it; run: hitherto migrate");
                }
                text
            }
            None => format!("{at}{}", root_cause(&source)),
        };
        Self { kind, message, source: Some(Box::new(source)) }
    }

    /// The same for a question with a deadline.
    pub(crate) fn unanswered(doing: &str, failure: impl Into<Unanswered>) -> Self {
        match failure.into() {
            Unanswered::Database(source) => Self::database(doing, source),
            Unanswered::Late(limit) => {
                Self::new(ErrorKind::Timeout, format!("{doing}: the database did not answer within {} s", limit.as_secs_f64()))
            }
        }
    }

    /// The same error, its words behind others.
    pub(crate) fn under(mut self, words: &str) -> Self {
        self.message.insert_str(0, words);
        self
    }

    /// The same error with more words.
    pub(crate) fn with(mut self, words: &str) -> Self {
        self.message = format!("{}; {words}", self.message);
        self
    }

    /// The same error, of another sort.
    #[cfg(feature = "cli")]
    pub(crate) fn of_kind(self, kind: ErrorKind) -> Self {
        Self { kind, ..self }
    }

    /// What sort of error this is.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The SQLSTATE that the server gave, where it was the server that answered.
    pub fn sqlstate(&self) -> Option<&str> {
        self.source.as_ref().and_then(|s| s.downcast_ref::<tokio_postgres::Error>()).and_then(|e| e.code()).map(|c| c.code())
    }

    /// True when the same request may succeed if sent again: connection trouble, a deadline, or the
    /// SQLSTATE classes 08, 40001, 40P01, 53, 55P03, 57P01/02/03 and 57014.
    pub fn is_retryable(&self) -> bool {
        match self.sqlstate() {
            Some(code) => is_retryable_sqlstate(code),
            None => matches!(self.kind, ErrorKind::Unreachable | ErrorKind::Timeout),
        }
    }

    /// True when a row's content is to blame (SQLSTATE class 22, 23, 54 or an exception that a trigger
    /// raised): sending it again can't help.
    pub fn is_data(&self) -> bool {
        self.sqlstate().is_some_and(|c| matches!(&c[..2], "22" | "23" | "54") || c == "P0001")
    }
}

/// Why a question has no answer.
pub(crate) enum Unanswered {
    /// The database, or the way to it, failed.
    Database(tokio_postgres::Error),
    /// It took longer than this.
    Late(std::time::Duration),
}

impl From<tokio_postgres::Error> for Unanswered {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Database(error)
    }
}

/// The schema, or a table of it, is not there.
fn lacks_schema(error: &tokio_postgres::Error) -> bool {
    error.as_db_error().is_some_and(|db| matches!(db.code().code(), "42P01" | "3F000") && db.message().contains("\"hitherto"))
}

fn is_retryable_sqlstate(code: &str) -> bool {
    matches!(&code[..2], "08" | "53") || matches!(code, "40001" | "40P01" | "55P03" | "57P01" | "57P02" | "57P03" | "57014")
}

/// tokio-postgres says "error connecting to server" and keeps the reason below it.
fn root_cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let words = cause.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        next = cause.source();
    }
    text
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.kind, self.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|s| &**s as _)
    }
}

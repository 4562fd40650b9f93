//! The crate's one error type.

use std::fmt;
use std::io::ErrorKind;

use tokio_postgres::error::{DbError, SqlState};

/// What sort of thing went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ExportErrorKind {
    /// A dataset, path or option can't be used as it stands.
    Config,
    /// The database, or the object store, is out of reach.
    Unreachable,
    /// The object store refuses: no credentials, wrong ones, or ones that may not do this.
    Denied,
    /// The database answered with an error.
    Database,
    /// A column's type, or a value of it, has no exact place in Parquet.
    Unsupported,
    /// Fewer rows were read than must be there.
    Incomplete,
    /// More rows were read than the ledger tells of.
    Surplus,
    /// The lake or file can't be written, or holds something else.
    Lake,
    /// Somebody else exports into the same lake.
    Conflict,
    /// A query that is to be exported writes.
    Writes,
}

/// An error: what happened, to which dataset, column or file, and what to do next.
#[derive(Debug)]
pub struct ExportError {
    kind: ExportErrorKind,
    message: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl ExportError {
    pub(crate) fn new(kind: ExportErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), source: None }
    }

    pub(crate) fn database(doing: &str, error: tokio_postgres::Error) -> Self {
        let (kind, words) = match error.as_db_error() {
            Some(db) => (kind_of(db.code()), words_of(db)),
            None => (ExportErrorKind::Unreachable, error.to_string()),
        };
        Self { kind, message: format!("{doing}: {words}"), source: Some(Box::new(error)) }
    }

    pub(crate) fn lake(doing: &str, error: impl std::error::Error + Send + Sync + 'static) -> Self {
        if let Some((kind, words)) = crate::place::s3::told(&error) {
            // An object store's answer may hold keys and signatures: it is not handed on.
            return Self::new(kind, format!("{doing}: {words}"));
        }
        let advice = match disk_error(&error) {
            Some(ErrorKind::StorageFull | ErrorKind::QuotaExceeded) => "; make room there, then run it again",
            _ => "",
        };
        Self { kind: ExportErrorKind::Lake, message: format!("{doing}: {error}{advice}"), source: Some(Box::new(error)) }
    }

    /// The same error with more words.
    pub(crate) fn with(mut self, words: &str) -> Self {
        self.message = format!("{}; {words}", self.message);
        self
    }

    /// The same error, of another sort.
    pub(crate) fn of_kind(self, kind: ExportErrorKind) -> Self {
        Self { kind, ..self }
    }

    /// What sort of error this is.
    pub fn kind(&self) -> ExportErrorKind {
        self.kind
    }

    /// The SQLSTATE that the server gave, where it was the server that answered.
    pub fn sqlstate(&self) -> Option<&str> {
        self.source.as_ref()?.downcast_ref::<tokio_postgres::Error>()?.code().map(|code| code.code())
    }
}

fn kind_of(code: &SqlState) -> ExportErrorKind {
    if *code == SqlState::READ_ONLY_SQL_TRANSACTION { ExportErrorKind::Writes } else { ExportErrorKind::Database }
}

/// What the server said, and what that means here.
fn words_of(db: &DbError) -> String {
    let mut words = format!("{} ({})", db.message(), db.code().code());
    let meaning = match *db.code() {
        SqlState::READ_ONLY_SQL_TRANSACTION => Some(
            "an export reads and never writes; leave out what does: INSERT, UPDATE, DELETE, MERGE, FOR UPDATE, nextval, functions that write",
        ),
        SqlState::QUERY_CANCELED => Some(
            "the server's statement_timeout ended it, or somebody cancelled it; for a longer one: ALTER ROLE ... SET statement_timeout, or PGOPTIONS='-c statement_timeout=1h'",
        ),
        SqlState::TOO_MANY_COLUMNS => Some(
            "PostgreSQL gives no more columns than that, nor can a table have more than 1600; name those that are needed, or export them in several files",
        ),
        _ => None,
    };
    for more in [db.detail(), db.hint(), meaning].into_iter().flatten() {
        words.push_str("; ");
        words.push_str(more);
    }
    words
}

/// What the disk said, where it was the disk.
fn disk_error(error: &(dyn std::error::Error + 'static)) -> Option<ErrorKind> {
    let mut next = Some(error);
    while let Some(cause) = next {
        if let Some(error) = cause.downcast_ref::<std::io::Error>() {
            return Some(error.kind());
        }
        next = cause.source();
    }
    None
}

impl fmt::Display for ExportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ExportError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|s| &**s as _)
    }
}

pub(crate) type Result<T, E = ExportError> = std::result::Result<T, E>;

//! The crate's one error type.

use std::fmt;

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
            Some(db) => (ExportErrorKind::Database, format!("{} ({})", db.message(), db.code().code())),
            None => (ExportErrorKind::Unreachable, error.to_string()),
        };
        Self { kind, message: format!("{doing}: {words}"), source: Some(Box::new(error)) }
    }

    pub(crate) fn lake(doing: &str, error: impl std::error::Error + Send + Sync + 'static) -> Self {
        match crate::place::s3::told(&error) {
            // An object store's answer may hold keys and signatures: it is not handed on.
            Some((kind, words)) => Self::new(kind, format!("{doing}: {words}")),
            None => Self { kind: ExportErrorKind::Lake, message: format!("{doing}: {error}"), source: Some(Box::new(error)) },
        }
    }

    /// The same error with more words.
    pub(crate) fn with(mut self, words: &str) -> Self {
        self.message = format!("{}; {words}", self.message);
        self
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

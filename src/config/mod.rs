//! Where the database is and how patient to be with it.

mod meaning;
mod password;
mod server;
mod text;

use std::fmt;
use std::path::Path;
use std::time::Duration;

use crate::connect;
use crate::error::{Error, ErrorKind, Result};

use password::Password;
pub use server::Pooler;
pub(crate) use server::{Host, Server, Target};
#[cfg(feature = "tls")]
pub(crate) use server::{Root, SslMode, Tls};

/// How to reach the database and how the store behaves towards it.
///
/// The password is in here and nowhere else: `Debug` and `Display` leave it out.
#[derive(Clone)]
pub struct Config {
    server: Server,
    /// Connections in the pool; the embedded engine makes it 1 whatever stands here.
    pub pool_size: usize,
    /// How long to wait for a connection, free or new; of several hosts, each is given as long.
    pub connect_timeout: Duration,
    /// How long one statement may take before the client gives up on it.
    pub statement_timeout: Duration,
    /// How often a transaction is tried when the failure is one that may pass.
    pub max_attempts: usize,
    /// What stands between this program and the server.
    pub pooler: Pooler,
}

/// Connections in the pool unless told otherwise.
pub const DEFAULT_POOL_SIZE: usize = 8;
/// How long to wait for a connection unless told otherwise.
pub const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long one statement may take unless told otherwise.
pub const DEFAULT_STATEMENT_TIMEOUT: Duration = Duration::from_secs(60);
/// How often a transaction is tried unless told otherwise.
pub const DEFAULT_MAX_ATTEMPTS: usize = 5;

impl Config {
    /// Reads a connection URL (`postgresql://user:password@host:port/database?sslmode=verify-full`) or a
    /// `key=value` connection string. What it does not say is taken from the `PG*` variables, as libpq
    /// does.
    ///
    /// # Errors
    /// `Config` when the text can't be read as either; the text itself, which may hold a
    /// password, is not repeated.
    pub fn from_url(url: &str) -> Result<Self> {
        let unreadable = |why: &str| {
            Error::new(
                ErrorKind::Config,
                format!("the database URL can't be read, for {why}; it looks like postgresql://user:password@host:5432/database"),
            )
        };
        if let Some((scheme, _)) = url.split_once("://")
            && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
            && !matches!(scheme, "postgresql" | "postgres")
        {
            return Err(unreadable("it does not begin with postgresql://"));
        }
        let parameters = text::parse(url).map_err(|why| unreadable(&why))?;
        let read = meaning::read(&parameters, &variable)
            .map_err(|why| Error::new(ErrorKind::Config, format!("the database URL can't be used: {why}; see docs/connections.md")))?;
        if read.server.hosts.is_empty() {
            return Err(Error::new(ErrorKind::Config, "the database URL names no host; write postgresql://user@host:5432/database"));
        }
        Ok(Self::from_read(read))
    }

    /// Reads `PGHOST`, `PGPORT`, `PGDATABASE`, `PGUSER`, `PGPASSWORD`, `PGSSLMODE` and the other variables
    /// that libpq knows and that are of use here.
    ///
    /// Returns `None` when neither `PGHOST` nor `PGDATABASE` is set: then nobody named a database.
    ///
    /// # Errors
    /// `Config` when one of them can't be used, such as a `PGPORT` that is not a port.
    pub fn from_pg_env() -> Result<Option<Self>> {
        if variable("PGHOST").is_none() && variable("PGDATABASE").is_none() {
            return Ok(None);
        }
        let mut parameters = text::Parameters::new();
        if variable("PGHOST").is_none() && variable("PGHOSTADDR").is_none() {
            parameters.insert("host".to_owned(), "localhost".to_owned());
        }
        let mut read = meaning::read(&parameters, &variable).map_err(|why| {
            Error::new(ErrorKind::Config, format!("the database's variables can't be used: {why}; see docs/connections.md"))
        })?;
        read.server.database.get_or_insert_with(|| read.server.user.clone());
        Ok(Some(Self::from_read(read)))
    }

    fn from_read(read: meaning::Read) -> Self {
        Self {
            server: read.server,
            pool_size: DEFAULT_POOL_SIZE,
            connect_timeout: read.connect_timeout.unwrap_or(DEFAULT_CONNECT_TIMEOUT),
            statement_timeout: DEFAULT_STATEMENT_TIMEOUT,
            max_attempts: DEFAULT_MAX_ATTEMPTS,
            pooler: read.pooler,
        }
    }

    /// Where the server is.
    pub(crate) fn server(&self) -> &Server {
        &self.server
    }

    /// The database's name, where one was given.
    pub fn database(&self) -> Option<&str> {
        self.server.database.as_deref()
    }

    /// The same server, another database.
    #[must_use]
    pub fn with_database(mut self, name: &str) -> Self {
        self.server.database = Some(name.to_owned());
        self
    }

    /// The same database, a session that goes by another name in `pg_stat_activity`.
    #[must_use]
    pub fn with_application_name(mut self, name: &str) -> Self {
        self.server.application_name = name.to_owned();
        self
    }

    /// The same database, its password in a file that holds nothing else; read anew at every connection.
    #[must_use]
    pub fn with_password_file(mut self, path: impl AsRef<Path>) -> Self {
        self.server.password = Password::File(path.as_ref().to_owned());
        self
    }

    /// Opens one connection of its own, outside any pool. The task that drives it ends when the
    /// client is dropped.
    ///
    /// # Errors
    /// `Unreachable` when nobody answers, `Refused` when the server turns the login down, or its
    /// certificate is not one to be trusted.
    pub async fn connect(&self) -> Result<tokio_postgres::Client> {
        Ok(connect::open(self).await?.client)
    }
}

/// An environment variable that is set to something.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// `user@host:port/database`, with all hosts, and never the password.
impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let server = &self.server;
        let hosts: Vec<String> = server.hosts.iter().map(Host::to_string).collect();
        write!(f, "{}@{}/{}", server.user, hosts.join(","), server.database.as_deref().unwrap_or(&server.user))
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("database", &self.to_string())
            .field("pool_size", &self.pool_size)
            .field("statement_timeout", &self.statement_timeout)
            .finish_non_exhaustive()
    }
}

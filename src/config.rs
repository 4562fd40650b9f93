//! Where the database is and how patient to be with it.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};

/// How to reach the database and how the store behaves towards it.
///
/// The password is in here and nowhere else: `Debug` and `Display` leave it out.
#[derive(Clone)]
pub struct Config {
    pg: tokio_postgres::Config,
    /// Connections in the pool; the embedded engine makes it 1 whatever stands here.
    pub pool_size: usize,
    /// How long to wait for a connection, free or new.
    pub connect_timeout: Duration,
    /// How long one statement may take before the client gives up on it.
    pub statement_timeout: Duration,
    /// How often a transaction is tried when the failure is one that may pass.
    pub max_attempts: usize,
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
    /// Reads a connection URL (`postgresql://user:password@host:port/database`) or a
    /// `key=value` connection string.
    ///
    /// # Errors
    /// `Config` when the text can't be read as either; the text itself, which may hold a
    /// password, is not repeated.
    pub fn from_url(url: &str) -> Result<Self> {
        let unreadable = |why: &str| {
            Error::new(
                ErrorKind::Config,
                format!("the database URL can't be read{why}; it looks like postgresql://user:password@host:5432/database"),
            )
        };
        if let Some((scheme, _)) = url.split_once("://")
            && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
            && !matches!(scheme, "postgresql" | "postgres")
        {
            return Err(unreadable(", for it does not begin with postgresql://"));
        }
        // The driver's words may repeat parts of the text, the password among them.
        let mut pg = tokio_postgres::Config::from_str(url).map_err(|_| unreadable(""))?;
        let odd_host = |host: &tokio_postgres::config::Host| matches!(host, tokio_postgres::config::Host::Tcp(name) if name.contains('@'));
        if pg.get_hosts().iter().any(odd_host) {
            return Err(unreadable(", for it has more than one @; write %40 for an @ in the password"));
        }
        if pg.get_hosts().is_empty() {
            return Err(Error::new(ErrorKind::Config, "the database URL names no host; write postgresql://user@host:5432/database"));
        }
        if pg.get_user().is_none() {
            pg.user(default_user());
        }
        Ok(Self::from_pg(pg))
    }

    /// Reads `PGHOST`, `PGPORT`, `PGDATABASE`, `PGUSER` and `PGPASSWORD`, as libpq does.
    ///
    /// Returns `None` when neither `PGHOST` nor `PGDATABASE` is set: then nobody named a database.
    ///
    /// # Errors
    /// `Config` when `PGPORT` is not a port, or `PGSSLMODE` asks for more than there is.
    pub fn from_pg_env() -> Result<Option<Self>> {
        let var = |name| std::env::var(name).ok().filter(|v: &String| !v.is_empty());
        let (host, database) = (var("PGHOST"), var("PGDATABASE"));
        if host.is_none() && database.is_none() {
            return Ok(None);
        }
        if let Some(mode) = var("PGSSLMODE").filter(|mode| !matches!(mode.as_str(), "disable" | "allow" | "prefer")) {
            return Err(Error::new(
                ErrorKind::Config,
                format!("PGSSLMODE is {mode}, but connections can't be encrypted yet; set it to prefer on a network that you trust"),
            ));
        }
        let mut pg = tokio_postgres::Config::new();
        pg.host(host.as_deref().unwrap_or("localhost"));
        if let Some(port) = var("PGPORT") {
            let port = port.parse().map_err(|_| Error::new(ErrorKind::Config, format!("PGPORT is '{port}', which is not a port")))?;
            pg.port(port);
        }
        let user = var("PGUSER").unwrap_or_else(default_user);
        pg.dbname(database.as_deref().unwrap_or(&user));
        pg.user(&user);
        if let Some(password) = var("PGPASSWORD") {
            pg.password(password);
        }
        Ok(Some(Self::from_pg(pg)))
    }

    fn from_pg(mut pg: tokio_postgres::Config) -> Self {
        if pg.get_application_name().is_none() {
            pg.application_name("hitherto");
        }
        if pg.get_connect_timeout().is_none() {
            pg.connect_timeout(DEFAULT_CONNECT_TIMEOUT);
        }
        Self {
            pg,
            pool_size: DEFAULT_POOL_SIZE,
            connect_timeout: DEFAULT_CONNECT_TIMEOUT,
            statement_timeout: DEFAULT_STATEMENT_TIMEOUT,
            max_attempts: DEFAULT_MAX_ATTEMPTS,
        }
    }

    /// The settings for the driver.
    pub(crate) fn pg(&self) -> &tokio_postgres::Config {
        &self.pg
    }

    /// The database's name, where one was given.
    pub fn database(&self) -> Option<&str> {
        self.pg.get_dbname()
    }

    /// The same server, another database.
    #[must_use]
    pub fn with_database(mut self, name: &str) -> Self {
        self.pg.dbname(name);
        self
    }

    /// The same database, a session that goes by another name in `pg_stat_activity`.
    #[must_use]
    pub fn with_application_name(mut self, name: &str) -> Self {
        self.pg.application_name(name);
        self
    }

    /// Opens one connection of its own, outside any pool. The task that drives it ends when the
    /// client is dropped.
    ///
    /// # Errors
    /// `Unreachable` when nobody answers, `Refused` when the server turns the login down.
    pub async fn connect(&self) -> Result<tokio_postgres::Client> {
        let doing = format!("connecting to {self}");
        let connecting = self.pg.connect(tokio_postgres::NoTls);
        let (client, connection) = tokio::time::timeout(self.connect_timeout, connecting)
            .await
            .map_err(|_| {
                Error::new(
                    ErrorKind::Unreachable,
                    format!("{doing}: no answer within {} s; is the server running?", self.connect_timeout.as_secs_f64()),
                )
            })?
            .map_err(|e| Error::database(&doing, e))?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "connection ended");
            }
        });
        Ok(client)
    }
}

fn default_user() -> String {
    std::env::var("PGUSER").or_else(|_| std::env::var("USER")).unwrap_or_else(|_| "postgres".to_owned())
}

/// `user@host:port/database`, never the password.
impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use tokio_postgres::config::Host;
        let host = match self.pg.get_hosts().first() {
            Some(Host::Tcp(name)) => name.clone(),
            #[cfg(unix)]
            Some(Host::Unix(path)) => path.display().to_string(),
            None => "localhost".to_owned(),
        };
        let port = self.pg.get_ports().first().copied().unwrap_or(5432);
        let user = self.pg.get_user().unwrap_or("?");
        write!(f, "{user}@{host}:{port}/{}", self.pg.get_dbname().unwrap_or(user))
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

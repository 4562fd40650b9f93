//! Which engine is behind a connection, found once.

use serde::Serialize;
use tokio_postgres::Client;

use crate::error::{Error, ErrorKind, Result};

/// The two sets of SQL that a database can be migrated with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Engine {
    /// PostgreSQL with TimescaleDB: hypertables, continuous aggregates, columnstore, policies.
    Timescaledb,
    /// PostgreSQL alone: the same tables and views, aggregates computed when read.
    Postgresql,
}

impl Engine {
    /// The engine's name as it stands in documents and in `sql/`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Timescaledb => "timescaledb",
            Self::Postgresql => "postgresql",
        }
    }
}

/// What the database at the other end can do. Found once, at connect; nothing else asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Capabilities {
    /// Which SQL folder fits.
    pub engine: Engine,
    /// The server's version as a number, e.g. 150018 for 15.18.
    pub server_version_num: u32,
    /// The server's version as it calls itself, e.g. "15.18".
    pub server_version: String,
    /// TimescaleDB's version, where it is installed or offered.
    pub timescaledb_version: Option<String>,
    /// True for the embedded engine (PostgreSQL compiled to WebAssembly).
    pub embedded: bool,
    /// True where `COPY ... FROM STDIN` works.
    pub copy_in: bool,
    /// True where the server runs policies by itself.
    pub background_jobs: bool,
    /// How many connections at once make sense; 1 for the embedded engine.
    pub max_connections: usize,
}

/// The oldest PostgreSQL that is supported.
pub const MIN_SERVER_VERSION_NUM: u32 = 150_000;

impl Capabilities {
    /// Asks the server what it is.
    ///
    /// A server that offers the timescaledb extension counts as [`Engine::Timescaledb`] even before
    /// the extension is created in this database, unless the database has already been migrated as
    /// plain PostgreSQL: an engine is chosen once a database.
    ///
    /// # Errors
    /// `Refused` for a server older than PostgreSQL 15; `Unreachable` when the connection is lost.
    pub async fn detect(client: &Client) -> Result<Self> {
        let doing = "asking the server what it is";
        let row = client
            .query_one(
                "SELECT current_setting('server_version_num')::int,
                        current_setting('server_version'),
                        version(),
                        (SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'),
                        (SELECT default_version FROM pg_available_extensions WHERE name = 'timescaledb'),
                        current_setting('max_connections')::int,
                        to_regclass('hitherto.schema_migration') IS NOT NULL",
                &[],
            )
            .await
            .map_err(|e| Error::database(doing, e))?;
        let server_version_num = u32::try_from(row.get::<_, i32>(0)).unwrap_or(0);
        let server_version: String = row.get(1);
        if server_version_num < MIN_SERVER_VERSION_NUM {
            return Err(Error::new(
                ErrorKind::Refused,
                format!("the server is PostgreSQL {server_version}; PostgreSQL 15 or newer is needed"),
            ));
        }
        let embedded = row.get::<_, String>(2).contains("emcc");
        let installed: Option<String> = row.get(3);
        let offered: Option<String> = row.get(4);
        let migrated: bool = row.get(6);
        let chosen = if migrated { chosen_engine(client).await? } else { None };
        let timescaledb_version = match chosen {
            Some(Engine::Postgresql) => None,
            Some(Engine::Timescaledb) => installed,
            None => installed.or(offered),
        };
        let max_connections = usize::try_from(row.get::<_, i32>(5)).unwrap_or(1);
        Ok(Self {
            engine: if timescaledb_version.is_some() { Engine::Timescaledb } else { Engine::Postgresql },
            server_version_num,
            server_version: server_version.split(' ').next().unwrap_or_default().to_owned(),
            background_jobs: timescaledb_version.is_some() && !embedded,
            timescaledb_version,
            embedded,
            copy_in: !embedded,
            max_connections: if embedded { 1 } else { max_connections },
        })
    }
}

impl Capabilities {
    /// The same server, used as another engine: plain PostgreSQL where TimescaleDB is offered too.
    ///
    /// # Errors
    /// `Refused` for TimescaleDB on a server that does not offer it.
    pub fn with_engine(mut self, engine: Engine) -> Result<Self> {
        match engine {
            Engine::Timescaledb if self.timescaledb_version.is_none() => {
                return Err(Error::new(
                    ErrorKind::Refused,
                    "the server does not offer the timescaledb extension, or the database was migrated without it",
                ));
            }
            Engine::Timescaledb => {}
            Engine::Postgresql => {
                self.timescaledb_version = None;
                self.background_jobs = false;
            }
        }
        self.engine = engine;
        Ok(self)
    }
}

/// The engine that the database was migrated for.
async fn chosen_engine(client: &Client) -> Result<Option<Engine>> {
    let row = client
        .query_one("SELECT bool_or(name LIKE 'timescaledb/%'), bool_or(name LIKE 'postgresql/%') FROM hitherto.schema_migration", &[])
        .await
        .map_err(|e| Error::database("reading hitherto.schema_migration", e))?;
    Ok(match (row.get::<_, Option<bool>>(0), row.get::<_, Option<bool>>(1)) {
        (Some(true), _) => Some(Engine::Timescaledb),
        (_, Some(true)) => Some(Engine::Postgresql),
        _ => None,
    })
}

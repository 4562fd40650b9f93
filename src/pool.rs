//! The pool of connections.

use std::ops::{Deref, DerefMut};

use deadpool::Runtime;
use deadpool::managed::{self, Metrics, RecycleError, RecycleResult};
use deadpool_postgres::ClientWrapper;

use crate::config::Config;
use crate::connect;
use crate::error::{Error, ErrorKind, Result};

pub(crate) type Pool = managed::Pool<Manager>;
pub(crate) type PoolError = managed::PoolError<Error>;
/// A connection of the pool; it goes back when dropped.
pub type Object = managed::Object<Manager>;

/// Makes the pool's connections.
#[derive(Debug)]
pub struct Manager {
    config: Config,
}

/// A connection with its cache of prepared statements.
#[derive(Debug)]
pub struct Connection {
    client: ClientWrapper,
    pooled: bool,
}

impl Connection {
    /// A pooler stands before the server: what is set for the session may be another's session's, and only
    /// what happens in one transaction stays together.
    pub fn is_pooled(&self) -> bool {
        self.pooled
    }
}

impl Deref for Connection {
    type Target = ClientWrapper;

    fn deref(&self) -> &ClientWrapper {
        &self.client
    }
}

impl DerefMut for Connection {
    fn deref_mut(&mut self) -> &mut ClientWrapper {
        &mut self.client
    }
}

impl managed::Manager for Manager {
    type Type = Connection;
    type Error = Error;

    async fn create(&self) -> Result<Connection> {
        let session = connect::open(&self.config).await?;
        Ok(Connection { client: ClientWrapper::new(session.client, session.driver), pooled: session.pooled })
    }

    async fn recycle(&self, connection: &mut Connection, _: &Metrics) -> RecycleResult<Error> {
        if connection.is_closed() { Err(RecycleError::message("the connection is closed")) } else { Ok(()) }
    }
}

/// A pool of at most so many connections; none is made yet.
pub(crate) fn build(config: &Config, max_size: usize) -> Result<Pool> {
    Pool::builder(Manager { config: config.clone() })
        .max_size(max_size.max(1))
        .wait_timeout(Some(config.connect_timeout.max(config.statement_timeout)))
        // Connecting bounds itself, by host and address.
        .create_timeout(None)
        .recycle_timeout(Some(config.connect_timeout))
        .runtime(Runtime::Tokio1)
        .build()
        .map_err(|e| Error::new(ErrorKind::Config, format!("building the connection pool: {e}")))
}

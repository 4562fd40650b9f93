//! A time-series analytics store for trading platforms, on TimescaleDB.
//!
//! Modules hand [`records`] to a [`Writer`]; they arrive in the database exactly once, in batches
//! with a line in the ledger. The [`Store`] answers what the platform asks. Analysts read the views
//! of the schema `hitherto` in SQL, researchers the Parquet lake that `hitherto export` keeps.
//!
//! A module that only writes depends on this crate with `default-features = false`.

#[cfg(feature = "cli")]
pub mod cli;
mod config;
mod connect;
mod engine;
mod error;
mod lease;
mod lock;
pub mod metrics;
pub mod migrate;
mod pool;
pub mod records;
pub mod spool;
pub mod store;
pub mod writer;

pub use config::{Config, DEFAULT_CONNECT_TIMEOUT, DEFAULT_MAX_ATTEMPTS, DEFAULT_POOL_SIZE, DEFAULT_STATEMENT_TIMEOUT, Pooler};
pub use engine::{Capabilities, Engine, MIN_SERVER_VERSION_NUM};
pub use error::{Error, ErrorKind, Result};
pub use pool::{Connection, Object as PooledConnection};
pub use spool::{Spool, SpoolConfig, WhenFull};
pub use store::{DatabaseManager, Store};
pub use writer::{Writer, WriterConfig};

/// The README's Rust is compiled like any other.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

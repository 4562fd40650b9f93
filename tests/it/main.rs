//! Everything that needs a database, on real engines.

mod decisions;
mod harness;
mod shell;

mod aggregate;
mod audit;
mod cancelled;
mod command;
mod conflict;
mod database_manager;
mod durability;
mod embedded;
mod export;
mod hosts;
mod ingest;
mod legacy;
mod metrics;
mod migrate;
mod order;
mod password;
mod pgbouncer;
mod regime;
mod retention;
mod silence;
mod spool;
mod store;
mod tls;
mod trail;
mod writer;

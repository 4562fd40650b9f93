//! Everything that needs a database, on real engines.

mod decisions;
mod harness;
mod pipe;
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
mod fault;
mod hosts;
mod ingest;
mod ingest_docs;
mod ingest_pipe;
mod ingest_spool;
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

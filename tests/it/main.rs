//! Everything that needs a database, on real engines.

mod decisions;
mod harness;
mod pipe;
mod shell;

mod aggregate;
mod audit;
mod command;
mod conflict;
mod database_manager;
mod durability;
mod embedded;
mod export;
mod ingest;
mod ingest_docs;
mod ingest_pipe;
mod ingest_spool;
mod legacy;
mod metrics;
mod migrate;
mod order;
mod regime;
mod retention;
mod silence;
mod spool;
mod store;
mod trail;
mod writer;

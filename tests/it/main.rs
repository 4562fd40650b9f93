//! Everything that needs a database, on real engines.

mod decisions;
mod harness;
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
mod legacy;
mod migrate;
mod order;
mod poison;
mod quarantine;
mod regime;
mod retention;
mod role;
mod silence;
mod store;
mod trail;
mod writer;

//! Everything that needs a database, on real engines.

mod harness;
mod shell;

mod aggregate;
mod audit;
mod command;
mod embedded;
mod export;
mod ingest;
mod migrate;
mod order;
mod regime;
mod retention;
mod store;
mod writer;

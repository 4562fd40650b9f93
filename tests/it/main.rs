//! Everything that needs a database, on real engines.

mod harness;

mod embedded;
mod migrate;
mod writer;

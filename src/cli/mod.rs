//! The `hitherto` command: thin, one subcommand a file.

pub mod embedded;

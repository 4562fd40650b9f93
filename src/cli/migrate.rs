//! `hitherto migrate`

use super::Ending;
use super::connect::Database;
use super::output::Output;
use crate::engine::{Capabilities, Engine};
use crate::error::Result;
use crate::migrate;

/// Create or upgrade the schema. Safe to run twice, and by many at once.
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// Which engine a new database is for; as a rule TimescaleDB where the server offers it
    #[arg(long, value_parser = ["timescaledb", "postgresql"])]
    engine: Option<String>,
}

pub(super) async fn run(args: Args, database: &Database, output: Output) -> Result<Ending> {
    let config = database.config()?;
    let mut client = config.connect().await?;
    let mut capabilities = Capabilities::detect(&client).await?;
    if let Some(engine) = args.engine {
        let engine = if engine == "timescaledb" { Engine::Timescaledb } else { Engine::Postgresql };
        capabilities = capabilities.with_engine(engine)?;
    }
    let migrated = migrate::migrate(&mut client, &capabilities).await?;
    output.print(&migrated, |m| {
        let engine = m.engine.name();
        match m.applied.len() {
            0 => format!("{config}: the schema is up to date (version {}, {engine})", m.schema_version),
            n => format!("{config}: applied {n} migrations; the schema is at version {} ({engine})", m.schema_version),
        }
    })?;
    Ok(Ending::Done)
}

//! `hitherto engine`

use std::path::PathBuf;

use serde_json::json;

use super::Ending;
use super::embedded::Embedded;
use super::output::Output;
use crate::error::{Error, ErrorKind, Result};

/// Run the embedded engine in the foreground, to try SQL on it: real TimescaleDB in WebAssembly, one
/// connection at a time, for trying out and not for a platform's records. Ctrl-C stops it.
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// Keep the data in this folder; without it, in memory
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

pub(super) async fn run(args: Args, output: Output) -> Result<Ending> {
    let mut engine = Embedded::start(args.data.as_deref()).await?;
    output.print(&json!({"database_url": engine.url()}), |_| {
        format!("export DATABASE_URL='{}'\n# the engine runs until Ctrl-C; in another terminal: psql \"$DATABASE_URL\"", engine.url())
    })?;
    tokio::select! {
        () = super::stopped() => {}
        () = engine.ended() => {
            return Err(Error::new(ErrorKind::Unreachable, "the embedded engine died; start it again (COPY ... FROM STDIN is what it can't bear)"));
        }
    }
    engine.stop().await?;
    Ok(Ending::Done)
}

//! `hitherto maintain`

use serde::Serialize;

use super::Ending;
use super::connect::Database;
use super::output::Output;
use crate::error::Result;
use crate::store::{Refreshed, Trimmed};

/// Run what is due: refresh the ranges of every aggregate that the ledger says were written, however
/// old; move old rows to the columnstore; drop what retention no longer keeps. A TimescaleDB server does
/// this by itself, and now is fine too; plain PostgreSQL and the embedded engine need it run now and then.
#[derive(clap::Args, Debug)]
pub(super) struct Args {}

#[derive(Serialize)]
struct Maintained {
    refreshed: Vec<Refreshed>,
    policies: Vec<Trimmed>,
}

pub(super) async fn run(_: Args, database: &Database, output: Output) -> Result<Ending> {
    let store = database.store().await?;
    let maintained = Maintained { refreshed: store.aggregate_refresh().await?, policies: store.maintain().await? };
    let failed = maintained.refreshed.iter().any(|r| r.error.is_some());
    output.print(&maintained, |m| {
        let mut text = String::new();
        for r in m.refreshed.iter().filter(|r| r.ranges > 0 || r.error.is_some()) {
            match &r.error {
                Some(error) => text.push_str(&format!("{}: {error}\n", r.view_name)),
                None => text.push_str(&format!("{}: {} ranges refreshed\n", r.view_name, r.ranges)),
            }
        }
        for p in &m.policies {
            text.push_str(&format!("{}: {} on {}\n", p.table_name, p.policy, p.count));
        }
        if text.is_empty() { "nothing was due".to_owned() } else { text }
    })?;
    Ok(if failed { Ending::Finding } else { Ending::Done })
}

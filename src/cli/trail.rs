//! `hitherto trail`

use super::Ending;
use super::connect::Database;
use super::output::{Output, table};
use crate::error::{Error, ErrorKind, Result};

/// Show every step of a proposal, from signal to fill.
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// The proposal
    proposal_id: String,
}

pub(super) async fn run(args: Args, database: &Database, output: Output) -> Result<Ending> {
    let store = database.store().await?;
    let steps = store.decision_trail(&args.proposal_id).await?;
    if steps.is_empty() {
        return Err(Error::new(ErrorKind::NotFound, format!("nothing is known of a proposal '{}'", args.proposal_id)));
    }
    output.print(&steps, |steps| {
        let rows: Vec<Vec<String>> = steps
            .iter()
            .map(|s| {
                let at = s.step_at.format("%Y-%m-%d %H:%M:%S%.3f").to_string();
                vec![at, s.step.clone(), s.actor.clone().unwrap_or_default(), s.summary.clone()]
            })
            .collect();
        table(&["time (UTC)", "step", "actor", "what"], &rows)
    })?;
    Ok(Ending::Done)
}

//! `hitherto trail`

use super::Ending;
use super::connect::Database;
use super::output::{Output, table};
use crate::error::{Error, ErrorKind, Result};
use crate::store::TrailStep;

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
    output.print(&steps, |steps| text(&args.proposal_id, steps))?;
    Ok(Ending::Done)
}

fn text(proposal_id: &str, steps: &[TrailStep]) -> String {
    let find = |word: &str| steps.iter().find(|s| s.step == word);
    let mut text = match find("proposed") {
        Some(s) => format!("{proposal_id}: {}, proposed by {}\n", s.summary, s.actor.as_deref().unwrap_or("nobody")),
        None => format!("{proposal_id} is named by others, but is not stored itself\n"),
    };
    if let Some(s) = find("regime") {
        let by = s.actor.as_deref().map(|by| format!(", decided by {by}")).unwrap_or_default();
        text.push_str(&format!("regime: {}{by}\n", s.summary));
    }
    let rows: Vec<Vec<String>> = steps
        .iter()
        .map(|s| {
            let at = s.step_at.format("%Y-%m-%d %H:%M:%S%.3f").to_string();
            let gap = s.gap_seconds.map(|gap| format!("+{}", span(gap))).unwrap_or_default();
            vec![at, gap, s.step.clone(), s.actor.clone().unwrap_or_default(), s.summary.clone()]
        })
        .collect();
    let whole = steps.iter().filter_map(|s| s.gap_seconds).sum();
    text.push_str(&format!(
        "{} steps in {}\n\n{}",
        steps.len(),
        span(whole),
        table(&["time (UTC)", "gap", "step", "actor", "what"], &rows)
    ));
    text
}

/// A length of time in the unit that reads best: `5 ms`, `1.2 s`, `3 min`.
fn span(seconds: f64) -> String {
    let (count, unit) = match seconds {
        s if s < 1.0 => (s * 1000.0, "ms"),
        s if s < 60.0 => (s, "s"),
        s if s < 3600.0 => (s / 60.0, "min"),
        s if s < 86400.0 => (s / 3600.0, "h"),
        s => (s / 86400.0, "d"),
    };
    format!("{} {unit}", (count * 10.0).round() / 10.0)
}

#[cfg(test)]
mod tests {
    use super::span;

    #[test]
    fn a_span_is_told_in_the_unit_that_reads_best() {
        let told: Vec<String> = [0.0, 0.005, 0.00025, 1.23, 180.0, 5400.0, 216_000.0].into_iter().map(span).collect();
        assert_eq!(told, ["0 ms", "5 ms", "0.3 ms", "1.2 s", "3 min", "1.5 h", "2.5 d"]);
    }
}

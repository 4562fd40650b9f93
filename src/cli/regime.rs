//! `hitherto regime`

use std::io::{BufRead, IsTerminal, Write};
use std::time::Duration;

use chrono::{DateTime, Utc};
use clap::Subcommand;
use serde::Serialize;

use super::Ending;
use super::connect::Database;
use super::output::{Output, table};
use crate::error::{Error, ErrorKind, Result};
use crate::records::{Json, Regime, RegimeState, RegimeStatus};
use crate::store::{RegimeEvent, RegimeRule, Store};

/// The market's regime: what is in force, what waits for a decision, and the decision.
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    #[command(subcommand)]
    step: Step,
}

#[derive(Subcommand, Debug)]
enum Step {
    /// Show the regime in force and those to be decided, or one regime with its history
    Show {
        /// The regime's id
        regime_id: Option<String>,
    },
    /// Propose a regime; unless a person must confirm it, it takes effect at once
    Propose(Proposal),
    /// Confirm a proposed regime: it is in force from now on
    Confirm(Decision),
    /// Reject a proposed regime: the one in force stays
    Reject(Decision),
    /// Show or set which proposals a person must confirm
    Rule {
        /// Those of lower confidence, 0 to 1
        #[arg(long, value_name = "CONFIDENCE")]
        confirm_below: Option<f64>,
        /// Those that change into crisis or out of it
        #[arg(long, value_name = "BOOL")]
        confirm_crisis: Option<bool>,
        /// How many different people must confirm a change into crisis or out of it: 1 or 2
        #[arg(long, value_name = "PEOPLE")]
        crisis_deciders: Option<i32>,
    },
}

#[derive(clap::Args, Debug)]
struct Proposal {
    /// bull, bear, sideways, high_vol, low_vol, crisis, recovery or unknown
    #[arg(value_parser = |word: &str| word.parse::<Regime>().map_err(|e| e.to_string()))]
    regime: Regime,
    /// How sure you are, 0 to 1
    #[arg(long)]
    confidence: f64,
    /// Who proposes; your login unless told otherwise
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
    /// How it was found
    #[arg(long)]
    method: Option<String>,
    /// Why
    #[arg(long)]
    reasoning: Option<String>,
    /// The figures behind it, as JSON
    #[arg(long, value_name = "JSON", value_parser = |text: &str| Json::parse(text))]
    context: Option<Json>,
    /// Ask for confirmation, whatever the rule says
    #[arg(long)]
    require_confirmation: bool,
    /// Expires unless decided within this time: 30m, 2h, 1day
    #[arg(long, value_name = "TIME", value_parser = |text: &str| humantime::parse_duration(text), conflicts_with = "decide_by")]
    within: Option<Duration>,
    /// Expires unless decided by this time (RFC 3339)
    #[arg(long, value_name = "TIME")]
    decide_by: Option<DateTime<Utc>>,
    /// The regime's own id; proposed again under it, nothing changes
    #[arg(long, value_name = "ID")]
    id: Option<String>,
}

#[derive(clap::Args, Debug)]
struct Decision {
    /// The regime's id; may be left out when one waits
    regime_id: Option<String>,
    /// Who decides; your login unless told otherwise
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
    /// Why
    #[arg(long)]
    notes: Option<String>,
    /// Don't ask
    #[arg(short, long)]
    yes: bool,
}

#[derive(Serialize)]
struct Overview {
    active: Option<RegimeState>,
    pending: Vec<RegimeState>,
}

#[derive(Serialize)]
struct History {
    regime: RegimeState,
    events: Vec<RegimeEvent>,
}

pub(super) async fn run(args: Args, database: &Database, output: Output) -> Result<Ending> {
    let store = database.store().await?;
    match args.step {
        Step::Show { regime_id: None } => {
            let overview = Overview { active: store.regime_active().await?, pending: store.regime_pending().await? };
            output.print(&overview, overview_text)?;
        }
        Step::Show { regime_id: Some(id) } => {
            let regime = store.regime_get(&id).await?.ok_or_else(|| unknown(&id))?;
            output.print(&History { regime, events: store.regime_events(&id).await? }, history_text)?;
        }
        Step::Propose(proposal) => {
            let state = store.regime_propose(proposal.state()?).await?;
            output.print(&state, outcome)?;
        }
        Step::Confirm(decision) => return decide(&store, decision, true, output).await,
        Step::Reject(decision) => return decide(&store, decision, false, output).await,
        Step::Rule { confirm_below, confirm_crisis, crisis_deciders } => {
            let now = store.regime_rule().await?;
            let rule = RegimeRule {
                confirm_below: confirm_below.unwrap_or(now.confirm_below),
                confirm_crisis: confirm_crisis.unwrap_or(now.confirm_crisis),
                crisis_deciders: crisis_deciders.unwrap_or(now.crisis_deciders),
            };
            if rule != now {
                store.regime_rule_set(rule).await.map_err(as_usage)?;
            }
            output.print(&rule, rule_text)?;
        }
    }
    Ok(Ending::Done)
}

/// A flag's value that can't be used is a usage error.
fn as_usage(error: Error) -> Error {
    if error.kind() == ErrorKind::Invalid { Error::new(ErrorKind::Config, error.to_string()) } else { error }
}

fn unknown(id: &str) -> Error {
    Error::new(ErrorKind::NotFound, format!("there is no regime '{id}'; hitherto regime show lists those to be decided"))
}

/// The name that was given, else the login's.
fn person(by: Option<String>) -> Result<String> {
    let login = || ["USER", "LOGNAME", "USERNAME"].iter().find_map(|name| std::env::var(name).ok().filter(|v| !v.trim().is_empty()));
    let name =
        by.or_else(login).ok_or_else(|| Error::new(ErrorKind::Config, "this session has no login name; say who you are with --by NAME"))?;
    if name.trim().is_empty() {
        return Err(Error::new(ErrorKind::Config, "--by is empty; a decision needs the name of whoever makes it"));
    }
    Ok(name.trim().to_owned())
}

impl Proposal {
    fn state(self) -> Result<RegimeState> {
        let mut state = RegimeState::new(self.regime, self.confidence, person(self.by)?);
        state.decide_by = self.decide_by;
        if let Some(time) = self.within {
            let until = chrono::TimeDelta::from_std(time).ok().and_then(|t| state.proposed_at.checked_add_signed(t));
            state.decide_by = Some(until.ok_or_else(|| Error::new(ErrorKind::Config, "--within is past the end of time"))?);
        }
        if state.decide_by.is_some_and(|until| until <= state.proposed_at) {
            return Err(Error::new(ErrorKind::Config, "--decide-by has passed; nobody could decide"));
        }
        if let Some(id) = self.id {
            state.regime_id = id;
        }
        (state.method, state.reasoning, state.context) = (self.method, self.reasoning, self.context);
        state.requires_confirmation = self.require_confirmation;
        Ok(state)
    }
}

async fn decide(store: &Store, decision: Decision, confirm: bool, output: Output) -> Result<Ending> {
    let by = person(decision.by)?;
    let id = match decision.regime_id {
        Some(id) => id,
        None => only_pending(store).await?,
    };
    let regime = store.regime_get(&id).await?.ok_or_else(|| unknown(&id))?;
    if regime.status == RegimeStatus::Proposed && !decision.yes {
        let active = store.regime_active().await?;
        if !agreed(&regime, active.as_ref(), &by, confirm)? {
            return Err(Error::new(ErrorKind::Closed, "nothing was decided"));
        }
    }
    let notes = decision.notes.as_deref();
    let decided = if confirm { store.regime_confirm(&id, &by, notes).await? } else { store.regime_reject(&id, &by, notes).await? };
    output.print(&decided, outcome)?;
    Ok(Ending::Done)
}

async fn only_pending(store: &Store) -> Result<String> {
    let pending = store.regime_pending().await?;
    match pending.as_slice() {
        [one] => Ok(one.regime_id.clone()),
        [] => Err(Error::new(ErrorKind::NotFound, "no regime waits for a decision")),
        several => {
            let ids: Vec<&str> = several.iter().map(|r| r.regime_id.as_str()).collect();
            Err(Error::new(ErrorKind::Config, format!("{} regimes wait for a decision; name one: {}", several.len(), ids.join(", "))))
        }
    }
}

/// Shows what is being decided and asks.
fn agreed(regime: &RegimeState, active: Option<&RegimeState>, by: &str, confirm: bool) -> Result<bool> {
    if !std::io::stdin().is_terminal() {
        return Err(Error::new(ErrorKind::Config, "a decision is asked for on a terminal; say --yes to make it without being asked"));
    }
    let now = active.map_or_else(|| "none".to_owned(), in_force);
    let step = if confirm { "Confirm" } else { "Reject" };
    let mut screen = std::io::stderr();
    let _ = write!(screen, "in force   {now}\n{}\n{step} {} as {by}? [y/N] ", details(regime), regime.regime);
    let _ = screen.flush();
    let mut answer = String::new();
    let _ = std::io::stdin().lock().read_line(&mut answer);
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}

fn time(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M:%S UTC").to_string()
}

fn in_force(r: &RegimeState) -> String {
    let since = r.effective_from.map(time).unwrap_or_default();
    format!("{}, confidence {:.2}, since {since}, decided by {}", r.regime, r.confidence, r.decided_by.as_deref().unwrap_or("nobody"))
}

fn details(r: &RegimeState) -> String {
    let mut text = format!(
        "proposed   {}, confidence {:.2}, by {} at {}\nid         {}",
        r.regime,
        r.confidence,
        r.classified_by,
        time(r.proposed_at),
        r.regime_id
    );
    let mut line = |name: &str, words: Option<String>| {
        if let Some(words) = words {
            text.push_str(&format!("\n{name:<10} {words}"));
        }
    };
    line("method", r.method.clone());
    line("reasoning", r.reasoning.clone());
    line("context", r.context.as_ref().map(|c| c.as_str().to_owned()));
    line("notes", r.notes.as_ref().map(|n| n.replace('\n', "\n           ")));
    line("decide by", r.decide_by.map(time));
    text
}

fn outcome(r: &RegimeState) -> String {
    match r.status {
        RegimeStatus::Active => format!("in force   {}", in_force(r)),
        RegimeStatus::Proposed => format!("{}\nwaits for {}: hitherto regime confirm {}", details(r), awaited(r), r.regime_id),
        status => format!("{}\n{status} by {}", details(r), r.decided_by.as_deref().unwrap_or("nobody")),
    }
}

fn awaited(r: &RegimeState) -> &'static str {
    if r.requires_confirmation { "confirmation" } else { "a decision" }
}

fn overview_text(overview: &Overview) -> String {
    let mut text = format!("in force   {}\n", overview.active.as_ref().map_or_else(|| "none".to_owned(), in_force));
    if overview.pending.is_empty() {
        text.push_str("nothing waits for a decision\n");
    }
    for regime in &overview.pending {
        text.push_str(&format!("\n{}\n", details(regime)));
    }
    if !overview.pending.is_empty() {
        text.push_str("\ndecide: hitherto regime confirm ID, or: hitherto regime reject ID\n");
    }
    text
}

fn history_text(history: &History) -> String {
    let r = &history.regime;
    let rows: Vec<Vec<String>> = history
        .events
        .iter()
        .map(|e| {
            vec![
                time(e.event_at),
                e.event.clone(),
                e.actor.clone().unwrap_or_default(),
                e.notes.clone().unwrap_or_default().replace('\n', " "),
            ]
        })
        .collect();
    let effective = match (r.effective_from, r.effective_until) {
        (Some(from), Some(until)) => format!("\nin force   {} to {}", time(from), time(until)),
        (Some(from), None) => format!("\nin force   since {}", time(from)),
        _ => String::new(),
    };
    format!("{}\nstatus     {}{effective}\n\n{}", details(r), r.status, table(&["at", "step", "by", "notes"], &rows))
}

fn rule_text(rule: &RegimeRule) -> String {
    format!(
        "A person must confirm a proposed regime if its proposer asks for it, or if its confidence is below {}{}.\n",
        rule.confirm_below,
        match (rule.confirm_crisis, rule.crisis_deciders) {
            (true, 2) => ", or if it changes into crisis or out of it (two different people must)",
            (true, _) => ", or if it changes into crisis or out of it",
            (false, 2) => "; of a change into crisis or out of it that needs it, two different people must",
            _ => "",
        }
    )
}

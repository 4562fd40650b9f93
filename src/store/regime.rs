//! The market's regime: proposed, confirmed or rejected by people, in force one at a time.
//!
//! The rules are the database's (`sql/schema/135_regime_event.sql`): which proposals a person must
//! confirm, which steps there are, that one is active. This is how to take the steps from Rust.

use chrono::{DateTime, Utc};
use serde::Serialize;
use tokio_postgres::Row;

use super::{Store, json};
use crate::error::{Error, ErrorKind, Result};
use crate::records::{Json, Limits, Record, RegimeState};

macro_rules! columns {
    () => {
        "regime_id, regime, confidence, method, classified_by, reasoning, notes, context::text, requires_confirmation, status,
         proposed_at, decide_by, decided_at, decided_by, effective_from, effective_until"
    };
}

const FIND: &str = concat!("-- regime_get\nSELECT ", columns!(), " FROM hitherto.regime_state WHERE regime_id = $1");

/// A step of the workflow: a row of `hitherto.regime_event`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RegimeEvent {
    /// The regime.
    pub regime_id: String,
    /// `proposed`, `confirmed`, `activated`, `rejected`, `expired`, `superseded` or `amended`.
    pub event: String,
    /// Module or person that made the step; none where it followed from another.
    pub actor: Option<String>,
    /// Their words.
    pub notes: Option<String>,
    /// When it was written.
    pub event_at: DateTime<Utc>,
}

/// Which proposed regimes a person must confirm, besides those whose proposer asks for it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct RegimeRule {
    /// Those of lower confidence, 0 to 1.
    pub confirm_below: f64,
    /// Those that change into crisis or out of it.
    pub confirm_crisis: bool,
    /// How many different people must confirm a change into crisis or out of it, 1 or 2.
    pub crisis_deciders: i32,
}

impl Store {
    /// Proposes a regime. Whether a person must confirm it is decided by the proposer and by
    /// [`RegimeRule`]; if nobody must, it takes effect at once, decided by whoever classified it, and the
    /// one in force is superseded at the same instant. Proposed again under the same id, it stays as it is.
    ///
    /// # Errors
    /// `Invalid` when it breaks a rule, or is not merely proposed.
    pub async fn regime_propose(&self, proposal: RegimeState) -> Result<RegimeState> {
        proposal.validate(&Limits::default(), Utc::now())?;
        if proposal.status != crate::records::RegimeStatus::Proposed {
            return Err(Error::new(
                ErrorKind::Invalid,
                format!("regime '{}' is {}; propose one that is proposed", proposal.regime_id, proposal.status),
            ));
        }
        let doing = "proposing a regime";
        self.run_tx("regime_propose", move |tx| {
            let p = proposal.clone();
            Box::pin(async move {
                let context = p.context.as_ref().map(Json::as_str);
                tx.execute(
                    "-- regime_propose
                     INSERT INTO hitherto.regime_state (regime_id, regime, confidence, method, classified_by, reasoning, notes, context,
                                                        requires_confirmation, proposed_at, decide_by)
                     VALUES ($1, $2, $3, $4, $5, $6, $7, $8::text::jsonb, $9, $10, $11) ON CONFLICT (regime_id) DO NOTHING",
                    &[
                        &p.regime_id,
                        &p.regime.as_str(),
                        &p.confidence,
                        &p.method,
                        &p.classified_by,
                        &p.reasoning,
                        &p.notes,
                        &context,
                        &p.requires_confirmation,
                        &p.proposed_at,
                        &p.decide_by,
                    ],
                )
                .await
                .map_err(|e| Error::unanswered(doing, e))?;
                let row = tx.query_one(FIND, &[&p.regime_id]).await.map_err(|e| Error::unanswered(doing, e))?;
                regime_state(&row)
            })
        })
        .await
    }

    /// A person confirms a proposed regime: it is in force from now on, and the one before is superseded at
    /// the same instant. Where two must confirm ([`RegimeRule::crisis_deciders`]), the first confirmation is
    /// noted and the regime stays proposed.
    ///
    /// # Errors
    /// `Invalid` for an empty name, `NotFound` for an unknown id, `Conflict` when it was decided already, has
    /// expired, or needs somebody else: the message says what the state is and who made it so.
    pub async fn regime_confirm(&self, regime_id: &str, decided_by: &str, notes: Option<&str>) -> Result<RegimeState> {
        self.regime_decide(regime_id, true, decided_by, notes).await
    }

    /// A person rejects a proposed regime: the one in force stays.
    ///
    /// # Errors
    /// As [`Store::regime_confirm`].
    pub async fn regime_reject(&self, regime_id: &str, decided_by: &str, notes: Option<&str>) -> Result<RegimeState> {
        self.regime_decide(regime_id, false, decided_by, notes).await
    }

    async fn regime_decide(&self, regime_id: &str, confirm: bool, decided_by: &str, notes: Option<&str>) -> Result<RegimeState> {
        // In a transaction of its own: what expired stays so when the decision is refused.
        self.regime_expire().await?;
        let doing = if confirm { "confirming a regime" } else { "rejecting a regime" };
        let (id, by, notes) = (regime_id.to_owned(), decided_by.to_owned(), notes.map(str::to_owned));
        self.run_tx("regime_decide", move |tx| {
            let (id, by, notes) = (id.clone(), by.clone(), notes.clone());
            Box::pin(async move {
                tx.execute("-- regime_decide\nSELECT hitherto.regime_decide($1, $2, $3, $4)", &[&id, &confirm, &by, &notes])
                    .await
                    .map_err(|e| refusal(doing, e))?;
                let row = tx.query_one(FIND, &[&id]).await.map_err(|e| Error::unanswered(doing, e))?;
                regime_state(&row)
            })
        })
        .await
    }

    /// Proposals that nobody decided in time expire. How many did.
    ///
    /// # Errors
    /// Whatever the database answers.
    pub async fn regime_expire(&self) -> Result<i64> {
        let row = self
            .asking()
            .await?
            .query_one("-- regime_expire\nSELECT hitherto.regime_expire()", &[])
            .await
            .map_err(|e| Error::unanswered("expiring regimes", e))?;
        Ok(row.get(0))
    }

    /// A regime by its id.
    ///
    /// # Errors
    /// Whatever the database answers.
    pub async fn regime_get(&self, regime_id: &str) -> Result<Option<RegimeState>> {
        let row = self.asking().await?.query_opt(FIND, &[&regime_id]).await.map_err(|e| Error::unanswered("reading a regime", e))?;
        row.as_ref().map(regime_state).transpose()
    }

    /// Regimes that wait for a decision and can still be decided, oldest first.
    ///
    /// # Errors
    /// Whatever the database answers.
    pub async fn regime_pending(&self) -> Result<Vec<RegimeState>> {
        let rows = self
            .asking()
            .await?
            .query(
                concat!(
                    "-- regime_pending\nSELECT ",
                    columns!(),
                    " FROM hitherto.regime_state
                     WHERE status = 'proposed' AND (decide_by IS NULL OR decide_by >= clock_timestamp()) ORDER BY proposed_at, regime_id"
                ),
                &[],
            )
            .await
            .map_err(|e| Error::unanswered("reading proposed regimes", e))?;
        rows.iter().map(regime_state).collect()
    }

    /// Every step that a regime went through, in order.
    ///
    /// # Errors
    /// Whatever the database answers.
    pub async fn regime_events(&self, regime_id: &str) -> Result<Vec<RegimeEvent>> {
        let rows = self
            .asking()
            .await?
            .query(
                "-- regime_events
                 SELECT regime_id, event, actor, notes, event_at FROM hitherto.regime_event WHERE regime_id = $1 ORDER BY event_number",
                &[&regime_id],
            )
            .await
            .map_err(|e| Error::unanswered("reading a regime's steps", e))?;
        Ok(rows
            .iter()
            .map(|row| RegimeEvent { regime_id: row.get(0), event: row.get(1), actor: row.get(2), notes: row.get(3), event_at: row.get(4) })
            .collect())
    }

    /// Which proposed regimes a person must confirm.
    ///
    /// # Errors
    /// Whatever the database answers.
    pub async fn regime_rule(&self) -> Result<RegimeRule> {
        let row = self
            .asking()
            .await?
            .query_one("-- regime_rule\nSELECT confirm_below, confirm_crisis, crisis_deciders FROM hitherto.regime_rule", &[])
            .await
            .map_err(|e| Error::unanswered("reading the rule of confirmation", e))?;
        Ok(RegimeRule { confirm_below: row.get(0), confirm_crisis: row.get(1), crisis_deciders: row.get(2) })
    }

    /// Sets which regimes, proposed from now on, a person must confirm.
    ///
    /// # Errors
    /// `Invalid` for a figure out of its range.
    pub async fn regime_rule_set(&self, rule: RegimeRule) -> Result<()> {
        if !(0.0..=1.0).contains(&rule.confirm_below) || !(1..=2).contains(&rule.crisis_deciders) {
            return Err(Error::new(ErrorKind::Invalid, format!("confirm_below is 0 to 1, and 1 or 2 people decide on crisis: {rule:?}")));
        }
        self.asking()
            .await?
            .execute(
                "-- regime_rule_set\nUPDATE hitherto.regime_rule SET confirm_below = $1, confirm_crisis = $2, crisis_deciders = $3",
                &[&rule.confirm_below, &rule.confirm_crisis, &rule.crisis_deciders],
            )
            .await
            .map_err(|e| Error::unanswered("setting the rule of confirmation", e))?;
        Ok(())
    }

    /// The regime in force.
    ///
    /// # Errors
    /// Whatever the database answers.
    pub async fn regime_active(&self) -> Result<Option<RegimeState>> {
        let row = self
            .asking()
            .await?
            .query_opt(concat!("-- regime_active\nSELECT ", columns!(), " FROM hitherto.regime_state WHERE status = 'active'"), &[])
            .await
            .map_err(|e| Error::unanswered("reading the active regime", e))?;
        row.as_ref().map(regime_state).transpose()
    }
}

/// What the workflow's functions raise, in this crate's kinds.
fn refusal(doing: &str, error: tokio_postgres::Error) -> Error {
    let kind = match error.code().map(|c| c.code()) {
        Some("P0002") => ErrorKind::NotFound,
        Some("55000") => ErrorKind::Conflict,
        Some("22023") => ErrorKind::Invalid,
        _ => return Error::unanswered(doing, error),
    };
    let words = error.as_db_error().map(|e| [Some(e.message()), e.hint()].into_iter().flatten().collect::<Vec<_>>().join("; "));
    Error::new(kind, words.unwrap_or_default()).caused_by(error)
}

fn regime_state(row: &Row) -> Result<RegimeState> {
    Ok(RegimeState {
        regime_id: row.get(0),
        regime: row.get::<_, String>(1).parse()?,
        confidence: row.get(2),
        method: row.get(3),
        classified_by: row.get(4),
        reasoning: row.get(5),
        notes: row.get(6),
        context: json("reading a regime's context", row.get(7))?,
        requires_confirmation: row.get(8),
        status: row.get::<_, String>(9).parse()?,
        proposed_at: row.get(10),
        decide_by: row.get(11),
        decided_at: row.get(12),
        decided_by: row.get(13),
        effective_from: row.get(14),
        effective_until: row.get(15),
    })
}

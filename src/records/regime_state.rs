//! The market's regimes.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::record::{json_len, len};
use super::{Check, Column, Fields, Invalid, Json, Kind, Record};

super::words! {
    /// What the market is like.
    Regime {
        /// Rising.
        Bull = "bull",
        /// Falling.
        Bear = "bear",
        /// Neither.
        Sideways = "sideways",
        /// Restless.
        HighVol = "high_vol",
        /// Calm.
        LowVol = "low_vol",
        /// In crisis.
        Crisis = "crisis",
        /// Coming out of one.
        Recovery = "recovery",
        /// Not known.
        Unknown = "unknown",
    }
}

super::words! {
    /// Where a regime stands.
    #[derive(Default)]
    RegimeStatus {
        /// Waiting for a decision.
        #[default]
        Proposed = "proposed",
        /// In force; one at a time.
        Active = "active",
        /// Was in force.
        Superseded = "superseded",
        /// Turned down.
        Rejected = "rejected",
        /// Nobody decided in time.
        Expired = "expired",
    }
}

/// A regime of the market: proposed, in force, or past.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegimeState {
    /// The regime's own id.
    #[serde(default)]
    pub regime_id: String,
    /// Which one.
    pub regime: Regime,
    /// How sure the classifier is, 0 to 1.
    pub confidence: f64,
    /// How it was found.
    pub method: Option<String>,
    /// Module or person that proposed it.
    pub classified_by: String,
    /// Why, in the proposer's words.
    pub reasoning: Option<String>,
    /// Words of those who decided.
    pub notes: Option<String>,
    /// The figures behind it.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "super::json::present")]
    pub context: Option<Json>,
    /// Whether a person must confirm it before it takes effect.
    #[serde(default)]
    pub requires_confirmation: bool,
    /// Where it stands.
    #[serde(default)]
    pub status: RegimeStatus,
    /// When it was proposed.
    #[serde(deserialize_with = "super::time::deserialize")]
    pub proposed_at: DateTime<Utc>,
    /// Past this, an undecided proposal expires.
    pub decide_by: Option<DateTime<Utc>>,
    /// When it was decided.
    pub decided_at: Option<DateTime<Utc>>,
    /// Who decided.
    pub decided_by: Option<String>,
    /// When it came into force.
    pub effective_from: Option<DateTime<Utc>>,
    /// When the next one replaced it; none while active.
    pub effective_until: Option<DateTime<Utc>>,
}

impl RegimeState {
    /// A regime proposed now.
    pub fn new(regime: Regime, confidence: f64, classified_by: impl Into<String>) -> Self {
        Self {
            regime_id: super::fresh_id(),
            regime,
            confidence,
            method: None,
            classified_by: classified_by.into(),
            reasoning: None,
            notes: None,
            context: None,
            requires_confirmation: false,
            status: RegimeStatus::Proposed,
            proposed_at: super::now(),
            decide_by: None,
            decided_at: None,
            decided_by: None,
            effective_from: None,
            effective_until: None,
        }
    }

    /// When; cut to microseconds.
    #[must_use]
    pub fn at(mut self, time: DateTime<Utc>) -> Self {
        self.proposed_at = super::micros(time);
        self
    }

    /// Nothing changes until a person confirms it.
    #[must_use]
    pub fn requires_confirmation(mut self) -> Self {
        self.requires_confirmation = true;
        self
    }
}

super::setters!(RegimeState {
    /// How it was found.
    method: String,
    /// Why, in the proposer's words.
    reasoning: String,
    /// Words of those who decided.
    notes: String,
    /// The figures behind it.
    context: Json,
});

impl Record for RegimeState {
    const TABLE: &'static str = "regime_state";
    const COLUMNS: &'static [Column] = &[
        Column::new("regime_id", Kind::Text),
        Column::new("regime", Kind::Text),
        Column::new("confidence", Kind::Float8),
        Column::new("method", Kind::Text),
        Column::new("classified_by", Kind::Text),
        Column::new("reasoning", Kind::Text),
        Column::new("notes", Kind::Text),
        Column::new("context", Kind::Jsonb),
        Column::new("requires_confirmation", Kind::Bool),
        Column::new("status", Kind::Text),
        Column::new("proposed_at", Kind::Timestamptz),
        Column::new("decide_by", Kind::Timestamptz),
        Column::new("decided_at", Kind::Timestamptz),
        Column::new("decided_by", Kind::Text),
        Column::new("effective_from", Kind::Timestamptz),
        Column::new("effective_until", Kind::Timestamptz),
    ];

    fn time(&self) -> Option<DateTime<Utc>> {
        Some(self.proposed_at)
    }

    fn module(&self) -> Option<&str> {
        None
    }

    fn id_mut(&mut self) -> Option<&mut String> {
        Some(&mut self.regime_id)
    }

    fn each_json(&mut self, each: &mut dyn FnMut(&mut Option<Json>)) {
        each(&mut self.context);
    }

    fn fields(&self, _: i64, to: &mut impl Fields) {
        to.text(Some(&self.regime_id));
        to.text(Some(self.regime.as_str()));
        to.float8(Some(self.confidence));
        to.text(self.method.as_deref());
        to.text(Some(&self.classified_by));
        to.text(self.reasoning.as_deref());
        to.text(self.notes.as_deref());
        to.json(self.context.as_ref());
        to.bool(Some(self.requires_confirmation));
        to.text(Some(self.status.as_str()));
        to.time(Some(self.proposed_at));
        to.time(self.decide_by);
        to.time(self.decided_at);
        to.text(self.decided_by.as_deref());
        to.time(self.effective_from);
        to.time(self.effective_until);
    }

    fn size(&self) -> usize {
        size_of::<Self>()
            + self.regime_id.len()
            + len(&self.method)
            + self.classified_by.len()
            + len(&self.reasoning)
            + len(&self.notes)
            + json_len(&self.context)
            + len(&self.decided_by)
    }

    fn check(&self, check: &Check<'_>) -> Result<(), Invalid> {
        check.name("regime_id", &self.regime_id)?;
        check.fraction("confidence", Some(self.confidence))?;
        check.text("method", &self.method)?;
        check.name("classified_by", &self.classified_by)?;
        check.text("reasoning", &self.reasoning)?;
        check.text("notes", &self.notes)?;
        check.json("context", &self.context)?;
        check.time("proposed_at", self.proposed_at)?;
        check.any_time("decide_by", self.decide_by)?;
        check.any_time("decided_at", self.decided_at)?;
        check.some_name("decided_by", &self.decided_by)?;
        check.any_time("effective_from", self.effective_from)?;
        check.any_time("effective_until", self.effective_until)
    }
}

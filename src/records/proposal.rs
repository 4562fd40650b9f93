//! What a module proposes to do.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::record::{json_len, len};
use super::{Check, Column, Fields, Invalid, Json, Kind, Record};

/// What a module proposes to do. `payload.signal_ids`, an array, names the signals that it rests on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Proposal {
    /// The proposal's own id; risk evaluations and orders name it.
    #[serde(default)]
    pub proposal_id: String,
    /// The module that proposes.
    pub module: String,
    /// When.
    #[serde(deserialize_with = "super::time::deserialize")]
    pub proposed_at: DateTime<Utc>,
    /// The asset it is about; none for a portfolio as a whole.
    pub asset: Option<String>,
    /// What exactly.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "super::json::present")]
    pub payload: Option<Json>,
}

impl Proposal {
    /// A proposal made now.
    pub fn new(module: impl Into<String>) -> Self {
        Self { proposal_id: super::fresh_id(), module: module.into(), proposed_at: super::now(), asset: None, payload: None }
    }

    /// When; cut to microseconds.
    #[must_use]
    pub fn at(mut self, time: DateTime<Utc>) -> Self {
        self.proposed_at = super::micros(time);
        self
    }
}

super::setters!(Proposal {
    /// The asset it is about; none for a portfolio as a whole.
    asset: String,
    /// What exactly.
    payload: Json,
});

impl Record for Proposal {
    const TABLE: &'static str = "proposal";
    const COLUMNS: &'static [Column] = &[
        Column::new("proposal_id", Kind::Text),
        Column::new("module_id", Kind::Int8),
        Column::new("proposed_at", Kind::Timestamptz),
        Column::new("asset", Kind::Text),
        Column::new("payload", Kind::Jsonb),
    ];

    fn time(&self) -> Option<DateTime<Utc>> {
        Some(self.proposed_at)
    }

    fn module(&self) -> Option<&str> {
        Some(&self.module)
    }

    fn id(&self) -> Option<&str> {
        Some(&self.proposal_id)
    }

    fn id_mut(&mut self) -> Option<&mut String> {
        Some(&mut self.proposal_id)
    }

    fn each_json(&mut self, each: &mut dyn FnMut(&mut Option<Json>)) {
        each(&mut self.payload);
    }

    fn fields(&self, module_id: i64, to: &mut impl Fields) {
        to.text(Some(&self.proposal_id));
        to.int8(Some(module_id));
        to.time(Some(self.proposed_at));
        to.text(self.asset.as_deref());
        to.json(self.payload.as_ref());
    }

    fn size(&self) -> usize {
        size_of::<Self>() + self.proposal_id.len() + len(&self.asset) + json_len(&self.payload) + self.module.len()
    }

    fn check(&self, check: &Check<'_>) -> Result<(), Invalid> {
        check.name("proposal_id", &self.proposal_id)?;
        check.name("module", &self.module)?;
        check.time("proposed_at", self.proposed_at)?;
        check.some_name("asset", &self.asset)?;
        check.json("payload", &self.payload)
    }
}

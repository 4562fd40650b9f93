//! What a module makes of the market.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::record::{json_len, len};
use super::{Check, Column, Fields, Invalid, Json, Kind, Record};

/// What a module makes of the market.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signal {
    /// When it was given.
    #[serde(deserialize_with = "super::time::deserialize")]
    pub emitted_at: DateTime<Utc>,
    /// The module that gave it.
    pub module: String,
    /// The signal's own id; a proposal names it in `payload.signal_ids`.
    #[serde(default)]
    pub signal_id: String,
    /// What sort of signal.
    pub kind: String,
    /// The asset it speaks of; none for the market as a whole.
    pub asset: Option<String>,
    /// Its strength in the module's own units; negative points down.
    pub score: Option<f64>,
    /// How sure the module is, 0 to 1.
    pub confidence: Option<f64>,
    /// Anything else.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "super::json::present")]
    pub payload: Option<Json>,
}

impl Signal {
    /// A signal given now.
    pub fn new(module: impl Into<String>, kind: impl Into<String>) -> Self {
        Self {
            emitted_at: super::now(),
            module: module.into(),
            signal_id: super::fresh_id(),
            kind: kind.into(),
            asset: None,
            score: None,
            confidence: None,
            payload: None,
        }
    }

    /// When; cut to microseconds.
    #[must_use]
    pub fn at(mut self, time: DateTime<Utc>) -> Self {
        self.emitted_at = super::micros(time);
        self
    }
}

super::setters!(Signal {
    /// The asset it speaks of; none for the market as a whole.
    asset: String,
    /// Its strength in the module's own units; negative points down.
    score: f64,
    /// How sure the module is, 0 to 1.
    confidence: f64,
    /// Anything else.
    payload: Json,
});

impl Record for Signal {
    const TABLE: &'static str = "signal";
    const COLUMNS: &'static [Column] = &[
        Column::new("emitted_at", Kind::Timestamptz),
        Column::new("module_id", Kind::Int8),
        Column::new("signal_id", Kind::Text),
        Column::new("kind", Kind::Text),
        Column::new("asset", Kind::Text),
        Column::new("score", Kind::Float8),
        Column::new("confidence", Kind::Float8),
        Column::new("payload", Kind::Jsonb),
    ];

    fn time(&self) -> Option<DateTime<Utc>> {
        Some(self.emitted_at)
    }

    fn module(&self) -> Option<&str> {
        Some(&self.module)
    }

    fn id_mut(&mut self) -> Option<&mut String> {
        Some(&mut self.signal_id)
    }

    fn each_json(&mut self, each: &mut dyn FnMut(&mut Option<Json>)) {
        each(&mut self.payload);
    }

    fn fields(&self, module_id: i64, to: &mut impl Fields) {
        to.time(Some(self.emitted_at));
        to.int8(Some(module_id));
        to.text(Some(&self.signal_id));
        to.text(Some(&self.kind));
        to.text(self.asset.as_deref());
        to.float8(self.score);
        to.float8(self.confidence);
        to.json(self.payload.as_ref());
    }

    fn size(&self) -> usize {
        size_of::<Self>() + self.signal_id.len() + self.kind.len() + len(&self.asset) + json_len(&self.payload) + self.module.len()
    }

    fn check(&self, check: &Check<'_>) -> Result<(), Invalid> {
        check.time("emitted_at", self.emitted_at)?;
        check.name("module", &self.module)?;
        check.name("signal_id", &self.signal_id)?;
        check.name("kind", &self.kind)?;
        check.some_name("asset", &self.asset)?;
        check.finite("score", self.score)?;
        check.fraction("confidence", self.confidence)?;
        check.json("payload", &self.payload)
    }
}

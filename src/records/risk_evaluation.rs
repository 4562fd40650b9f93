//! What risk management makes of a proposal.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::record::{json_len, len};
use super::{Check, Column, Fields, Invalid, Json, Kind, Record};

super::words! {
    /// How risky a proposal is.
    RiskLevel {
        /// Little.
        Low = "low",
        /// Some.
        Medium = "medium",
        /// Much.
        High = "high",
        /// Too much.
        Critical = "critical",
    }
}

super::words! {
    /// What is to become of a proposal.
    Verdict {
        /// It may go ahead.
        Approved = "approved",
        /// It may go ahead smaller.
        Downgraded = "downgraded",
        /// It may not.
        Rejected = "rejected",
    }
}

/// What risk management makes of a proposal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RiskEvaluation {
    /// When.
    #[serde(deserialize_with = "super::time::deserialize")]
    pub evaluated_at: DateTime<Utc>,
    /// The evaluation's own id.
    #[serde(default)]
    pub evaluation_id: String,
    /// The proposal it judges.
    pub proposal_id: String,
    /// The module that judges.
    pub module: String,
    /// How risky.
    pub risk_level: RiskLevel,
    /// What is to become of the proposal.
    pub verdict: Verdict,
    /// Value at risk at 99 %, a fraction, positive for a loss.
    pub var_99: Option<f64>,
    /// Mean loss beyond value at risk, a fraction, positive for a loss.
    pub expected_shortfall: Option<f64>,
    /// Largest fall from a peak, a fraction.
    pub max_drawdown: Option<f64>,
    /// Mean return over its standard deviation, as the module scales it.
    pub sharpe_ratio: Option<f64>,
    /// What stood out.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "super::json::present")]
    pub flags: Option<Json>,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "super::json::present")]
    pub recommendations: Option<Json>,
    /// How it was computed.
    pub method: Option<String>,
    /// Version of the model that computed it.
    pub model_version: Option<String>,
}

impl RiskEvaluation {
    /// A verdict given now.
    pub fn new(module: impl Into<String>, proposal_id: impl Into<String>, risk_level: RiskLevel, verdict: Verdict) -> Self {
        Self {
            evaluated_at: super::now(),
            evaluation_id: super::fresh_id(),
            proposal_id: proposal_id.into(),
            module: module.into(),
            risk_level,
            verdict,
            var_99: None,
            expected_shortfall: None,
            max_drawdown: None,
            sharpe_ratio: None,
            flags: None,
            recommendations: None,
            method: None,
            model_version: None,
        }
    }

    /// When; cut to microseconds.
    #[must_use]
    pub fn at(mut self, time: DateTime<Utc>) -> Self {
        self.evaluated_at = super::micros(time);
        self
    }
}

super::setters!(RiskEvaluation {
    /// Value at risk at 99 %, a fraction, positive for a loss.
    var_99: f64,
    /// Mean loss beyond value at risk, a fraction, positive for a loss.
    expected_shortfall: f64,
    /// Largest fall from a peak, a fraction.
    max_drawdown: f64,
    /// Mean return over its standard deviation, as the module scales it.
    sharpe_ratio: f64,
    /// What stood out.
    flags: Json,
    /// What to do about it.
    recommendations: Json,
    /// How it was computed.
    method: String,
    /// Version of the model that computed it.
    model_version: String,
});

impl Record for RiskEvaluation {
    const TABLE: &'static str = "risk_evaluation";
    const COLUMNS: &'static [Column] = &[
        Column::new("evaluated_at", Kind::Timestamptz),
        Column::new("evaluation_id", Kind::Text),
        Column::new("proposal_id", Kind::Text),
        Column::new("module_id", Kind::Int8),
        Column::new("risk_level", Kind::Text),
        Column::new("verdict", Kind::Text),
        Column::new("var_99", Kind::Float8),
        Column::new("expected_shortfall", Kind::Float8),
        Column::new("max_drawdown", Kind::Float8),
        Column::new("sharpe_ratio", Kind::Float8),
        Column::new("flags", Kind::Jsonb),
        Column::new("recommendations", Kind::Jsonb),
        Column::new("method", Kind::Text),
        Column::new("model_version", Kind::Text),
    ];

    fn time(&self) -> Option<DateTime<Utc>> {
        Some(self.evaluated_at)
    }

    fn module(&self) -> Option<&str> {
        Some(&self.module)
    }

    fn id(&self) -> Option<&str> {
        Some(&self.evaluation_id)
    }

    fn id_mut(&mut self) -> Option<&mut String> {
        Some(&mut self.evaluation_id)
    }

    fn each_json(&mut self, each: &mut dyn FnMut(&mut Option<Json>)) {
        each(&mut self.flags);
        each(&mut self.recommendations);
    }

    fn fields(&self, module_id: i64, to: &mut impl Fields) {
        to.time(Some(self.evaluated_at));
        to.text(Some(&self.evaluation_id));
        to.text(Some(&self.proposal_id));
        to.int8(Some(module_id));
        to.text(Some(self.risk_level.as_str()));
        to.text(Some(self.verdict.as_str()));
        to.float8(self.var_99);
        to.float8(self.expected_shortfall);
        to.float8(self.max_drawdown);
        to.float8(self.sharpe_ratio);
        to.json(self.flags.as_ref());
        to.json(self.recommendations.as_ref());
        to.text(self.method.as_deref());
        to.text(self.model_version.as_deref());
    }

    fn size(&self) -> usize {
        size_of::<Self>()
            + self.evaluation_id.len()
            + self.proposal_id.len()
            + json_len(&self.flags)
            + json_len(&self.recommendations)
            + len(&self.method)
            + len(&self.model_version)
            + self.module.len()
    }

    fn check(&self, check: &Check<'_>) -> Result<(), Invalid> {
        check.time("evaluated_at", self.evaluated_at)?;
        check.name("evaluation_id", &self.evaluation_id)?;
        check.name("proposal_id", &self.proposal_id)?;
        check.name("module", &self.module)?;
        check.finite("var_99", self.var_99)?;
        check.finite("expected_shortfall", self.expected_shortfall)?;
        check.finite("max_drawdown", self.max_drawdown)?;
        check.finite("sharpe_ratio", self.sharpe_ratio)?;
        check.json("flags", &self.flags)?;
        check.json("recommendations", &self.recommendations)?;
        check.text("method", &self.method)?;
        check.text("model_version", &self.model_version)
    }
}

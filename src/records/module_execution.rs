//! One run of a module's work.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::record::{json_len, len};
use super::{Check, Column, Fields, Invalid, Json, Kind, Record};

/// One run of a module's work.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModuleExecution {
    /// When the run began.
    #[serde(deserialize_with = "super::time::deserialize")]
    pub started_at: DateTime<Utc>,
    /// The module that ran.
    pub module: String,
    /// The run's own id.
    #[serde(default)]
    pub execution_id: String,
    /// How long it took, milliseconds, not negative.
    pub duration_ms: f64,
    /// Whether it did what it was to do.
    pub success: bool,
    /// Why not.
    pub error_message: Option<String>,
    /// Anything else.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "super::json::present")]
    pub details: Option<Json>,
}

impl ModuleExecution {
    /// A run that ended now and took `duration_ms` milliseconds.
    pub fn new(module: impl Into<String>, duration_ms: f64) -> Self {
        // A duration that is no duration is refused when the record is written.
        let took = chrono::TimeDelta::nanoseconds((duration_ms.clamp(0.0, 1e12) * 1e6) as i64);
        Self {
            started_at: super::micros(Utc::now() - took),
            module: module.into(),
            execution_id: super::fresh_id(),
            duration_ms,
            success: true,
            error_message: None,
            details: None,
        }
    }

    /// When; cut to microseconds.
    #[must_use]
    pub fn at(mut self, time: DateTime<Utc>) -> Self {
        self.started_at = super::micros(time);
        self
    }

    /// A run that failed, and why.
    #[must_use]
    pub fn failed(mut self, error_message: impl Into<String>) -> Self {
        self.success = false;
        self.error_message = Some(error_message.into());
        self
    }
}

super::setters!(ModuleExecution {
    /// Anything else.
    details: Json,
});

impl Record for ModuleExecution {
    const TABLE: &'static str = "module_execution";
    const COLUMNS: &'static [Column] = &[
        Column::new("started_at", Kind::Timestamptz),
        Column::new("module_id", Kind::Int8),
        Column::new("execution_id", Kind::Text),
        Column::new("duration_ms", Kind::Float8),
        Column::new("success", Kind::Bool),
        Column::new("error_message", Kind::Text),
        Column::new("details", Kind::Jsonb),
    ];

    fn time(&self) -> Option<DateTime<Utc>> {
        Some(self.started_at)
    }

    fn module(&self) -> Option<&str> {
        Some(&self.module)
    }

    fn id_mut(&mut self) -> Option<&mut String> {
        Some(&mut self.execution_id)
    }

    fn each_json(&mut self, each: &mut dyn FnMut(&mut Option<Json>)) {
        each(&mut self.details);
    }

    fn fields(&self, module_id: i64, to: &mut impl Fields) {
        to.time(Some(self.started_at));
        to.int8(Some(module_id));
        to.text(Some(&self.execution_id));
        to.float8(Some(self.duration_ms));
        to.bool(Some(self.success));
        to.text(self.error_message.as_deref());
        to.json(self.details.as_ref());
    }

    fn size(&self) -> usize {
        size_of::<Self>() + self.execution_id.len() + len(&self.error_message) + json_len(&self.details) + self.module.len()
    }

    fn check(&self, check: &Check<'_>) -> Result<(), Invalid> {
        check.time("started_at", self.started_at)?;
        check.name("module", &self.module)?;
        check.name("execution_id", &self.execution_id)?;
        check.not_negative("duration_ms", Some(self.duration_ms))?;
        check.text("error_message", &self.error_message)?;
        check.json("details", &self.details)
    }
}

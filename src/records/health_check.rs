//! How a module is.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::record::json_len;
use super::{Check, Column, Fields, Invalid, Json, Kind, Record};

/// How a module said it was.
///
/// ```
/// use hitherto::records::HealthCheck;
/// let check = HealthCheck::new("technical", "healthy").response_time_ms(3.2).memory_usage_mb(180.0);
/// assert_eq!(check.response_time_ms, Some(3.2));
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HealthCheck {
    /// When it was checked.
    #[serde(deserialize_with = "super::time::deserialize")]
    pub checked_at: DateTime<Utc>,
    /// The module that was checked.
    pub module: String,
    /// `healthy`, or what else it was: `degraded`, `unhealthy`, ...
    pub status: String,
    /// How long the check took to be answered, milliseconds, not negative.
    pub response_time_ms: Option<f64>,
    /// Errors since the check before, not negative.
    #[serde(default)]
    pub error_count: i32,
    /// Resident memory, megabytes (10^6 bytes), not negative.
    pub memory_usage_mb: Option<f64>,
    /// CPU in use, percent of one core, not negative; may pass 100.
    pub cpu_usage_percent: Option<f64>,
    /// Anything else.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "super::json::present")]
    pub details: Option<Json>,
}

impl HealthCheck {
    /// A check made now.
    pub fn new(module: impl Into<String>, status: impl Into<String>) -> Self {
        Self {
            checked_at: super::now(),
            module: module.into(),
            status: status.into(),
            response_time_ms: None,
            error_count: 0,
            memory_usage_mb: None,
            cpu_usage_percent: None,
            details: None,
        }
    }

    /// When; cut to microseconds.
    #[must_use]
    pub fn at(mut self, time: DateTime<Utc>) -> Self {
        self.checked_at = super::micros(time);
        self
    }

    /// Errors since the check before.
    #[must_use]
    pub fn error_count(mut self, error_count: i32) -> Self {
        self.error_count = error_count;
        self
    }
}

super::setters!(HealthCheck {
    /// How long the check took to be answered, milliseconds, not negative.
    response_time_ms: f64,
    /// Resident memory, megabytes (10^6 bytes), not negative.
    memory_usage_mb: f64,
    /// CPU in use, percent of one core, not negative; may pass 100.
    cpu_usage_percent: f64,
    /// Anything else.
    details: Json,
});

impl Record for HealthCheck {
    const TABLE: &'static str = "health_check";
    const COLUMNS: &'static [Column] = &[
        Column::new("checked_at", Kind::Timestamptz),
        Column::new("module_id", Kind::Int8),
        Column::new("status", Kind::Text),
        Column::new("response_time_ms", Kind::Float8),
        Column::new("error_count", Kind::Int4),
        Column::new("memory_usage_mb", Kind::Float8),
        Column::new("cpu_usage_percent", Kind::Float8),
        Column::new("details", Kind::Jsonb),
    ];

    fn time(&self) -> Option<DateTime<Utc>> {
        Some(self.checked_at)
    }

    fn module(&self) -> Option<&str> {
        Some(&self.module)
    }

    fn id_mut(&mut self) -> Option<&mut String> {
        None
    }

    fn each_json(&mut self, each: &mut dyn FnMut(&mut Option<Json>)) {
        each(&mut self.details);
    }

    fn fields(&self, module_id: i64, to: &mut impl Fields) {
        to.time(Some(self.checked_at));
        to.int8(Some(module_id));
        to.text(Some(&self.status));
        to.float8(self.response_time_ms);
        to.int4(Some(self.error_count));
        to.float8(self.memory_usage_mb);
        to.float8(self.cpu_usage_percent);
        to.json(self.details.as_ref());
    }

    fn size(&self) -> usize {
        size_of::<Self>() + self.status.len() + json_len(&self.details) + self.module.len()
    }

    fn check(&self, check: &Check<'_>) -> Result<(), Invalid> {
        check.time("checked_at", self.checked_at)?;
        check.name("module", &self.module)?;
        check.name("status", &self.status)?;
        check.not_negative("response_time_ms", self.response_time_ms)?;
        check.rule(self.error_count >= 0, "error_count", || format!("{} is negative", self.error_count))?;
        check.not_negative("memory_usage_mb", self.memory_usage_mb)?;
        check.not_negative("cpu_usage_percent", self.cpu_usage_percent)?;
        check.json("details", &self.details)
    }
}

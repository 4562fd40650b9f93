//! What every record is held to.

use std::fmt;

use chrono::{DateTime, TimeDelta, Utc};

use super::Json;
use crate::error::{Error, ErrorKind};

/// A record that breaks a rule: which record, field and value, and the rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid {
    /// The record's table.
    pub record: &'static str,
    /// The field.
    pub field: &'static str,
    /// What the rule says of the value, the value included.
    pub reason: String,
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}: {}", self.record, self.field, self.reason)
    }
}

impl std::error::Error for Invalid {}

impl From<Invalid> for Error {
    fn from(invalid: Invalid) -> Self {
        Self::new(ErrorKind::Invalid, invalid.to_string())
    }
}

/// How far records may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The oldest time, back from now.
    pub oldest: TimeDelta,
    /// The latest time, ahead of now.
    pub ahead: TimeDelta,
    /// The longest JSON value, bytes.
    pub json_bytes: usize,
    /// The longest text, bytes.
    pub text_bytes: usize,
}

/// The oldest time unless told otherwise: ten years back.
pub const DEFAULT_OLDEST: TimeDelta = TimeDelta::days(3653);
/// The latest time unless told otherwise: an hour ahead.
pub const DEFAULT_AHEAD: TimeDelta = TimeDelta::hours(1);
/// The longest JSON value unless told otherwise: 256 KiB.
pub const DEFAULT_JSON_BYTES: usize = 256 * 1024;
/// The longest text unless told otherwise: 64 KiB.
pub const DEFAULT_TEXT_BYTES: usize = 64 * 1024;
/// The largest magnitude of a measured value: sums of such values stay finite.
pub const MAX_MEASURE: f64 = 1e15;
/// The longest name or id, characters.
pub const MAX_NAME_CHARS: usize = 200;

impl Default for Limits {
    fn default() -> Self {
        Self { oldest: DEFAULT_OLDEST, ahead: DEFAULT_AHEAD, json_bytes: DEFAULT_JSON_BYTES, text_bytes: DEFAULT_TEXT_BYTES }
    }
}

type Checked = Result<(), Invalid>;

/// The rules at one instant, for one kind of record.
#[derive(Debug, Clone, Copy)]
pub struct Check<'a> {
    record: &'static str,
    limits: &'a Limits,
    now: DateTime<Utc>,
}

impl<'a> Check<'a> {
    pub(crate) fn new(record: &'static str, limits: &'a Limits, now: DateTime<Utc>) -> Self {
        Self { record, limits, now }
    }

    fn refuse(&self, field: &'static str, reason: impl Into<String>) -> Checked {
        Err(Invalid { record: self.record, field, reason: reason.into() })
    }

    pub(super) fn time(&self, field: &'static str, value: DateTime<Utc>) -> Checked {
        if value < self.now - self.limits.oldest {
            return self.refuse(field, format!("{} is more than {} days back", value.to_rfc3339(), self.limits.oldest.num_days()));
        }
        if value > self.now + self.limits.ahead {
            return self.refuse(field, format!("{} is more than {} minutes ahead", value.to_rfc3339(), self.limits.ahead.num_minutes()));
        }
        if !value.timestamp_subsec_nanos().is_multiple_of(1000) {
            return self.refuse(field, format!("{} is finer than microseconds", value.to_rfc3339()));
        }
        Ok(())
    }

    /// A time that may lie anywhere, such as a deadline.
    pub(super) fn any_time(&self, field: &'static str, value: Option<DateTime<Utc>>) -> Checked {
        match value {
            Some(t) if (t - self.now).abs() > TimeDelta::days(36_525) => {
                self.refuse(field, format!("{} is more than a century away", t.to_rfc3339()))
            }
            Some(t) if !t.timestamp_subsec_nanos().is_multiple_of(1000) => {
                self.refuse(field, format!("{} is finer than microseconds", t.to_rfc3339()))
            }
            _ => Ok(()),
        }
    }

    /// A name or id: there, not blank, not too long.
    pub(super) fn name(&self, field: &'static str, value: &str) -> Checked {
        // What length(btrim(value)) in the database's own check sees.
        if value.trim_matches(' ').is_empty() || value.trim().is_empty() {
            return self.refuse(field, "is empty");
        }
        if value.len() > MAX_NAME_CHARS && value.chars().count() > MAX_NAME_CHARS {
            return self
                .refuse(field, format!("'{}...' is longer than {MAX_NAME_CHARS} characters", value.chars().take(40).collect::<String>()));
        }
        self.nul(field, value)
    }

    pub(super) fn some_name(&self, field: &'static str, value: &Option<String>) -> Checked {
        value.as_ref().map_or(Ok(()), |v| self.name(field, v))
    }

    pub(super) fn text(&self, field: &'static str, value: &Option<String>) -> Checked {
        let Some(value) = value else { return Ok(()) };
        if value.len() > self.limits.text_bytes {
            return self.refuse(field, format!("is {} bytes long, more than {}", value.len(), self.limits.text_bytes));
        }
        self.nul(field, value)
    }

    fn nul(&self, field: &'static str, value: &str) -> Checked {
        match value.find('\0') {
            Some(at) => self.refuse(field, format!("holds a NUL character at byte {at}")),
            None => Ok(()),
        }
    }

    pub(super) fn json(&self, field: &'static str, value: &Option<Json>) -> Checked {
        value.as_ref().map_or(Ok(()), |v| self.json_value(field, v))
    }

    pub(super) fn json_value(&self, field: &'static str, value: &Json) -> Checked {
        let length = value.as_str().len();
        if length > self.limits.json_bytes {
            return self.refuse(field, format!("is {length} bytes of JSON, more than {}", self.limits.json_bytes));
        }
        value.flaw().map_or(Ok(()), |flaw| self.refuse(field, flaw))
    }

    /// A measured value: finite, and no larger than sums can bear.
    pub(super) fn finite(&self, field: &'static str, value: Option<f64>) -> Checked {
        match value {
            Some(v) if !v.is_finite() => self.refuse(field, format!("{v} is not a finite number")),
            Some(v) if v.abs() > MAX_MEASURE => {
                self.refuse(field, format!("{v:e} is past {MAX_MEASURE:e}, the largest value that is taken"))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn not_negative(&self, field: &'static str, value: Option<f64>) -> Checked {
        self.finite(field, value)?;
        match value {
            Some(v) if v < 0.0 => self.refuse(field, format!("{v} is negative")),
            _ => Ok(()),
        }
    }

    pub(super) fn fraction(&self, field: &'static str, value: Option<f64>) -> Checked {
        self.finite(field, value)?;
        match value {
            Some(v) if !(0.0..=1.0).contains(&v) => self.refuse(field, format!("{v} is not within 0 and 1")),
            _ => Ok(()),
        }
    }

    pub(super) fn rule(&self, holds: bool, field: &'static str, reason: impl FnOnce() -> String) -> Checked {
        if holds { Ok(()) } else { self.refuse(field, reason()) }
    }
}

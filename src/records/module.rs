//! Who writes records.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::record::{json_len, len};
use super::{Check, Column, Fields, Invalid, Json, Kind, Record};

super::words! {
    /// What a module is up to.
    #[derive(Default)]
    ModuleStatus {
        /// At work.
        #[default]
        Active = "active",
        /// Switched off.
        Inactive = "inactive",
        /// Broken.
        Error = "error",
        /// Being worked on.
        Maintenance = "maintenance",
    }
}

/// A module's registration: written again, it updates version, status and config.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Module {
    /// Its name, unique.
    pub name: String,
    /// Its version.
    #[serde(default = "unknown")]
    pub version: String,
    /// What it is up to.
    #[serde(default)]
    pub status: ModuleStatus,
    /// Its settings.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "super::json::present")]
    pub config: Option<Json>,
    /// Why its status is error.
    pub error_message: Option<String>,
}

fn unknown() -> String {
    "unknown".to_owned()
}

impl Module {
    /// A module that is active.
    pub fn new(name: impl Into<String>, version: impl Into<String>) -> Self {
        Self { name: name.into(), version: version.into(), status: ModuleStatus::Active, config: None, error_message: None }
    }

    /// What it is up to.
    #[must_use]
    pub fn status(mut self, status: ModuleStatus) -> Self {
        self.status = status;
        self
    }
}

super::setters!(Module {
    /// Its settings.
    config: Json,
    /// Why its status is error.
    error_message: String,
});

impl Record for Module {
    const TABLE: &'static str = "module";
    const COLUMNS: &'static [Column] = &[
        Column::new("name", Kind::Text),
        Column::new("version", Kind::Text),
        Column::new("status", Kind::Text),
        Column::new("config", Kind::Jsonb),
        Column::new("error_message", Kind::Text),
    ];

    fn time(&self) -> Option<DateTime<Utc>> {
        None
    }

    fn module(&self) -> Option<&str> {
        None
    }

    fn id_mut(&mut self) -> Option<&mut String> {
        None
    }

    fn each_json(&mut self, each: &mut dyn FnMut(&mut Option<Json>)) {
        each(&mut self.config);
    }

    fn fields(&self, _: i64, to: &mut impl Fields) {
        to.text(Some(&self.name));
        to.text(Some(&self.version));
        to.text(Some(self.status.as_str()));
        to.json(self.config.as_ref());
        to.text(self.error_message.as_deref());
    }

    fn size(&self) -> usize {
        size_of::<Self>() + self.name.len() + self.version.len() + json_len(&self.config) + len(&self.error_message)
    }

    fn check(&self, check: &Check<'_>) -> Result<(), Invalid> {
        check.name("name", &self.name)?;
        check.name("version", &self.version)?;
        check.json("config", &self.config)?;
        check.text("error_message", &self.error_message)
    }
}

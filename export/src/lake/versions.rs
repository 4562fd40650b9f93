//! `_snapshot.json`: which versions of the tables show one instant.

use std::fs;
use std::path::Path;

use chrono::Utc;
use serde_json::{Value, json};

use super::store::put_file;
use crate::dataset::Exported;
use crate::error::{ExportError, Result};

/// Names every table's version of the last export of it that came to its end: those of one instant belong together.
const SNAPSHOT: &str = "_snapshot.json";

/// Writes down which versions belong together; datasets that were not exported now keep theirs.
pub(super) fn note(root: &Path, exported: &[Exported]) -> Result<()> {
    let path = root.join(SNAPSHOT);
    let before = fs::read(&path).ok().and_then(|text| serde_json::from_slice::<Value>(&text).ok());
    let mut versions = before.and_then(|v| v["versions"].as_object().cloned()).unwrap_or_default();
    let now = Utc::now();
    versions.extend(exported.iter().map(|e| (e.dataset.clone(), json!({"version": e.version, "exported_at": now}))));
    let text = format!("{:#}\n", json!({"versions": versions}));
    put_file(&path, &[text.as_bytes()], false).map_err(|e| ExportError::lake(&format!("writing {}", path.display()), e))
}

//! `_snapshot.json`: which versions of the tables show one instant.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::dataset::Exported;
use crate::error::{ExportError, ExportErrorKind, Result};
use crate::place::Place;

/// Names every table's version of the last export of it that came to its end: those of one instant belong together.
pub(super) const SNAPSHOT: &str = "_snapshot.json";

/// A table's version, and when the export ended that left it or found it up to date; `None` when that was one of a range.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Noted {
    pub(super) version: u64,
    pub(super) exported_at: Option<DateTime<Utc>>,
}

/// Writes down which versions belong together, and which are those of a range only; datasets that were not exported now keep theirs.
pub(super) async fn note(place: &Place, exported: &[(Exported, bool)]) -> Result<()> {
    let mut versions = match all(place).await {
        Ok(versions) => versions,
        // Whatever it is, it is no list of versions.
        Err(e) if e.kind() == ExportErrorKind::Lake => Map::new(),
        Err(e) => return Err(e),
    };
    let now = Utc::now();
    versions.extend(exported.iter().map(|(e, ranged)| {
        // What lies outside the range is of another instant.
        let at = (!ranged).then_some(now);
        (e.dataset.clone(), json!({"version": e.version, "exported_at": at}))
    }));
    write(place, versions).await
}

/// The versions that belong together, by dataset; none where no export has come to its end.
pub(super) async fn read(place: &Place) -> Result<HashMap<String, Noted>> {
    let versions = all(place).await?;
    Ok(versions.into_iter().filter_map(|(name, noted)| Some((name, serde_json::from_value(noted).ok()?))).collect())
}

/// A version that shows the same rows takes another's place.
pub(super) async fn moved(place: &Place, name: &str, from: u64, to: u64) -> Result<()> {
    let mut versions = all(place).await?;
    match versions.get_mut(name) {
        Some(noted) if noted["version"].as_u64() == Some(from) => noted["version"] = json!(to),
        _ => return Ok(()),
    }
    write(place, versions).await
}

async fn all(place: &Place) -> Result<Map<String, Value>> {
    let Some((text, _)) = place.read(SNAPSHOT).await? else { return Ok(Map::new()) };
    let mut read: Value = serde_json::from_slice(&text)
        .map_err(|e| ExportError::lake(&format!("reading {}", place.shown_in(SNAPSHOT)), e).with("the next export writes it anew"))?;
    match read["versions"].take() {
        Value::Object(versions) => Ok(versions),
        _ => Ok(Map::new()),
    }
}

async fn write(place: &Place, versions: Map<String, Value>) -> Result<()> {
    place.write(SNAPSHOT, format!("{:#}\n", json!({"versions": versions}))).await
}

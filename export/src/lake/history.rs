//! What became of a lake's tables, commit by commit.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, Utc};
use futures_util::{StreamExt, TryStreamExt};
use object_store::path::Path;
use serde::Serialize;
use serde_json::Value;

use super::table::Table;
use super::versions;
use super::watermark::{self, Note};
use crate::error::{ExportError, ExportErrorKind, Result};
use crate::place::{AT_ONCE, Place};

/// A table's versions, the newest first.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct History {
    /// The dataset.
    pub dataset: String,
    /// Its versions that the log still has.
    pub versions: Vec<Version>,
}

/// One version of a table: what its commit did.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Version {
    /// Its number.
    pub version: u64,
    /// When it was committed, by the clock of who did.
    pub at: Option<DateTime<Utc>>,
    /// What was done, in Delta's words.
    pub operation: String,
    /// Files that it shows and the version before does not.
    pub files_added: u64,
    /// Files that the version before shows and it does not.
    pub files_removed: u64,
    /// Rows in the files added; `None` where the log does not tell.
    pub rows_added: Option<u64>,
    /// Rows in the files removed; `None` where the log does not tell.
    pub rows_removed: Option<u64>,
    /// Bytes of the files added.
    pub bytes_added: u64,
    /// Up to which transaction it shows the database.
    pub watermark: Option<i64>,
    /// Whose transactions those are: system identifier, timeline and database.
    pub server: Option<String>,
    /// When the export ended that found the dataset up to date with this version, or made it so: versions of all datasets
    /// with the same time show one instant. Only the last export of each dataset is noted.
    pub instant: Option<DateTime<Utc>>,
}

/// The versions of a lake's tables: of the datasets named, or of all. Nothing but the logs is read.
///
/// # Errors
/// See [`crate::ExportErrorKind`]: no lake there, no such dataset, a log that can't be read.
pub async fn lake_history(lake: &str, datasets: &[String]) -> Result<Vec<History>> {
    let place = Place::new(lake)?;
    super::folder::must_be_lake(&place).await?;
    let instants = versions::read(&place).await?;
    let mut all = Vec::new();
    for dataset in place.tables(datasets).await? {
        let instant = instants.get(&dataset);
        let mut versions = table(&place, &dataset).await?;
        for version in &mut versions {
            version.instant = instant.filter(|of| of.version == version.version).and_then(|of| of.exported_at);
        }
        versions.reverse();
        all.push(History { dataset, versions });
    }
    Ok(all)
}

async fn table(place: &Place, name: &str) -> Result<Vec<Version>> {
    let commits = commits(place, name).await?;
    let mut rows = HashMap::new();
    // What was there before the first commit that the log still has, a checkpoint tells.
    if let Some(first) = commits.keys().next().filter(|first| **first > 0)
        && let Ok(table) = Table::load(place, name, Some(*first), &[]).await
    {
        rows.extend(table.files.into_iter().filter_map(|file| Some((file.path, file.stats.num_records?))));
    }
    Ok(commits.into_iter().map(|(version, actions)| told(version, &actions, &mut rows)).collect())
}

/// Every commit that a table's log still has.
pub(super) async fn commits(place: &Place, table: &str) -> Result<BTreeMap<u64, Vec<Value>>> {
    let log = format!("{table}/_delta_log");
    let version = |name: &str| name.strip_suffix(".json").filter(|name| name.len() == 20)?.parse::<u64>().ok();
    let names: Vec<u64> = place.list(&log).await?.iter().filter_map(|(name, _)| version(name)).collect();
    let read = names.into_iter().map(|version| {
        let name = format!("{log}/{version:020}.json");
        async move {
            let Some((text, _)) = place.read(&name).await? else { return Ok(None) };
            let actions: std::result::Result<Vec<Value>, _> =
                text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(serde_json::from_slice).collect();
            let actions = actions.map_err(|e| {
                let message = format!("{} is no commit: {e}; `hitherto lake verify` tells what can still be read", place.shown_in(&name));
                ExportError::new(ExportErrorKind::Lake, message)
            })?;
            Ok(Some((version, actions)))
        }
    });
    let read: Vec<_> = futures_util::stream::iter(read).buffer_unordered(AT_ONCE).try_collect().await?;
    Ok(read.into_iter().flatten().collect())
}

/// What a commit did; `rows` are those of each file known so far.
fn told(version: u64, actions: &[Value], rows: &mut HashMap<String, u64>) -> Version {
    let mut told = Version {
        version,
        at: None,
        operation: String::new(),
        files_added: 0,
        files_removed: 0,
        rows_added: Some(0),
        rows_removed: Some(0),
        bytes_added: 0,
        watermark: None,
        server: None,
        instant: None,
    };
    let count = |stats: &Value| {
        let stats: Value = serde_json::from_str(stats.as_str()?).ok()?;
        stats["numRecords"].as_u64()
    };
    for action in actions {
        if let Some(add) = action.get("add") {
            told.files_added += 1;
            told.bytes_added += add["size"].as_u64().unwrap_or_default();
            let found = count(&add["stats"]);
            told.rows_added = told.rows_added.zip(found).map(|(sum, rows)| sum + rows);
            rows.extend(found.map(|found| (path(add), found)));
        } else if let Some(remove) = action.get("remove") {
            told.files_removed += 1;
            let found = count(&remove["stats"]).or_else(|| rows.get(&path(remove)).copied());
            told.rows_removed = told.rows_removed.zip(found).map(|(sum, rows)| sum + rows);
        } else if let Some(info) = action.get("commitInfo") {
            told.at = committed_at(actions).and_then(DateTime::from_timestamp_millis);
            info["operation"].as_str().unwrap_or("?").clone_into(&mut told.operation);
        } else if let Some(txn) = action.get("txn")
            && let Some(Note::Watermark(server)) = txn["appId"].as_str().map(watermark::note)
        {
            told.watermark = txn["version"].as_i64();
            told.server = Some(server.to_owned());
        }
    }
    told
}

/// When a commit was made, in milliseconds.
pub(super) fn committed_at(actions: &[Value]) -> Option<i64> {
    actions.iter().find_map(|action| action["commitInfo"]["timestamp"].as_i64())
}

/// The file that an action adds or removes. A path in the log is a URL's.
pub(super) fn path(action: &Value) -> String {
    let path = action["path"].as_str().unwrap_or_default();
    Path::from_url_path(path).map_or_else(|_| path.to_owned(), |path| path.to_string())
}

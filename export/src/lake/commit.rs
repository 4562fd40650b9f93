//! The commit that shows a dataset's files.

use std::fs;

use chrono::{NaiveDate, Utc};
use deltalake_core::kernel::transaction::{CommitBuilder, TableReference};
use deltalake_core::kernel::{
    Action, MetadataExt, Protocol, Remove, StructField, StructType, Transaction, contains_timestampntz, new_metadata,
};
use deltalake_core::protocol::{DeltaOperation, SaveMode, checkpoints};
use deltalake_core::{DeltaTable, DeltaTableError};
use serde_json::json;

use super::DAY;
use super::draft::Draft;
use super::held::Held;
use super::leftover::Files;
use super::plan::Take;
use super::store::draft_name;
use super::table::{SORT, TIME};
use crate::dataset::{Exported, Mode};
use crate::error::{ExportError, ExportErrorKind, Result};
use crate::fault;
use crate::place::Place;

/// A checkpoint spares readers what was committed before it.
const CHECKPOINT_EVERY: u64 = 20;

impl Draft {
    /// Makes sure that the log can be written to, before any table's is.
    pub(super) fn try_log(&self) -> Result<()> {
        if self.plan.mode == Mode::Unchanged {
            return Ok(());
        }
        let Some(root) = self.place.folder() else { return Ok(()) };
        let table = root.join(&self.plan.dataset.name);
        let log = table.join("_delta_log");
        let folder = if log.exists() { log } else { table };
        let doing = format!("committing to {}", folder.display());
        let probe = folder.join(draft_name());
        fs::create_dir_all(&folder)
            .and_then(|()| fs::write(&probe, ""))
            .and_then(|()| fs::remove_file(&probe))
            .map_err(|e| ExportError::lake(&doing, e))
    }

    fn shown(&self) -> String {
        self.place.shown_in(&self.plan.dataset.name)
    }

    /// Shows the files, and takes away those that they replace. Where nothing changed there is nothing to commit.
    pub(super) async fn commit(self, files: &mut Files) -> Result<Exported> {
        let shown = |version| Exported {
            dataset: self.plan.dataset.name.clone(),
            rows: self.rows(),
            bytes: self.parts.iter().map(|part| u64::try_from(part.add.size).unwrap_or_default()).sum(),
            files: self.parts.len() as u64,
            days: self.parts.iter().filter(|part| part.day.is_some()).count() as u64,
            days_kept: self.plan.days_kept(),
            mode: self.plan.mode,
            reason: self.plan.reason.clone(),
            why: self.plan.whys(),
            version: Some(version),
            watermark: self.plan.watermark(),
            seconds: self.began.elapsed().as_secs_f64(),
            path: self.shown(),
        };
        if let (Mode::Unchanged, Some(held)) = (self.plan.mode, &self.plan.held) {
            return Ok(shown(held.version));
        }
        let doing = format!("committing to {}", self.shown());
        let went_through = |held: &Held| {
            self.plan.held.as_ref().is_none_or(|before| held.version > before.version)
                && self.parts.first().is_none_or(|part| held.days.values().flatten().any(|file| file.remove.path == part.add.path))
        };
        let version = match self.send().await {
            Ok(version) => version,
            Err(e) => match Held::load(&self.place, &self.plan.dataset.name).await {
                // Its answer was an error, yet it is there.
                Ok(Some(held)) if !self.parts.is_empty() && went_through(&held) => {
                    tracing::warn!("{doing}: it went through, though with an error: {e}");
                    held.version
                }
                held => {
                    let error = told(&doing, e);
                    files.unless_refused(&error, held.is_ok());
                    return Err(error);
                }
            },
        };
        files.published(|name| self.parts.iter().any(|part| part.name == name));
        checkpoint_if_due(&self.place, &self.plan.dataset.name, version).await;
        Ok(shown(version))
    }

    async fn send(&self) -> Result<u64, DeltaTableError> {
        let generic = |e: ExportError| DeltaTableError::Generic(e.to_string());
        let dataset = &self.plan.dataset;
        let partition: Vec<String> = self.plan.dataset.time_column.iter().map(|_| DAY.to_owned()).collect();
        let notes = self.plan.notes.iter().map(|(app, version)| Action::Txn(Transaction::new(app, *version)));
        let adds = self.parts.iter().map(|part| Action::Add(part.add.clone()));
        let (mut actions, table, operation): (Vec<Action>, DeltaTable, DeltaOperation) = match &self.plan.held {
            None => {
                let fields = self.plan.fields.clone().unwrap_or_default();
                let protocol = protocol(&fields)?;
                let schema = StructType::try_new(fields)?;
                let order: Vec<&str> = dataset.order().map(String::as_str).collect();
                let configuration = [("delta.checkpointInterval", CHECKPOINT_EVERY.to_string()), (SORT, order.join(","))]
                    .into_iter()
                    .chain(dataset.time_column.clone().map(|time| (TIME, time)));
                let metadata = new_metadata(&schema, partition, configuration)?.with_name(self.plan.dataset.name.clone())?;
                let location = self.place.table_url(&dataset.name).map_err(generic)?;
                let operation = DeltaOperation::Create {
                    mode: SaveMode::ErrorIfExists,
                    metadata: metadata.clone(),
                    location,
                    protocol: protocol.clone(),
                };
                (vec![Action::Protocol(protocol), Action::Metadata(metadata)], self.place.table(&dataset.name).map_err(generic)?, operation)
            }
            Some(held) => {
                let mut actions = Vec::new();
                if let Some(fields) = &self.plan.fields {
                    let state = held.table.snapshot()?;
                    if contains_timestampntz(fields.iter()) && !contains_timestampntz(state.schema().fields()) {
                        actions.push(Action::Protocol(protocol(fields)?));
                    }
                    actions.push(Action::Metadata(state.metadata().clone().with_schema(&StructType::try_new(fields.clone())?)?));
                }
                actions.extend(self.removed(held).into_iter().map(Action::Remove));
                let operation = DeltaOperation::Write { mode: SaveMode::Overwrite, partition_by: Some(partition), predicate: None };
                (actions, held.table.clone(), operation)
            }
        };
        actions.extend(adds);
        actions.extend(notes);
        let state = self.plan.held.as_ref().map(|_| table.snapshot()).transpose()?;
        // The plan was made for the version that it was made for: nobody else's changes are written over.
        let commit = CommitBuilder::default().with_max_retries(0).with_actions(actions).build(
            state.map(|state| state as &dyn TableReference),
            table.log_store(),
            operation,
        );
        Ok(commit.await?.version())
    }

    /// Files that what was read replaces.
    fn removed(&self, held: &Held) -> Vec<Remove> {
        let plan = &self.plan;
        let replaced = |day: &Option<NaiveDate>| match day {
            Some(day) => plan.gone.contains(day) || plan.days.get(day).is_some_and(|day| matches!(day.take, Take::Whole)),
            // Of a plain table.
            None => plan.dataset.time_column.is_none(),
        };
        let files = held.days.iter().filter(|(day, _)| replaced(day)).flat_map(|(_, files)| files);
        // From now on, not from when the plan was made.
        let now = Some(Utc::now().timestamp_millis());
        files.map(|file| Remove { deletion_timestamp: now, ..file.remove.clone() }).collect()
    }
}

/// Writes a checkpoint after every so many versions. Without it all is well, too.
pub(super) async fn checkpoint_if_due(place: &Place, table: &str, version: u64) {
    if (version + 1).is_multiple_of(CHECKPOINT_EVERY)
        && let Err(e) = checkpoint(place, table, version).await
    {
        tracing::warn!("version {version} of {} is there, but a checkpoint of it could not be written: {e}", place.shown_in(table));
    }
}

/// A checkpoint, and an end to log files that are a month old and older than one.
async fn checkpoint(place: &Place, table: &str, version: u64) -> Result<(), DeltaTableError> {
    fault::step(place.work())?;
    let mut table = place.table(table).map_err(|e| DeltaTableError::Generic(e.to_string()))?;
    table.load_version(version).await?;
    checkpoints::create_checkpoint(&table, None).await?;
    checkpoints::cleanup_metadata(&table, None).await.map(drop)
}

/// What readers and writers must know of.
fn protocol(fields: &[StructField]) -> Result<Protocol, DeltaTableError> {
    let protocol = if contains_timestampntz(fields.iter()) {
        json!({"minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": ["timestampNtz"], "writerFeatures": ["timestampNtz", "appendOnly", "invariants"]})
    } else {
        json!({"minReaderVersion": 1, "minWriterVersion": 2})
    };
    Ok(serde_json::from_value(protocol)?)
}

pub(super) fn told(doing: &str, error: DeltaTableError) -> ExportError {
    match error {
        DeltaTableError::Transaction { .. } | DeltaTableError::VersionAlreadyExists(_) if !storage(&error) => ExportError::new(
            ExportErrorKind::Conflict,
            format!("{doing}: somebody else changed the table meanwhile ({error}); run the export again"),
        ),
        error => ExportError::lake(doing, error),
    }
}

/// Whether it was the disk that failed.
fn storage(error: &DeltaTableError) -> bool {
    let mut cause = Some(error as &dyn std::error::Error);
    while let Some(error) = cause {
        if error.is::<object_store::Error>() || error.is::<std::io::Error>() {
            return true;
        }
        cause = error.source();
    }
    false
}

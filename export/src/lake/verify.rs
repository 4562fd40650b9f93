//! Whether a lake is what its logs say.

use std::collections::{BTreeSet, HashMap};

use arrow::array::{Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema};
use chrono::{NaiveDate, NaiveTime};
use futures_util::{StreamExt, TryStreamExt};
use parquet::arrow::ParquetRecordBatchStreamBuilder;
use serde::Serialize;

use super::bound::{above, below};
use super::object::Object;
use super::table::{DataFile, Table};
use super::{stats, versions};
use crate::dataset::{Dataset, Mode, Planned, Progress, Why};
use crate::error::{ExportError, ExportErrorKind, Result};
use crate::place::{AT_ONCE, Place};
use crate::snapshot::OnProgress;

/// What to look at.
#[derive(Debug, Clone, Default)]
pub struct VerifyOptions {
    /// Datasets; all without any.
    pub datasets: Vec<String>,
    /// This version of the one dataset, not the newest.
    pub version: Option<u64>,
    /// Read every value, too.
    pub deep: bool,
}

/// What was looked at, and what is wrong with it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Verified {
    /// Each table.
    pub datasets: Vec<VerifiedTable>,
    /// What is wrong; nothing if this is empty.
    pub findings: Vec<Finding>,
}

/// A table that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VerifiedTable {
    /// The dataset.
    pub dataset: String,
    /// The version.
    pub version: u64,
    /// Its files.
    pub files: u64,
    /// Its days; 0 for a plain table.
    pub days: u64,
    /// Its rows, as the log has them.
    pub rows: u64,
    /// Bytes of its files, as the log has them.
    pub bytes: u64,
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The dataset.
    pub dataset: String,
    /// The file, where it is one's.
    pub file: Option<String>,
    /// What it is.
    pub what: String,
}

/// Looks at every file that the newest versions of a lake's tables name, or another version of one: whether it is
/// there, has its size, is Parquet of the table's columns, holds as many rows as the log says, between the bounds that
/// the log gives, of the day that it is filed under; with [`VerifyOptions::deep`], every value is read and compared
/// with those bounds. `datasets` tell the time column of tables whose log doesn't.
///
/// # Errors
/// See [`crate::ExportErrorKind`]: no lake there, no such dataset or version, the lake out of reach. What
/// is wrong with the lake is no error.
pub async fn verify_lake(lake: &str, datasets: &[Dataset], options: &VerifyOptions, progress: OnProgress<'_>) -> Result<Verified> {
    let place = Place::new(lake)?;
    super::folder::must_be_lake(&place).await?;
    let names = place.tables(&options.datasets).await?;
    if options.version.is_some() && options.datasets.len() != 1 {
        return Err(ExportError::new(ExportErrorKind::Config, "versions are counted by dataset; name the one that is meant"));
    }
    let mut verified = Verified::default();
    let instants = match versions::read(&place).await {
        Ok(instants) => instants,
        Err(e) if e.kind() == ExportErrorKind::Lake => {
            verified.findings.push(Finding { dataset: String::new(), file: Some(versions::SNAPSHOT.to_owned()), what: e.to_string() });
            HashMap::new()
        }
        Err(e) => return Err(e),
    };
    for name in names {
        let table = match Table::load(&place, &name, options.version, datasets).await {
            Ok(table) => table,
            Err(e) if e.kind() == ExportErrorKind::Lake && options.version.is_none() => {
                verified.findings.push(Finding { dataset: name, file: None, what: e.to_string() });
                continue;
            }
            Err(e) => return Err(e),
        };
        if let Some(noted) = instants.get(&name).filter(|noted| options.version.is_none() && noted.version > table.version) {
            let what = format!("{} names version {}, but the newest is {}", versions::SNAPSHOT, noted.version, table.version);
            verified.findings.push(Finding { dataset: name.clone(), file: None, what });
        }
        verified.findings.extend(files(&place, &table, options.deep, progress).await?);
        let mut days: Vec<_> = table.files.iter().filter_map(|file| file.day).collect();
        days.dedup();
        verified.datasets.push(VerifiedTable {
            dataset: name,
            version: table.version,
            files: table.files.len() as u64,
            days: days.len() as u64,
            rows: table.files.iter().filter_map(|file| file.stats.num_records).sum(),
            bytes: table.files.iter().map(|file| file.size).sum(),
        });
    }
    Ok(verified)
}

/// What the lake has of each day against what the ledger tells of it: `all` is what an export in full would write, planned before
/// `fresh`, what the next export writes anyway. What the lake does not have yet is no finding.
pub fn compare_with_ledger(all: &[Planned], fresh: &[Planned]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for dataset in all {
        // Where all is written anew, that tells nothing of single days.
        let fresh = fresh.iter().filter(|other| other.dataset == dataset.dataset && other.mode == Mode::Incremental);
        let fresh = fresh.flat_map(|other| &other.days);
        let fresh: BTreeSet<NaiveDate> = fresh.map(|planned| planned.day).collect();
        // What would be added is not what is there.
        for day in dataset.days.iter().filter(|planned| planned.why != Why::Added && !fresh.contains(&planned.day)) {
            let (least, most) = day.rows;
            if day.held < least || day.held > most {
                let owed = if least == most { least.to_string() } else { format!("{least} to {most}") };
                let what = format!("{}: the ledger tells of {owed} rows, the lake has {}", day.day, day.held);
                findings.push(Finding { dataset: dataset.dataset.clone(), file: None, what });
            }
        }
    }
    findings
}

async fn files(place: &Place, table: &Table, deep: bool, progress: OnProgress<'_>) -> Result<Vec<Finding>> {
    let there: HashMap<String, u64> = place.list(&table.name).await?.into_iter().map(|(name, meta)| (name, meta.size)).collect();
    let (mut findings, mut rows, mut bytes, mut done) = (Vec::new(), 0, 0, 0);
    let total = Some(table.files.iter().filter_map(|file| file.stats.num_records).sum());
    let looks = table.files.iter().map(|file| {
        let there = there.get(&file.path).copied();
        async move { (file, look(place, table, file, there, deep).await) }
    });
    let mut looks = futures_util::stream::iter(looks).buffered(if deep { 2 } else { AT_ONCE });
    while let Some((file, wrong)) = looks.next().await {
        let finding = |what| Finding { dataset: table.name.clone(), file: Some(file.path.clone()), what };
        findings.extend(wrong?.into_iter().map(finding));
        rows += file.stats.num_records.unwrap_or_default();
        bytes += file.size;
        done += 1;
        let total_days = table.files.len() as u64;
        progress(Progress { dataset: &table.name, day: file.day, rows, total_rows: total, bytes, days: done, total_days });
    }
    Ok(findings)
}

/// What is wrong with a file; an error where it can't be found out.
async fn look(place: &Place, table: &Table, file: &DataFile, there: Option<u64>, deep: bool) -> Result<Vec<String>> {
    match there {
        None => return Ok(vec!["it is missing".to_owned()]),
        Some(size) if size != file.size => return Ok(vec![format!("it has {size} bytes, the log says {}", file.size)]),
        Some(_) => {}
    }
    let path = place.path(&format!("{}/{}", table.name, file.path));
    let reader = Object { store: place.store().clone(), path, size: file.size };
    let builder = match ParquetRecordBatchStreamBuilder::new(reader).await {
        Ok(builder) => builder,
        Err(e) => return unreadable(place, table, file, e).map(|what| vec![what]),
    };
    let mut wrong = Vec::new();
    let metadata = builder.metadata().clone();
    let rows = u64::try_from(metadata.file_metadata().num_rows()).unwrap_or_default();
    match file.stats.num_records {
        Some(said) if said != rows => wrong.push(format!("it has {rows} rows, the log says {said}")),
        Some(_) => {}
        None => wrong.push("the log doesn't say how many rows it has".to_owned()),
    }
    let schema = builder.schema().clone();
    wrong.extend(misfits(table, &schema));
    let plain = Schema::new(schema.fields().iter().map(|field| stats::plain(field)).collect::<Vec<_>>());
    for field in schema.fields() {
        match stats::bounds(&metadata, &plain, field.name(), false) {
            Ok((least, most)) => wrong.extend(outside(file, field.name(), least.as_deref(), most.as_deref())),
            Err(e) => wrong.push(format!("the statistics of its column {}: {e}", field.name())),
        }
    }
    if let (Some(time), Some(day)) = (&table.time, file.day)
        && plain.field_with_name(time).is_ok()
        && let Ok(converter) =
            parquet::arrow::arrow_reader::statistics::StatisticsConverter::try_new(time, &plain, metadata.file_metadata().schema_descr())
        && let (Ok(least), Ok(most)) =
            (converter.row_group_mins(metadata.row_groups().iter()), converter.row_group_maxes(metadata.row_groups().iter()))
    {
        wrong.extend(other_day(day, time, least.as_ref()).or_else(|| other_day(day, time, most.as_ref())));
    }
    if !deep || !wrong.is_empty() {
        return Ok(wrong);
    }
    let mut seen = Seen { rows: 0, nulls: HashMap::new(), wrong };
    let mut batches = match builder.build() {
        Ok(batches) => batches,
        Err(e) => return unreadable(place, table, file, e).map(|what| vec![what]),
    };
    loop {
        match batches.try_next().await {
            Ok(Some(batch)) => seen.note(table, file, &batch),
            Ok(None) => break,
            Err(e) => {
                seen.wrong.push(unreadable(place, table, file, e)?);
                return Ok(seen.wrong);
            }
        }
    }
    if seen.rows != rows {
        seen.wrong.push(format!("{} of its {rows} rows can be read", seen.rows));
    }
    for (column, said) in &file.stats.null_count {
        let nulls = seen.nulls.get(column).copied().unwrap_or(if schema.field_with_name(column).is_ok() { 0 } else { rows });
        if said.get().parse() != Ok(nulls) {
            seen.wrong.push(format!("its column {column} has {nulls} NULLs, the log says {}", said.get()));
        }
    }
    Ok(seen.wrong)
}

/// What was read of a file.
struct Seen {
    rows: u64,
    nulls: HashMap<String, u64>,
    wrong: Vec<String>,
}

impl Seen {
    fn note(&mut self, table: &Table, file: &DataFile, batch: &RecordBatch) {
        self.rows += batch.num_rows() as u64;
        for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
            *self.nulls.entry(field.name().clone()).or_default() += column.null_count() as u64;
            let Ok(column) = arrow::compute::cast(column, stats::plain(field).data_type()) else { continue };
            if self.wrong.is_empty() {
                let (least, most) = stats::render(&column, &column);
                self.wrong.extend(outside(file, field.name(), least.as_deref(), most.as_deref()));
            }
            if let Some(day) = file.day.filter(|_| table.time.as_ref() == Some(field.name()) && self.wrong.is_empty()) {
                self.wrong.extend(other_day(day, field.name(), column.as_ref()));
            }
        }
    }
}

/// Parquet that can't be read is a finding, a store that doesn't answer is none.
fn unreadable(place: &Place, table: &Table, file: &DataFile, error: parquet::errors::ParquetError) -> Result<String> {
    let words = format!("it can't be read as Parquet: {error}");
    let error = ExportError::lake(&format!("reading {}", place.shown_in(&format!("{}/{}", table.name, file.path))), error);
    if matches!(error.kind(), ExportErrorKind::Unreachable | ExportErrorKind::Denied) { Err(error) } else { Ok(words) }
}

/// Columns that are not as the table has them.
fn misfits(table: &Table, schema: &Schema) -> Vec<String> {
    let mut wrong = Vec::new();
    for wanted in table.schema.fields() {
        match schema.field_with_name(wanted.name()) {
            Ok(found) if !same(found, wanted) => {
                let (found, wanted_type) = (stats::plain(found), wanted.data_type());
                wrong.push(format!("its column {} is {}, the table's is {wanted_type}", wanted.name(), found.data_type()));
            }
            Ok(_) => {}
            // Files from before the column was added.
            Err(_) if wanted.is_nullable() => {}
            Err(_) => wrong.push(format!("it has no column {}", wanted.name())),
        }
    }
    let stray = schema.fields().iter().filter(|field| table.schema.field_with_name(field.name()).is_err());
    wrong.extend(stray.map(|field| format!("the table has no column {}", field.name())));
    wrong
}

/// Whether a file's column is the table's, which knows fewer kinds.
fn same(found: &Field, wanted: &Field) -> bool {
    alike(stats::plain(found).data_type(), wanted.data_type())
}

fn alike(found: &DataType, wanted: &DataType) -> bool {
    use DataType::{Binary, BinaryView, FixedSizeBinary, LargeBinary, LargeList, LargeUtf8, List, Map, Struct, Timestamp, Utf8, Utf8View};
    match (found, wanted) {
        (Utf8 | LargeUtf8 | Utf8View, Utf8 | LargeUtf8 | Utf8View) => true,
        (Binary | LargeBinary | BinaryView | FixedSizeBinary(_), Binary | LargeBinary | BinaryView | FixedSizeBinary(_)) => true,
        (Timestamp(_, a), Timestamp(_, b)) => a.is_some() == b.is_some(),
        (List(a) | LargeList(a), List(b) | LargeList(b)) | (Map(a, _), Map(b, _)) => same(a, b),
        (Struct(a), Struct(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.name() == b.name() && same(a, b)),
        (found, wanted) => found == wanted,
    }
}

/// A column whose values, or bounds of them, lie outside those in the log.
fn outside(file: &DataFile, column: &str, least: Option<&str>, most: Option<&str>) -> Option<String> {
    let stats = &file.stats;
    if let (Some(least), Some(said)) = (least, stats.min_values.get(column))
        && below(least, said.get())
    {
        return Some(format!("its column {column} goes down to {least}, the log says {said}"));
    }
    if let (Some(most), Some(said)) = (most, stats.max_values.get(column))
        && above(most, said.get())
    {
        return Some(format!("its column {column} goes up to {most}, the log says {said}"));
    }
    None
}

/// Times that are not of a day.
fn other_day(day: NaiveDate, column: &str, times: &dyn Array) -> Option<String> {
    use arrow::array::AsArray;
    use arrow::datatypes::TimestampMicrosecondType;
    let times = times.as_primitive_opt::<TimestampMicrosecondType>()?;
    let start = day.and_time(NaiveTime::MIN).and_utc().timestamp_micros();
    let stray = times.iter().flatten().find(|time| !(start..start + 86_400_000_000).contains(time))?;
    let stray = chrono::DateTime::from_timestamp_micros(stray).map_or_else(|| stray.to_string(), |time| time.to_rfc3339());
    Some(format!("it holds a row of {stray} by its column {column}, but is filed under the day {day}"))
}

//! What the Delta log says of a data file's values, so that readers can pass over the file: taken from
//! the file's own footer.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::{max, max_string, min, min_string};
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Date32Type, Decimal128Type, Field, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type, Schema,
    TimeUnit, TimestampMicrosecondType,
};
use chrono::{DateTime, Datelike, NaiveDate, Utc};
use parquet::arrow::arrow_reader::statistics::StatisticsConverter;
use parquet::errors::ParquetError;
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::error::{ExportError, Result};
use crate::parquet_file::Written;

/// Columns that get bounds, as many as other writers of Delta tables give.
const INDEXED: usize = 32;
/// Characters of a text that a bound keeps.
const TEXT_CHARS: usize = 32;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Statistics<'a> {
    num_records: u64,
    null_count: BTreeMap<&'a str, u64>,
    min_values: BTreeMap<&'a str, Box<RawValue>>,
    max_values: BTreeMap<&'a str, Box<RawValue>>,
}

/// The statistics of a file that was just written, as the log has them: JSON.
pub(super) fn of_file(file: &Path, fields: &[Arc<Field>], written: &Written) -> Result<String> {
    let doing = format!("reading the footer of {}", file.display());
    let open = File::open(file).map_err(|e| ExportError::lake(&doing, e))?;
    let metadata = ParquetMetaDataReader::new().parse_and_finish(&open).map_err(|e| ExportError::lake(&doing, e))?;
    let mut statistics = Statistics {
        num_records: written.rows,
        null_count: fields
            .iter()
            .zip(&written.nulls)
            // Those of a struct the log counts field by field.
            .filter(|(field, _)| !matches!(field.data_type(), DataType::Struct(_)))
            .map(|(field, nulls)| (field.name().as_str(), *nulls))
            .collect(),
        min_values: BTreeMap::new(),
        max_values: BTreeMap::new(),
    };
    let schema = Schema::new(fields.iter().map(|field| plain(field)).collect::<Vec<_>>());
    for (at, field) in fields.iter().enumerate().take(INDEXED) {
        let (least, most) = bounds(&metadata, &schema, field.name(), written.nans.at(at)).map_err(|e| ExportError::lake(&doing, e))?;
        let raw = |text: Option<String>| text.and_then(|text| RawValue::from_string(text).ok());
        statistics.min_values.extend(raw(least).map(|value| (field.name().as_str(), value)));
        statistics.max_values.extend(raw(most).map(|value| (field.name().as_str(), value)));
    }
    serde_json::to_string(&statistics).map_err(|e| ExportError::lake(&doing, e))
}

/// A dictionary's values have bounds as any text's.
pub(super) fn plain(field: &Field) -> Field {
    match field.data_type() {
        DataType::Dictionary(_, values) => field.clone().with_data_type(values.as_ref().clone()),
        _ => field.clone(),
    }
}

/// A column's least and largest value, or bounds beyond them, as JSON; `None` where there is none to be had.
pub(super) fn bounds(
    metadata: &ParquetMetaData,
    schema: &Schema,
    name: &str,
    nans: bool,
) -> Result<(Option<String>, Option<String>), ParquetError> {
    let groups = || metadata.row_groups().iter();
    let bounded = |t: &DataType| {
        matches!(
            t,
            DataType::Int16
                | DataType::Int32
                | DataType::Int64
                | DataType::Float32
                | DataType::Float64
                | DataType::Decimal128(..)
                | DataType::Date32
                | DataType::Timestamp(TimeUnit::Microsecond, _)
                | DataType::Utf8
        )
    };
    if !schema.field_with_name(name).is_ok_and(|field| bounded(field.data_type())) {
        return Ok((None, None));
    }
    let converter = StatisticsConverter::try_new(name, schema, metadata.file_metadata().schema_descr())?;
    let (least, most) = (converter.row_group_mins(groups())?, converter.row_group_maxes(groups())?);
    let nulls = converter.row_group_null_counts(groups())?;
    // Without bounds, a row group must hold NULLs alone.
    let known = groups().enumerate().all(|(at, group)| {
        let empty = nulls.is_valid(at) && nulls.value(at) == u64::try_from(group.num_rows()).unwrap_or(u64::MAX);
        empty || least.is_valid(at) && most.is_valid(at)
    });
    if !known {
        return Ok((None, None));
    }
    let (least, most) = render(&least, &most);
    // NaN is larger than every number to those who sort it.
    Ok((least, most.filter(|_| !nans)))
}

pub(super) fn render(least: &ArrayRef, most: &ArrayRef) -> (Option<String>, Option<String>) {
    match least.data_type() {
        DataType::Int16 => both::<Int16Type>(least, most, |v| Some(v.to_string())),
        DataType::Int32 => both::<Int32Type>(least, most, |v| Some(v.to_string())),
        DataType::Int64 => both::<Int64Type>(least, most, |v| Some(v.to_string())),
        DataType::Float32 => both::<Float32Type>(least, most, |v| v.is_finite().then(|| format!("{v:?}"))),
        DataType::Float64 => both::<Float64Type>(least, most, |v| v.is_finite().then(|| format!("{v:?}"))),
        DataType::Decimal128(_, scale) => both::<Decimal128Type>(least, most, |v| Some(decimal(v, *scale))),
        DataType::Date32 => both::<Date32Type>(least, most, date),
        DataType::Timestamp(_, zone) => {
            let zone = zone.is_some();
            let least = min(least.as_primitive::<TimestampMicrosecondType>()).and_then(|v| instant(v.div_euclid(1_000), zone));
            let most = max(most.as_primitive::<TimestampMicrosecondType>())
                .and_then(|v| instant(v.div_euclid(1_000) + i64::from(v.rem_euclid(1_000) > 0), zone));
            (least, most)
        }
        DataType::Utf8 => {
            (min_string(least.as_string::<i32>()).and_then(text_below), max_string(most.as_string::<i32>()).and_then(text_above))
        }
        _ => (None, None),
    }
}

fn both<T: ArrowPrimitiveType>(
    least: &ArrayRef,
    most: &ArrayRef,
    words: impl Fn(T::Native) -> Option<String>,
) -> (Option<String>, Option<String>)
where
    T::Native: arrow::datatypes::ArrowNativeTypeOp,
{
    (min(least.as_primitive::<T>()).and_then(&words), max(most.as_primitive::<T>()).and_then(&words))
}

/// All digits, exact.
fn decimal(units: i128, scale: i8) -> String {
    let scale = usize::from(scale.unsigned_abs());
    let digits = format!("{:0>width$}", units.unsigned_abs(), width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    let sign = if units < 0 { "-" } else { "" };
    if fraction.is_empty() { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") }
}

/// Readers know the years 1 to 9999.
fn common(year: i32) -> bool {
    (1..=9_999).contains(&year)
}

fn date(days: i32) -> Option<String> {
    let date = NaiveDate::from_ymd_opt(1970, 1, 1)?.checked_add_signed(chrono::Duration::days(i64::from(days)))?;
    common(date.year()).then(|| format!("\"{date}\""))
}

/// Readers keep milliseconds: the caller rounds away from the values.
fn instant(millis: i64, zone: bool) -> Option<String> {
    let time = DateTime::<Utc>::from_timestamp_millis(millis).filter(|time| common(time.year()))?;
    Some(format!("\"{}{}\"", time.format("%Y-%m-%dT%H:%M:%S%.3f"), if zone { "Z" } else { "" }))
}

/// A text's beginning is no larger than it.
fn text_below(text: &str) -> Option<String> {
    serde_json::to_string(&text.chars().take(TEXT_CHARS).collect::<String>()).ok()
}

/// A text's beginning and the largest character there is are no smaller than it, unless it goes on with that one.
fn text_above(text: &str) -> Option<String> {
    let mut chars = text.chars();
    let mut bound: String = chars.by_ref().take(TEXT_CHARS).collect();
    match chars.next() {
        None => {}
        Some(char::MAX) => return None,
        Some(_) => bound.push(char::MAX),
    }
    serde_json::to_string(&bound).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_keep_every_digit() {
        for (units, scale, words) in [
            (0, 18, "0.000000000000000000"),
            (-1, 18, "-0.000000000000000001"),
            (12_345, 2, "123.45"),
            (-7, 0, "-7"),
            (i128::pow(10, 38) - 1, 18, "99999999999999999999.999999999999999999"),
        ] {
            assert_eq!(decimal(units, scale), words);
        }
    }

    #[test]
    fn bounds_of_texts_enclose_them() {
        let long = "ü".repeat(40);
        let plain = |json: String| serde_json::from_str::<String>(&json).unwrap();
        assert!(plain(text_below(&long).unwrap()) < long);
        assert!(plain(text_above(&long).unwrap()) > long);
        assert_eq!(plain(text_above("short \"quoted\"").unwrap()), "short \"quoted\"");
        let last = format!("{}{}{}", "a".repeat(TEXT_CHARS), char::MAX, char::MAX);
        assert_eq!(text_above(&last), None, "no bound is better than a wrong one");
    }

    #[test]
    fn times_are_rounded_away_from_the_values_and_left_out_where_readers_know_no_year() {
        let array = |micros: i64| -> ArrayRef {
            std::sync::Arc::new(arrow::array::TimestampMicrosecondArray::from(vec![micros]).with_timezone("UTC"))
        };
        let quoted = |words: &str| Some(format!("\"{words}\""));
        assert_eq!(render(&array(1_001), &array(1_001)), (quoted("1970-01-01T00:00:00.001Z"), quoted("1970-01-01T00:00:00.002Z")));
        assert_eq!(render(&array(-1), &array(-1_000)), (quoted("1969-12-31T23:59:59.999Z"), quoted("1969-12-31T23:59:59.999Z")));
        assert_eq!(render(&array(i64::MIN / 2), &array(253_402_300_799_999_999)), (None, None));
        assert_eq!(date(-719_163), None, "the year 0");
    }
}

//! Arrow values as PostgreSQL spells them.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type, Time64MicrosecondType,
    TimestampMicrosecondType,
};

/// A value's text; `None` for NULL. Floats are shown bit by bit.
pub(crate) fn show(array: &ArrayRef, row: usize) -> Option<String> {
    if array.is_null(row) {
        return None;
    }
    let within = |array: &ArrayRef, row: usize, null: &str| show(array, row).unwrap_or_else(|| null.to_owned());
    Some(match array.data_type() {
        DataType::Boolean => array.as_boolean().value(row).to_string(),
        DataType::Int16 => array.as_primitive::<Int16Type>().value(row).to_string(),
        DataType::Int32 => array.as_primitive::<Int32Type>().value(row).to_string(),
        DataType::Int64 => array.as_primitive::<Int64Type>().value(row).to_string(),
        DataType::Float32 => format!("{:08x}", array.as_primitive::<Float32Type>().value(row).to_bits()),
        DataType::Float64 => format!("{:016x}", array.as_primitive::<Float64Type>().value(row).to_bits()),
        DataType::Decimal128(..) => array.as_primitive::<Decimal128Type>().value_as_string(row),
        DataType::Utf8 => array.as_string::<i32>().value(row).to_owned(),
        DataType::Binary => array.as_binary::<i32>().value(row).iter().fold("\\x".to_owned(), |text, byte| format!("{text}{byte:02x}")),
        DataType::Dictionary(..) => {
            let words = array.as_dictionary::<Int32Type>();
            words.values().as_string::<i32>().value(words.key(row)?).to_owned()
        }
        DataType::Date32 => {
            let (date, era) = date(i64::from(array.as_primitive::<Date32Type>().value(row)));
            format!("{date}{era}")
        }
        DataType::Time64(_) => time(array.as_primitive::<Time64MicrosecondType>().value(row)),
        DataType::Timestamp(_, zone) => {
            let micros = array.as_primitive::<TimestampMicrosecondType>().value(row);
            let (date, era) = date(micros.div_euclid(DAY));
            format!("{date} {}{}{era}", time(micros.rem_euclid(DAY)), if zone.is_some() { "+00" } else { "" })
        }
        DataType::List(_) => {
            let list = array.as_list::<i32>().value(row);
            let elements: Vec<String> = (0..list.len()).map(|at| within(&list, at, "NULL")).collect();
            format!("{{{}}}", elements.join(","))
        }
        DataType::Struct(fields)
            if fields.iter().map(|f| f.name()).eq(["lower", "upper", "lower_inclusive", "upper_inclusive", "empty"]) =>
        {
            let part = |at: usize| array.as_struct().column(at);
            let flag = |at: usize| part(at).as_boolean().value(row);
            if flag(4) {
                return Some("empty".to_owned());
            }
            let (open, close) = (if flag(2) { '[' } else { '(' }, if flag(3) { ']' } else { ')' });
            format!("{open}{},{}{close}", within(part(0), row, ""), within(part(1), row, ""))
        }
        DataType::Struct(_) => {
            let parts: Vec<String> = array.as_struct().columns().iter().map(|part| within(part, row, "")).collect();
            format!("({})", parts.join(","))
        }
        other => panic!("no text for {other}"),
    })
}

const DAY: i64 = 86_400_000_000;

/// A day since 1970 in the proleptic Gregorian calendar, and its era. Counts years from March, 400 at a time.
fn date(days: i64) -> (String, &'static str) {
    let days = days + 719_468;
    let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, year) = if month < 10 { (month + 3, year + 400 * era) } else { (month - 9, year + 400 * era + 1) };
    let (year, era) = if year > 0 { (year, "") } else { (1 - year, " BC") };
    (format!("{year:04}-{month:02}-{day:02}"), era)
}

fn time(micros: i64) -> String {
    let (seconds, micros) = (micros / 1_000_000, micros % 1_000_000);
    let text = format!("{:02}:{:02}:{:02}.{micros:06}", seconds / 3600, seconds / 60 % 60, seconds % 60);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

//! How columns are laid out in a Parquet file, decided by its first rows.

use std::collections::HashSet;
use std::hash::Hash;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Decimal128Type, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type, Schema};
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::SortingColumn;
use parquet::file::properties::WriterProperties;
use parquet::schema::types::ColumnPath;

/// Level 1 loses a few percent of size against 3 and writes half as fast again.
const ZSTD_LEVEL: i32 = 1;
/// Rows that are looked at.
const SAMPLE: usize = 4_096;
/// With fewer values that come again among those, nothing is known of how many there are.
const FEW: usize = 16;
/// A dictionary larger than this is given up by the writer, amid the file.
const DICTIONARY: usize = 1 << 20;

/// How a column's values are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layout {
    /// Each distinct value once, and its number in each row.
    Dictionary,
    Plain,
    /// Differences from row to row.
    Delta,
}

/// Decides for a file that begins with these rows, sorted by the columns `sort`.
pub(crate) fn properties(batch: &RecordBatch, sort: &[usize]) -> Result<WriterProperties, ParquetError> {
    let schema = batch.schema();
    let mut builder = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(ZSTD_LEVEL)?))
        .set_max_row_group_row_count(None)
        .set_sorting_columns(sorting(&schema, sort))
        .set_created_by(concat!("hitherto-export ", env!("CARGO_PKG_VERSION")).to_owned());
    for (field, column) in schema.fields().iter().zip(batch.columns()) {
        let path = ColumnPath::new(vec![field.name().clone()]);
        let encoding = match layout(column) {
            Layout::Dictionary => continue,
            Layout::Plain => Encoding::PLAIN,
            Layout::Delta => Encoding::DELTA_BINARY_PACKED,
        };
        builder = builder.set_column_dictionary_enabled(path.clone(), false).set_column_encoding(path, encoding);
    }
    Ok(builder.build())
}

/// What the file says of its order: the columns up to the first that Parquet has no order for.
fn sorting(schema: &Schema, sort: &[usize]) -> Option<Vec<SortingColumn>> {
    // Columns are counted as Parquet does, where a list or a struct may be none or many.
    if schema.fields().iter().any(|f| f.data_type().is_nested() && !matches!(f.data_type(), DataType::Dictionary(..))) {
        return None;
    }
    let columns: Vec<SortingColumn> = sort
        .iter()
        .map_while(|at| i32::try_from(*at).ok())
        .map(|column_idx| SortingColumn { column_idx, descending: false, nulls_first: false })
        .collect();
    (!columns.is_empty()).then_some(columns)
}

fn layout(column: &ArrayRef) -> Layout {
    match column.data_type() {
        // Times mostly follow one another.
        DataType::Timestamp(..) => Layout::Delta,
        DataType::Int16 => fixed(column, column.as_primitive::<Int16Type>().values(), Layout::Delta),
        DataType::Int32 => fixed(column, column.as_primitive::<Int32Type>().values(), Layout::Delta),
        DataType::Int64 => fixed(column, column.as_primitive::<Int64Type>().values(), Layout::Delta),
        DataType::Float32 => {
            let values = column.as_primitive::<Float32Type>().values();
            choose(column, |row| values[row].to_bits(), size_of::<f32>(), Layout::Plain)
        }
        DataType::Float64 => {
            let values = column.as_primitive::<Float64Type>().values();
            choose(column, |row| values[row].to_bits(), size_of::<f64>(), Layout::Plain)
        }
        DataType::Decimal128(..) => fixed(column, column.as_primitive::<Decimal128Type>().values(), Layout::Plain),
        DataType::Utf8 => {
            let values = column.as_string::<i32>();
            let bytes = values.value_data().len() / values.len().max(1);
            choose(column, |row| values.value(row), bytes, Layout::Plain)
        }
        _ => Layout::Dictionary,
    }
}

fn fixed<T: Hash + Eq>(column: &ArrayRef, values: &[T], otherwise: Layout) -> Layout {
    choose(column, |row| &values[row], size_of::<T>(), otherwise)
}

/// A dictionary where a sample says that it takes less room: values of so many bytes, each once, and a number a row.
fn choose<V: Hash + Eq>(column: &ArrayRef, value: impl Fn(usize) -> V, bytes: usize, otherwise: Layout) -> Layout {
    let (mut seen, mut looked) = (HashSet::new(), 0usize);
    for row in sampled(column) {
        looked += 1;
        seen.insert(value(row));
    }
    let again = looked - seen.len();
    if seen.len() * 2 <= looked.max(2) {
        return Layout::Dictionary;
    }
    if again < FEW {
        return otherwise;
    }
    // As many as would have as many pairs alike among those looked at (the birthday problem).
    let distinct = (looked * looked / (2 * again)).min(column.len());
    let number = usize::BITS - distinct.leading_zeros();
    let (plain, coded) = (column.len() * bytes, distinct * bytes + column.len() * number as usize / 8);
    if distinct * bytes <= DICTIONARY && coded * 3 <= plain * 2 { Layout::Dictionary } else { otherwise }
}

/// Rows from all over the column that are not NULL.
fn sampled(column: &ArrayRef) -> impl Iterator<Item = usize> {
    let step = column.len().div_ceil(SAMPLE).max(1);
    (0..column.len()).step_by(step).filter(|row| column.is_valid(*row))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Float64Array, Int64Array, StringArray};

    use super::*;

    /// Numbers below `distinct`, in no order.
    fn numbers(rows: u64, distinct: u64) -> impl Iterator<Item = u64> {
        (0..rows).map(move |n| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 24) % distinct)
    }

    #[test]
    fn a_dictionary_is_taken_where_it_takes_less_room() {
        for (rows, distinct, expected) in [
            (0, 1, Layout::Dictionary),
            (10, 1_000_000, Layout::Plain),
            (100_000, 3, Layout::Dictionary),
            (100_000, 5_000, Layout::Dictionary),
            (100_000, 20_000, Layout::Dictionary),
            (100_000, 80_000, Layout::Plain),
            (100_000, u64::MAX, Layout::Plain),
            // Its writer would give it up.
            (2_000_000, 200_000, Layout::Plain),
        ] {
            let floats: ArrayRef = Arc::new(Float64Array::from_iter_values(numbers(rows, distinct).map(|n| n as f64 / 10.0)));
            assert_eq!(layout(&floats), expected, "{rows} rows of {distinct} numbers");
            let integers: ArrayRef = Arc::new(numbers(rows, distinct).map(|n| Some(n as i64)).collect::<Int64Array>());
            let other = if expected == Layout::Plain { Layout::Delta } else { expected };
            assert_eq!(layout(&integers), other, "{rows} rows of {distinct} integers");
        }
        let texts = |length: usize| -> ArrayRef {
            Arc::new(numbers(100_000, 20_000).map(|n| Some(format!("{n:0length$}"))).collect::<StringArray>())
        };
        assert_eq!((layout(&texts(20)), layout(&texts(200))), (Layout::Dictionary, Layout::Plain), "long ones fill it");
    }
}

//! The order of rows by some of their columns, found without comparing column by column where that can
//! be helped.

use std::cmp::Ordering;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, UInt32Array, make_comparator};
use arrow::compute::SortOptions;
use arrow::datatypes::{ArrowPrimitiveType, DataType, Date32Type, Int16Type, Int32Type, Int64Type, TimestampMicrosecondType};
use arrow::error::ArrowError;

/// Bits of a key that the columns share; the row's number takes the rest, so that equal rows stay in
/// the order that they came in.
const KEY_BITS: u32 = 96;

/// A column as numbers that sort as its values do.
struct Ordinals {
    of: Vec<u64>,
    /// Bits that they need.
    bits: u32,
    /// Equal numbers mean equal values.
    exact: bool,
}

/// Rows' numbers in the order of their columns `by`: smallest first, texts by their bytes, NULLs last.
/// `None` when they are in order already.
pub(crate) fn order(batch: &RecordBatch, by: &[usize]) -> Result<Option<UInt32Array>, ArrowError> {
    let mut keys = vec![0u128; batch.num_rows()];
    let (mut left, mut exact) = (KEY_BITS, true);
    for column in by {
        let Some(ordinals) = ordinals(batch.column(*column)) else {
            exact = false;
            break;
        };
        let bits = ordinals.bits.min(left);
        let cut = ordinals.bits - bits;
        for (key, ordinal) in keys.iter_mut().zip(&ordinals.of) {
            *key = *key << bits | u128::from(ordinal.unbounded_shr(cut));
        }
        left -= bits;
        // What comes after a column that is cut short has no say before its rest.
        if cut > 0 || !ordinals.exact {
            exact = false;
            break;
        }
    }
    for (row, key) in keys.iter_mut().enumerate() {
        *key = *key << 32 | row as u128;
    }
    if !keys.is_sorted() {
        keys.sort_unstable();
    } else if exact {
        return Ok(None);
    }
    let mut rows: Vec<u32> = keys.iter().map(|key| *key as u32).collect();
    if !exact {
        let compare = comparator(batch, by)?;
        let mut start = 0;
        for end in 1..=rows.len() {
            if end == rows.len() || keys[end] >> 32 != keys[start] >> 32 {
                rows[start..end].sort_by(|a, b| compare(*a as usize, *b as usize));
                start = end;
            }
        }
    }
    Ok(Some(UInt32Array::from(rows)))
}

fn comparator(batch: &RecordBatch, by: &[usize]) -> Result<impl Fn(usize, usize) -> Ordering, ArrowError> {
    let options = SortOptions { descending: false, nulls_first: false };
    let columns =
        by.iter().map(|column| make_comparator(batch.column(*column), batch.column(*column), options)).collect::<Result<Vec<_>, _>>()?;
    Ok(move |a, b| columns.iter().map(|compare| compare(a, b)).find(|o| o.is_ne()).unwrap_or(Ordering::Equal))
}

fn ordinals(array: &ArrayRef) -> Option<Ordinals> {
    match array.data_type() {
        DataType::Int16 => Some(numbers::<Int16Type>(array)),
        DataType::Int32 => Some(numbers::<Int32Type>(array)),
        DataType::Int64 => Some(numbers::<Int64Type>(array)),
        DataType::Date32 => Some(numbers::<Date32Type>(array)),
        DataType::Timestamp(arrow::datatypes::TimeUnit::Microsecond, _) => Some(numbers::<TimestampMicrosecondType>(array)),
        DataType::Utf8 => Some(texts(array)),
        DataType::Dictionary(key, value) if **key == DataType::Int32 && **value == DataType::Utf8 => Some(words(array)),
        _ => None,
    }
}

fn bits(largest: u64) -> u32 {
    u64::BITS - largest.leading_zeros()
}

/// Numbers from the smallest on; NULL is past the largest.
fn numbers<T: ArrowPrimitiveType<Native: Into<i64>>>(array: &ArrayRef) -> Ordinals {
    let array = array.as_primitive::<T>();
    let smallest = arrow::compute::min(array).map(Into::into).unwrap_or_default();
    let largest: i64 = arrow::compute::max(array).map(Into::into).unwrap_or_default();
    let span = largest.wrapping_sub(smallest) as u64;
    let null = span.checked_add(1);
    let of: Vec<u64> = if array.null_count() == 0 {
        array.values().iter().map(|v| (*v).into().wrapping_sub(smallest) as u64).collect()
    } else {
        let null = null.unwrap_or(u64::MAX);
        array.iter().map(|v| v.map_or(null, |v| v.into().wrapping_sub(smallest) as u64)).collect()
    };
    Ordinals { of, bits: bits(null.unwrap_or(u64::MAX)), exact: null.is_some() }
}

/// The first bytes in which any of the texts differ.
fn texts(array: &ArrayRef) -> Ordinals {
    let array = array.as_string::<i32>();
    let mut values = array.iter().flatten().map(str::as_bytes);
    let first = values.next().unwrap_or_default();
    let mut common = first.len();
    for value in values {
        let (head, other) = (&first[..common], &value[..common.min(value.len())]);
        if head != other {
            common = head.iter().zip(other).take_while(|(a, b)| a == b).count();
        }
    }
    let of = array
        .iter()
        .map(|value| {
            value.map_or(u64::MAX, |value| {
                let mut head = [0; 8];
                let tail = &value.as_bytes()[common..];
                let length = tail.len().min(8);
                head[..length].copy_from_slice(&tail[..length]);
                u64::from_be_bytes(head)
            })
        })
        .collect();
    Ordinals { of, bits: u64::BITS, exact: false }
}

/// The place of each word among all of them.
fn words(array: &ArrayRef) -> Ordinals {
    let array = array.as_dictionary::<Int32Type>();
    let words = array.values().as_string::<i32>();
    let mut sorted: Vec<usize> = (0..words.len()).collect();
    sorted.sort_unstable_by_key(|at| words.value(*at));
    let mut places = vec![0u64; words.len()];
    for (place, at) in sorted.into_iter().enumerate() {
        places[at] = place as u64;
    }
    let null = words.len() as u64;
    let of = array.keys().iter().map(|key| key.and_then(|key| places.get(key as usize).copied()).unwrap_or(null)).collect();
    Ordinals { of, bits: bits(null), exact: true }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{BooleanArray, DictionaryArray, Int64Array, StringArray};
    use arrow::compute::{LexicographicalComparator, SortColumn};
    use proptest::prelude::*;

    use super::*;

    /// One row: a word, a number, a text, a flag; any of them may be NULL.
    type Row = (Option<String>, Option<i64>, Option<String>, Option<bool>);

    fn batch(rows: &[Row]) -> RecordBatch {
        let words: DictionaryArray<Int32Type> = rows.iter().map(|r| r.0.as_deref()).collect();
        let numbers: Int64Array = rows.iter().map(|r| r.1).collect();
        let texts: StringArray = rows.iter().map(|r| r.2.as_deref()).collect();
        let flags: BooleanArray = rows.iter().map(|r| r.3).collect();
        RecordBatch::try_from_iter_with_nullable([
            ("word", Arc::new(words) as ArrayRef, true),
            ("number", Arc::new(numbers) as ArrayRef, true),
            ("text", Arc::new(texts) as ArrayRef, true),
            ("flag", Arc::new(flags) as ArrayRef, true),
        ])
        .unwrap()
    }

    proptest! {
        #[test]
        fn rows_are_ordered_as_by_comparing_each(
            rows in proptest::collection::vec((
                proptest::option::of("[ab]{0,2}"),
                proptest::option::of(prop_oneof![Just(i64::MIN), Just(i64::MAX), -2i64..2, any::<i64>()]),
                proptest::option::of("(same-)?[a-c]{0,10}"),
                proptest::option::of(any::<bool>()),
            ), 1..60),
            by in proptest::sample::subsequence(vec![0usize, 1, 2, 3], 0..=4).prop_shuffle(),
        ) {
            let batch = batch(&rows);
            let options = Some(SortOptions { descending: false, nulls_first: false });
            let columns: Vec<SortColumn> = by.iter().map(|c| SortColumn { values: batch.column(*c).clone(), options }).collect();
            let mut expected: Vec<u32> = (0..rows.len() as u32).collect();
            if !columns.is_empty() {
                let compare = LexicographicalComparator::try_new(&columns).unwrap();
                expected.sort_by(|a, b| compare.compare(*a as usize, *b as usize));
            }
            let found = order(&batch, &by).unwrap().map_or_else(|| (0..rows.len() as u32).collect(), |rows| rows.values().to_vec());
            prop_assert_eq!(found, expected);
        }
    }

    #[test]
    fn rows_in_order_are_left_alone() {
        let row = |n| (Some("a".to_owned()), Some(n), None, None);
        assert_eq!(order(&batch(&[row(1), row(2), row(2)]), &[0, 1]).unwrap(), None);
        assert_eq!(order(&batch(&[row(2), row(1)]), &[0, 1]).unwrap().unwrap().values(), &[1, 0]);
        assert_eq!(order(&batch(&[row(2), row(1)]), &[]).unwrap(), None);
    }
}

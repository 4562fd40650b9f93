//! Types that are made of others.

use arrow::datatypes::{Int32Type, Int64Type};

use super::*;

/// An array of one dimension, as array_send makes it.
fn array_of(element: &Type, first: i32, elements: &[Option<Vec<u8>>]) -> Vec<u8> {
    let has_nulls = elements.iter().any(Option::is_none);
    let dimensions = i32::from(!elements.is_empty());
    let mut out: Vec<u8> = [dimensions, i32::from(has_nulls), element.oid() as i32].iter().flat_map(|w| w.to_be_bytes()).collect();
    if dimensions == 1 {
        out.extend([elements.len() as i32, first].iter().flat_map(|w| w.to_be_bytes()));
    }
    elements.iter().for_each(|element| out.extend(framed(element.as_deref())));
    out
}

/// A range as range_send makes it; bounds are there or not, and included or not.
fn range_of(lower: Option<(i32, bool)>, upper: Option<(i32, bool)>) -> Vec<u8> {
    let bits = [lower.is_some_and(|(_, included)| included), upper.is_some_and(|(_, included)| included), lower.is_none(), upper.is_none()];
    let mut out = vec![bits.iter().enumerate().fold(0, |flags, (at, bit)| flags | u8::from(*bit) << (at + 1))];
    [lower, upper].into_iter().flatten().for_each(|(bound, _)| out.extend(framed(Some(&bound.to_be_bytes()))));
    out
}

/// A composite as record_send makes it.
fn composite_of(fields: &[(Type, Option<Vec<u8>>)]) -> Vec<u8> {
    let mut out = (fields.len() as i32).to_be_bytes().to_vec();
    for (type_, raw) in fields {
        out.extend(type_.oid().to_be_bytes());
        out.extend(framed(raw.as_deref()));
    }
    out
}

type Bound = Option<(i32, bool)>;

fn bound() -> impl Strategy<Value = Bound> {
    proptest::option::of((any::<i32>(), any::<bool>()))
}

proptest! {
    #[test]
    fn arrays(lists in proptest::collection::vec(proptest::option::weighted(0.8, proptest::collection::vec(proptest::option::of(any::<i32>()), 0..5)), 0..8)) {
        let elements = |list: &Vec<Option<i32>>| list.iter().map(|v| v.map(|v| v.to_be_bytes().to_vec())).collect::<Vec<_>>();
        let raws: Vec<_> = lists.iter().map(|list| list.as_ref().map(|list| array_of(&Type::INT4, 1, &elements(list)))).collect();
        let array = decode(&*mapping(&Type::INT4_ARRAY), &raws).unwrap();
        let read: Vec<Option<Vec<Option<i32>>>> =
            array.as_list::<i32>().iter().map(|list| list.map(|list| list.as_primitive::<Int32Type>().iter().collect())).collect();
        prop_assert_eq!(read, lists);
    }

    #[test]
    fn ranges_and_multiranges(ranges in proptest::collection::vec(proptest::option::weighted(0.8, (bound(), bound())), 0..8)) {
        let raw = |(lower, upper): &(Bound, Bound)| range_of(*lower, *upper);
        let raws: Vec<_> = ranges.iter().map(|range| range.as_ref().map(raw)).collect();
        let array = decode(&*mapping(&Type::INT4_RANGE), &raws).unwrap();
        prop_assert_eq!(bounds(&array), ranges.clone());
        let there: Vec<_> = ranges.into_iter().flatten().collect();
        let mut multirange = (there.len() as i32).to_be_bytes().to_vec();
        there.iter().for_each(|range| multirange.extend(framed(Some(&raw(range)))));
        let array = decode(&*mapping(&Type::INT4MULTI_RANGE), &[Some(multirange)]).unwrap();
        prop_assert_eq!(bounds(&array.as_list::<i32>().value(0)), there.into_iter().map(Some).collect::<Vec<_>>());
    }

    #[test]
    fn composites(rows in proptest::collection::vec(proptest::option::weighted(0.8, (proptest::option::of(any::<i64>()), proptest::option::of("[a-z]{0,3}"))), 0..8)) {
        let inner = made("inner", Kind::Composite(vec![Field::new("word".to_owned(), Type::TEXT)]));
        let outer = made("outer", Kind::Composite(vec![Field::new("number".to_owned(), Type::INT8), Field::new("inner".to_owned(), inner.clone())]));
        let raws: Vec<_> = rows.iter().map(|row| row.as_ref().map(|(number, word)| {
            // The inner row is there, whether or not its word is.
            let inner_raw = composite_of(&[(Type::TEXT, word.as_ref().map(|w| w.as_bytes().to_vec()))]);
            composite_of(&[(Type::INT8, number.map(|n| n.to_be_bytes().to_vec())), (inner.clone(), Some(inner_raw))])
        })).collect();
        let array = decode(&*mapping(&outer), &raws).unwrap();
        let array = array.as_struct();
        let numbers = array.column(0).as_primitive::<Int64Type>();
        let inner = array.column(1).as_struct();
        let words = inner.column(0).as_string::<i32>();
        for (at, row) in rows.iter().enumerate() {
            prop_assert_eq!(array.is_valid(at), row.is_some());
            let Some((number, word)) = row else { continue };
            prop_assert_eq!(numbers.is_valid(at).then(|| numbers.value(at)), *number);
            prop_assert!(inner.is_valid(at));
            prop_assert_eq!(words.is_valid(at).then(|| words.value(at)), word.as_deref());
        }
    }

    #[test]
    fn intervals(values in proptest::collection::vec(proptest::option::of((any::<i32>(), any::<i32>(), any::<i64>())), 0..8)) {
        let raws: Vec<_> = values.iter().map(|value| {
            value.map(|(months, days, micros)| [&micros.to_be_bytes()[..], &days.to_be_bytes(), &months.to_be_bytes()].concat())
        }).collect();
        let array = decode(&*mapping(&Type::INTERVAL), &raws).unwrap();
        let array = array.as_struct();
        let (months, days) = (array.column(0).as_primitive::<Int32Type>(), array.column(1).as_primitive::<Int32Type>());
        let micros = array.column(2).as_primitive::<Int64Type>();
        let read: Vec<_> = (0..array.len()).map(|at| array.is_valid(at).then(|| (months.value(at), days.value(at), micros.value(at)))).collect();
        prop_assert_eq!(read, values);
    }
}

/// The ranges of an array, none of them empty.
fn bounds(array: &ArrayRef) -> Vec<Option<(Bound, Bound)>> {
    let array = array.as_struct();
    let bound = |number: usize, included: usize, at: usize| {
        let (bounds, included) = (array.column(number).as_primitive::<Int32Type>(), array.column(included).as_boolean());
        bounds.is_valid(at).then(|| (bounds.value(at), included.value(at)))
    };
    let empty = array.column(4).as_boolean();
    let range = |at| {
        assert!(!empty.value(at));
        (bound(0, 2, at), bound(1, 3, at))
    };
    (0..array.len()).map(|at| array.is_valid(at).then(|| range(at))).collect()
}

#[test]
fn an_empty_range_is_not_one_without_bounds() {
    let array = decode(&*mapping(&Type::INT4_RANGE), &[Some(vec![1]), Some(range_of(None, None)), None]).unwrap();
    let array = array.as_struct();
    assert_eq!(array.column(4).as_boolean().iter().collect::<Vec<_>>(), [Some(true), Some(false), None]);
    assert_eq!((array.column(0).null_count(), array.null_count()), (3, 1));
}

#[test]
fn arrays_that_are_no_lists_are_refused() {
    let one = Some(1i32.to_be_bytes().to_vec());
    let later = array_of(&Type::INT4, 0, std::slice::from_ref(&one));
    assert!(decode(&*mapping(&Type::INT4_ARRAY), &[Some(later)]).unwrap_err().why.contains("begins at [0]"));
    let mut square: Vec<u8> = [2, 0, 23, 1, 1, 1, 1].iter().flat_map(|w: &i32| w.to_be_bytes()).collect();
    square.extend(framed(one.as_deref()));
    assert!(decode(&*mapping(&Type::INT4_ARRAY), &[Some(square)]).unwrap_err().why.contains("2 dimensions"));
}

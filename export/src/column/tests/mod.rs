//! Every codec against random values in the server's binary form, and against garbage.

mod nested;
mod plain;

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use postgres_types::{Field, Kind, Type};
use proptest::prelude::*;

use super::codec::Mapping;
use super::{Modifiers, NumericAs, Place, Planner, RefusedRow};
use crate::fields::Fields;

/// A type's mapping, as in a flat file.
fn mapping(type_: &Type) -> Arc<dyn Mapping> {
    placed(type_, Place::File)
}

fn placed(type_: &Type, place: Place) -> Arc<dyn Mapping> {
    let numeric = Some(NumericAs::Decimal { precision: 38, scale: 18 });
    Planner { column: "x", modifiers: &Modifiers::default(), place, numeric }.plan(type_, -1).unwrap()
}

/// A type that somebody has made.
fn made(name: &str, kind: Kind) -> Type {
    Type::new(name.to_owned(), 100_000, kind, "public".to_owned())
}

/// A value as it stands within another: its length before it.
fn framed(raw: Option<&[u8]>) -> Vec<u8> {
    let mut out = raw.map_or(-1, |raw| raw.len() as i32).to_be_bytes().to_vec();
    out.extend(raw.unwrap_or_default());
    out
}

/// Decodes a column's fields: as a block, in two, and one by one, which all must come to the same.
fn decode(mapping: &dyn Mapping, raws: &[Option<Vec<u8>>]) -> Result<ArrayRef, RefusedRow> {
    let at_once = decode_blocks(mapping, &[raws]);
    let (head, tail) = raws.split_at(raws.len() / 2);
    if let Ok(whole) = &at_once {
        assert_eq!(whole.len(), raws.len());
        assert_eq!(whole.data_type(), &mapping.arrow());
        assert_eq!(&decode_blocks(mapping, &[head, tail]).unwrap(), whole);
        let mut codec = mapping.codec();
        // What was decoded before leaves no trace.
        codec.append_null();
        codec.finish().unwrap();
        for raw in raws {
            match raw {
                Some(raw) => codec.append(raw).unwrap(),
                None => codec.append_null(),
            }
        }
        assert_eq!(&codec.finish().unwrap(), whole);
    } else {
        decode_blocks(mapping, &[head, tail]).unwrap_err();
    }
    at_once
}

fn decode_blocks(mapping: &dyn Mapping, blocks: &[&[Option<Vec<u8>>]]) -> Result<ArrayRef, RefusedRow> {
    let mut codec = mapping.codec();
    for raws in blocks {
        let (mut data, mut begins) = (Vec::new(), Vec::new());
        for raw in *raws {
            begins.push(data.len() as u32);
            data.extend(framed(raw.as_deref()));
        }
        codec.append_column(&Fields::new(&data, &begins, 1, 0))?;
    }
    codec.finish().map_err(|why| RefusedRow { row: usize::MAX, why })
}

/// One value's text.
fn spelled(mapping: &dyn Mapping, raw: &[u8]) -> Result<String, String> {
    let array = decode(mapping, &[Some(raw.to_vec())]).map_err(|refused| refused.why)?;
    Ok(array.as_string::<i32>().value(0).to_owned())
}

/// Every type that has a mapping.
fn every_type() -> Vec<Type> {
    let mut types = vec![
        Type::BOOL,
        Type::INT2,
        Type::INT4,
        Type::INT8,
        Type::OID,
        Type::XID8,
        Type::FLOAT4,
        Type::FLOAT8,
        Type::NUMERIC,
        Type::TEXT,
        Type::VARCHAR,
        Type::BPCHAR,
        Type::NAME,
        Type::CHAR,
        Type::BYTEA,
        Type::DATE,
        Type::TIME,
        Type::TIMETZ,
        Type::TIMESTAMPTZ,
        Type::TIMESTAMP,
        Type::INTERVAL,
        Type::UUID,
        Type::JSON,
        Type::JSONB,
        Type::JSONPATH,
        Type::INET,
        Type::CIDR,
        Type::MACADDR,
        Type::MACADDR8,
        Type::BIT,
        Type::VARBIT,
        Type::PG_LSN,
        Type::INT4_RANGE,
        Type::NUM_RANGE,
        Type::TSTZ_RANGE,
        Type::DATE_RANGE,
        Type::INT8MULTI_RANGE,
        Type::TEXT_ARRAY,
        Type::NUMERIC_ARRAY,
        Type::INT4_RANGE_ARRAY,
        Type::INTERVAL_ARRAY,
        Type::BOOL_ARRAY,
    ];
    types.push(made("colour", Kind::Enum(vec!["red".to_owned()])));
    types.push(made("positive", Kind::Domain(Type::NUMERIC)));
    let fields = types.iter().enumerate().map(|(at, t)| Field::new(format!("f{at}"), t.clone())).collect();
    types.push(made("composite", Kind::Composite(fields)));
    types
}

proptest! {
    #[test]
    fn garbage_is_refused_and_no_panic(
        raws in proptest::collection::vec(proptest::option::weighted(0.9, proptest::collection::vec(
            // Small numbers, so that lengths and counts are believable now and then.
            prop_oneof![3 => Just(0u8), 2 => 0u8..9, 1 => any::<u8>()], 0..60)), 0..4),
    ) {
        for type_ in every_type() {
            for place in [Place::File, Place::Lake] {
                let mapping = placed(&type_, place);
                let _ = decode_blocks(&*mapping, &[&raws]);
                let _ = decode_blocks(&super::words::Words, &[&raws]);
            }
        }
    }
}

#[test]
fn nulls_alone_are_a_column_of_every_type() {
    for type_ in every_type() {
        for place in [Place::File, Place::Lake] {
            let mapping = placed(&type_, place);
            mapping.delta().unwrap();
            let array = decode(&*mapping, &[None, None, None]).unwrap();
            assert_eq!(array.null_count(), 3, "{type_}");
            assert_eq!(decode(&*mapping, &[]).unwrap().len(), 0, "{type_}");
        }
    }
}

#[test]
fn the_row_that_is_refused_is_told() {
    let good = Some(5i32.to_be_bytes().to_vec());
    let refused = decode(&*mapping(&Type::INT4), &[good.clone(), None, Some(vec![1]), good]).unwrap_err();
    assert_eq!(refused, RefusedRow { row: 2, why: "the server sent 1 bytes, not 4".to_owned() });
}

#[test]
fn what_has_no_place_is_refused_by_type() {
    let refuse = |type_: &Type| {
        let planner = Planner { column: "x", modifiers: &Modifiers::default(), place: Place::File, numeric: None };
        planner.plan(type_, -1).unwrap_err()
    };
    for type_ in [Type::MONEY, Type::POINT, Type::POLYGON, Type::TS_VECTOR, Type::TSQUERY, Type::XML, Type::REGCLASS, Type::POINT_ARRAY] {
        assert!(refuse(&type_).contains("in the query, write x::text"), "{type_}");
    }
    assert!(refuse(&Type::RECORD).contains("to_jsonb(x)"));
    assert!(refuse(&Type::NUMERIC).contains("--numeric x=38,18"));
    assert!(refuse(&made("empty", Kind::Composite(Vec::new()))).contains("type empty"));
    let nested = made("row", Kind::Composite(vec![Field::new("price".to_owned(), Type::NUM_RANGE)]));
    assert!(refuse(&nested).starts_with("its field price: numeric without precision"));
}

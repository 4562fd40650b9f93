//! Types of one value.

use arrow::datatypes::{
    Date32Type, Decimal128Type, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type, Time64MicrosecondType, TimestampMicrosecondType,
};
use chrono::{DateTime, Days, NaiveDate, NaiveDateTime, TimeDelta};

use super::*;

fn raws<T, const N: usize>(values: &[Option<T>], to_bytes: impl Fn(&T) -> [u8; N]) -> Vec<Option<Vec<u8>>> {
    values.iter().map(|value| value.as_ref().map(|value| to_bytes(value).to_vec())).collect()
}

fn some<T: std::fmt::Debug>(value: impl Strategy<Value = T>) -> impl Strategy<Value = Vec<Option<T>>> {
    proptest::collection::vec(proptest::option::weighted(0.8, value), 0..20)
}

fn millennium() -> NaiveDateTime {
    NaiveDate::from_ymd_opt(2000, 1, 1).unwrap().into()
}

proptest! {
    #[test]
    fn whole_numbers(
        two in some(any::<i16>()), four in some(any::<i32>()), eight in some(any::<i64>()), oid in some(any::<u32>()), xid in some(any::<u64>()),
    ) {
        let array = decode(&*mapping(&Type::INT2), &raws(&two, |v| v.to_be_bytes())).unwrap();
        prop_assert_eq!(array.as_primitive::<Int16Type>().iter().collect::<Vec<_>>(), two);
        let array = decode(&*mapping(&Type::INT4), &raws(&four, |v| v.to_be_bytes())).unwrap();
        prop_assert_eq!(array.as_primitive::<Int32Type>().iter().collect::<Vec<_>>(), four);
        let array = decode(&*mapping(&Type::INT8), &raws(&eight, |v| v.to_be_bytes())).unwrap();
        prop_assert_eq!(array.as_primitive::<Int64Type>().iter().collect::<Vec<_>>(), eight);
        let array = decode(&*mapping(&Type::OID), &raws(&oid, |v| v.to_be_bytes())).unwrap();
        prop_assert_eq!(array.as_primitive::<Int64Type>().iter().collect::<Vec<_>>(), oid.iter().map(|v| v.map(i64::from)).collect::<Vec<_>>());
        let first_too_large = xid.iter().position(|v| v.is_some_and(|v| v > i64::MAX as u64));
        match decode(&*mapping(&Type::XID8), &raws(&xid, |v| v.to_be_bytes())) {
            Ok(array) => {
                prop_assert_eq!(first_too_large, None);
                prop_assert_eq!(array.as_primitive::<Int64Type>().iter().map(|v| v.map(|v| v as u64)).collect::<Vec<_>>(), xid);
            }
            Err(refused) => prop_assert_eq!(Some(refused.row), first_too_large),
        }
    }

    #[test]
    fn floats_bit_by_bit(four in some(any::<u32>()), eight in some(any::<u64>())) {
        let array = decode_blocks(&*mapping(&Type::FLOAT4), &[&raws(&four, |v| v.to_be_bytes())]).unwrap();
        prop_assert_eq!(array.as_primitive::<Float32Type>().iter().map(|v| v.map(f32::to_bits)).collect::<Vec<_>>(), four);
        let array = decode_blocks(&*mapping(&Type::FLOAT8), &[&raws(&eight, |v| v.to_be_bytes())]).unwrap();
        prop_assert_eq!(array.as_primitive::<Float64Type>().iter().map(|v| v.map(f64::to_bits)).collect::<Vec<_>>(), eight);
    }

    #[test]
    fn texts_bytes_and_flags(values in some(".{0,12}"), flags in some(any::<bool>())) {
        let texts: Vec<Option<Vec<u8>>> = values.iter().map(|v| v.as_ref().map(|v| v.as_bytes().to_vec())).collect();
        for type_ in [Type::TEXT, Type::BPCHAR, Type::JSON] {
            let array = decode(&*mapping(&type_), &texts).unwrap();
            prop_assert_eq!(array.as_string::<i32>().iter().collect::<Vec<_>>(), values.iter().map(Option::as_deref).collect::<Vec<_>>());
        }
        let versioned: Vec<Option<Vec<u8>>> = texts.iter().map(|v| v.as_ref().map(|v| [&[1], &**v].concat())).collect();
        prop_assert_eq!(&decode(&*mapping(&Type::JSONB), &versioned).unwrap(), &decode(&*mapping(&Type::TEXT), &texts).unwrap());
        let words = decode(&super::super::words::Words, &texts).unwrap();
        prop_assert_eq!(
            words.as_dictionary::<Int32Type>().downcast_dict::<arrow::array::StringArray>().unwrap().into_iter().collect::<Vec<_>>(),
            values.iter().map(Option::as_deref).collect::<Vec<_>>()
        );
        let array = decode(&*mapping(&Type::BYTEA), &texts).unwrap();
        prop_assert_eq!(array.as_binary::<i32>().iter().collect::<Vec<_>>(), texts.iter().map(Option::as_deref).collect::<Vec<_>>());
        let array = decode(&*mapping(&Type::BOOL), &raws(&flags, |v| [u8::from(*v)])).unwrap();
        prop_assert_eq!(array.as_boolean().iter().collect::<Vec<_>>(), flags);
    }

    #[test]
    fn dates_and_times(days in some(-90_000_000i32..90_000_000), micros in some(-60_000_000_000_000_000i64..200_000_000_000_000_000)) {
        // As far as another library goes: past that it is the same sum.
        let array = decode(&*mapping(&Type::DATE), &raws(&days, |v| v.to_be_bytes())).unwrap();
        for (days, read) in days.iter().zip(array.as_primitive::<Date32Type>().iter()) {
            let date = |epoch: NaiveDateTime, days: i32| if days < 0 {
                epoch.date().checked_sub_days(Days::new(u64::from(days.unsigned_abs())))
            } else {
                epoch.date().checked_add_days(Days::new(days as u64))
            };
            prop_assert_eq!(days.map(|days| date(millennium(), days)), read.map(|days| date(DateTime::UNIX_EPOCH.naive_utc(), days)));
        }
        for type_ in [Type::TIMESTAMP, Type::TIMESTAMPTZ] {
            let array = decode(&*mapping(&type_), &raws(&micros, |v| v.to_be_bytes())).unwrap();
            for (micros, read) in micros.iter().zip(array.as_primitive::<TimestampMicrosecondType>().iter()) {
                prop_assert_eq!(
                    micros.map(|micros| millennium() + TimeDelta::microseconds(micros)),
                    read.map(|micros| DateTime::UNIX_EPOCH.naive_utc() + TimeDelta::microseconds(micros))
                );
            }
        }
    }

    #[test]
    fn times_of_day(micros in 0..86_400_000_000i64, west in -57_599i32..57_600) {
        let array = decode(&*mapping(&Type::TIME), &[Some(micros.to_be_bytes().to_vec())]).unwrap();
        prop_assert_eq!(array.as_primitive::<Time64MicrosecondType>().value(0), micros);
        let text = spelled(&*placed(&Type::TIME, Place::Lake), &micros.to_be_bytes()).unwrap();
        prop_assert_eq!(micros_of(&text), micros);
        prop_assert!(!text.contains('.') || !text.ends_with('0'));
        let text = spelled(&*mapping(&Type::TIMETZ), &[&micros.to_be_bytes()[..], &west.to_be_bytes()].concat()).unwrap();
        let sign = text.rfind(['+', '-']).unwrap();
        let zone = micros_of(&text[sign + 1..]) / 1_000_000;
        prop_assert_eq!(micros_of(&text[..sign]), micros);
        prop_assert_eq!(if text[sign..].starts_with('-') { zone } else { -zone }, i64::from(west));
    }

    #[test]
    fn numerics(units in -(10i128.pow(38) - 1)..10i128.pow(38)) {
        // Ten groups of four digits from 10^20 on down to 10^-20.
        let digits = format!("{:0>38}00", units.unsigned_abs());
        let mut raw: Vec<u8> = [10i16, 4, if units < 0 { 0x4000 } else { 0 }, 18].iter().flat_map(|w| w.to_be_bytes()).collect();
        raw.extend(digits.as_bytes().chunks(4).flat_map(|d| std::str::from_utf8(d).unwrap().parse::<i16>().unwrap().to_be_bytes()));
        let array = decode(&*mapping(&Type::NUMERIC), &[Some(raw), None]).unwrap();
        prop_assert_eq!(array.as_primitive::<Decimal128Type>().iter().collect::<Vec<_>>(), [Some(units), None]);
    }

    #[test]
    fn addresses(v4 in any::<[u8; 4]>(), v6 in proptest::array::uniform8(prop_oneof![2 => Just(0u16), 1 => Just(0xFFFF), 2 => any::<u16>()]), bits in 0u8..=128, mac in any::<[u8; 8]>()) {
        let bits4 = bits.min(32);
        let text = spelled(&*mapping(&Type::INET), &[&[2, bits4, 0, 4][..], &v4].concat()).unwrap();
        let address = std::net::Ipv4Addr::from(v4).to_string();
        prop_assert_eq!(text, if bits4 == 32 { address.clone() } else { format!("{address}/{bits4}") });
        let text = spelled(&*mapping(&Type::CIDR), &[&[2, bits4, 1, 4][..], &v4].concat()).unwrap();
        prop_assert_eq!(text, format!("{address}/{bits4}"));

        let v6 = std::net::Ipv6Addr::from(v6);
        let text = spelled(&*mapping(&Type::CIDR), &[&[3, bits, 1, 16][..], &v6.octets()].concat()).unwrap();
        let (address, read) = text.split_once('/').unwrap();
        prop_assert_eq!((address.parse(), read.parse()), (Ok(v6), Ok(bits)), "{}", text);

        let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<Vec<_>>().join(":");
        prop_assert_eq!(spelled(&*mapping(&Type::MACADDR), &mac[..6]), Ok(hex(&mac[..6])));
        prop_assert_eq!(spelled(&*mapping(&Type::MACADDR8), &mac), Ok(hex(&mac)));
    }

    #[test]
    fn bits_and_ids(bits in proptest::collection::vec(any::<bool>(), 0..40), lsn in any::<u64>(), ids in some(any::<u128>())) {
        let mut raw = (bits.len() as i32).to_be_bytes().to_vec();
        raw.extend(bits.chunks(8).map(|chunk| chunk.iter().enumerate().fold(0u8, |byte, (at, bit)| byte | u8::from(*bit) << (7 - at))));
        let text: String = bits.iter().map(|bit| if *bit { '1' } else { '0' }).collect();
        prop_assert_eq!(spelled(&*mapping(&Type::VARBIT), &raw), Ok(text));
        let text = spelled(&*mapping(&Type::PG_LSN), &lsn.to_be_bytes()).unwrap();
        let (high, low) = text.split_once('/').unwrap();
        prop_assert_eq!(u64::from_str_radix(high, 16).unwrap() << 32 | u64::from_str_radix(low, 16).unwrap(), lsn);
        let array = decode(&*mapping(&Type::UUID), &raws(&ids, |id| id.to_be_bytes())).unwrap();
        let texts: Vec<Option<String>> = ids.iter().map(|id| id.map(|id| ::uuid::Uuid::from_u128(id).to_string())).collect();
        prop_assert_eq!(array.as_string::<i32>().iter().collect::<Vec<_>>(), texts.iter().map(Option::as_deref).collect::<Vec<_>>());
    }
}

/// `HH[:MM[:SS[.ffffff]]]` in microseconds.
fn micros_of(text: &str) -> i64 {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds = whole.split(':').chain(["0", "0"]).take(3).fold(0, |sum, part| sum * 60 + part.parse::<i64>().unwrap());
    seconds * 1_000_000 + format!("{fraction:0<6}").parse::<i64>().unwrap()
}

#[test]
fn what_a_type_cannot_hold_is_refused_by_value() {
    for (type_, raw, words) in [
        (Type::DATE, i32::MAX.to_be_bytes().to_vec(), "an infinite date (infinity)"),
        (Type::DATE, i32::MIN.to_be_bytes().to_vec(), "nullif(x, '-infinity')"),
        (Type::TIMESTAMP, i64::MAX.to_be_bytes().to_vec(), "an infinite time (infinity)"),
        (Type::TIMESTAMPTZ, i64::MIN.to_be_bytes().to_vec(), "an infinite time (-infinity)"),
        (Type::TIMESTAMPTZ, (i64::MAX - 946_684_800_000_000 + 1).to_be_bytes().to_vec(), "a time after 294247-01-10"),
        (Type::TIME, 86_400_000_000i64.to_be_bytes().to_vec(), "24:00:00 has no place"),
        (Type::TIME, (-1i64).to_be_bytes().to_vec(), "-1 microseconds"),
        (Type::NUMERIC, vec![0, 0, 0, 0, 0xC0, 0, 0, 0], "NaN has no place among decimals"),
        (Type::NUMERIC, vec![0, 0, 0, 0, 0xF0, 0, 0, 0], "-Infinity has no place among decimals"),
        (Type::NUMERIC, vec![0, 1, 0, 5, 0, 0, 0, 0, 0, 7], "700000000000000000000 does not fit decimal(38,18)"),
        (Type::INTERVAL, [&i64::MAX.to_be_bytes()[..], &i32::MAX.to_be_bytes(), &i32::MAX.to_be_bytes()].concat(), "an infinite interval"),
        (Type::TEXT, vec![0xFF], "not UTF-8"),
        (Type::JSONB, vec![2, b'1'], "unknown version"),
    ] {
        let refused = decode(&*mapping(&type_), &[Some(raw)]).unwrap_err();
        assert!(refused.why.contains(words), "{type_}: {}", refused.why);
    }
    let latest = (i64::MAX - 946_684_800_000_000).to_be_bytes().to_vec();
    let array = decode(&*mapping(&Type::TIMESTAMPTZ), &[Some(latest)]).unwrap();
    assert_eq!(array.as_primitive::<TimestampMicrosecondType>().value(0), i64::MAX);
    assert_eq!(spelled(&*placed(&Type::TIME, Place::Lake), &86_400_000_000i64.to_be_bytes()), Ok("24:00:00".to_owned()));
    let (text, nan) = (
        Planner { column: "x", modifiers: &Modifiers::default(), place: Place::File, numeric: Some(NumericAs::Text) },
        [0, 0, 0, 0, 0xC0, 0, 0, 0],
    );
    assert_eq!(spelled(&*text.plan(&Type::NUMERIC, -1).unwrap(), &nan), Ok("NaN".to_owned()));
}

//! Decimals in JSON.

use std::fmt;

use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

use super::Decimal;

/// As a JSON string: a number would lose digits in most readers.
impl Serialize for Decimal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// From a JSON string or number, by its digits and never through a float. `serde_json` only.
impl<'de> Deserialize<'de> for Decimal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_newtype_struct(RAW_VALUE, Raw)
    }
}

/// What `serde_json` hands a value's own text out for. Its `RawValue` asks in the same way and makes a copy;
/// if it should ask otherwise one day, the copy is made here, too.
const RAW_VALUE: &str = "$serde_json::private::RawValue";

/// Takes a value's own text.
struct Raw;

impl Raw {
    fn read<E: serde::de::Error>(text: &str) -> Result<Decimal, E> {
        let text = text.strip_prefix('"').and_then(|t| t.strip_suffix('"')).unwrap_or(text);
        text.parse().map_err(E::custom)
    }
}

impl<'de> Visitor<'de> for Raw {
    type Value = Decimal;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any valid JSON value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Decimal, A::Error> {
        match map.next_key::<IgnoredAny>()? {
            Some(_) => map.next_value_seed(self),
            None => Err(serde::de::Error::invalid_type(serde::de::Unexpected::Map, &self)),
        }
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Decimal, E> {
        Self::read(text)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Decimal, D::Error> {
        Self::read(Box::<RawValue>::deserialize(deserializer)?.get())
    }
}

impl<'de> DeserializeSeed<'de> for Raw {
    type Value = Decimal;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Decimal, D::Error> {
        deserializer.deserialize_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_numbers_are_read_by_their_digits_wherever_they_come_from() {
        let exact = "0.123456789012345678";
        for json in [exact.to_owned(), format!("\"{exact}\"")] {
            let whole: Decimal = serde_json::from_str(&json).unwrap();
            assert_eq!(whole.to_string(), exact);
            assert_eq!(serde_json::from_reader::<_, Decimal>(json.as_bytes()).unwrap(), whole);
            assert_eq!(serde_json::from_slice::<Vec<Decimal>>(format!("[ {json} ]").as_bytes()).unwrap(), [whole]);
        }
        assert_eq!(serde_json::from_value::<Decimal>(serde_json::json!("1.5")).unwrap().to_string(), "1.5");
        for bad in ["null", "true", "[]", "{}", "\"1\\u0030\"", "\" 1\"", "\"\"", "NaN"] {
            assert!(serde_json::from_str::<Decimal>(bad).is_err(), "{bad}");
        }
    }
}

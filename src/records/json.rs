//! JSON kept as it was written, checked for what `jsonb` refuses.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

/// A JSON value as text: numbers keep every digit, because no float comes between.
///
/// ```
/// use hitherto::records::Json;
/// let json = Json::parse(r#"{"price": 0.1234567890123456789}"#)?;
/// assert!(json.as_str().contains("0.1234567890123456789"));
/// # Ok::<(), String>(())
/// ```
#[derive(Clone)]
pub struct Json(Box<RawValue>);

/// Arrays and objects within each other, at most: PostgreSQL's parser gives up on deep nesting.
pub const MAX_JSON_DEPTH: usize = 128;

impl Json {
    /// Checks that the text is JSON.
    ///
    /// # Errors
    /// The parser's words, with line and column.
    pub fn parse(text: &str) -> Result<Self, String> {
        serde_json::from_str::<Box<RawValue>>(text).map(Self).map_err(|e| e.to_string())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        self.0.get()
    }

    /// The text as PostgreSQL prints it once it is `jsonb`: keys sorted and once each, numbers without
    /// exponents, one space after a colon or comma.
    ///
    /// ```
    /// use hitherto::records::Json;
    /// let json = Json::parse(r#"{"size":1e2,"at":"\u0041"}"#)?;
    /// assert_eq!(json.printed(), r#"{"at": "A", "size": 100}"#);
    /// # Ok::<(), String>(())
    /// ```
    pub fn printed(&self) -> String {
        super::jsonb::printed(self.as_str())
    }

    /// What `jsonb` would refuse in it, if anything.
    pub(crate) fn flaw(&self) -> Option<String> {
        flaw(self.as_str())
    }
}

/// Looks for escapes that have no place in text, nesting, and numbers past `numeric`'s range.
fn flaw(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let (mut i, mut depth) = (0, 0usize);
    while i < bytes.len() {
        match bytes[i] {
            b'"' => match after_string(bytes, i) {
                Some(end) => i = end,
                None => return Some(r"holds \u0000 or half of a surrogate pair, which text can't".to_owned()),
            },
            b'[' | b'{' => {
                depth += 1;
                if depth > MAX_JSON_DEPTH {
                    return Some(format!("is nested deeper than {MAX_JSON_DEPTH}"));
                }
                i += 1;
            }
            b']' | b'}' => {
                depth -= 1;
                i += 1;
            }
            b'-' | b'0'..=b'9' => {
                let end = bytes[i..]
                    .iter()
                    .position(|b| !matches!(b, b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9'))
                    .map_or(bytes.len(), |n| i + n);
                let number = &text[i..end];
                if !number_fits(number) {
                    return Some(format!("holds {:.40}, which is past the range of numeric", number));
                }
                i = end;
            }
            _ => i += 1,
        }
    }
    None
}

/// The end of the string that starts at `at`; `None` for an escape that PostgreSQL refuses.
fn after_string(bytes: &[u8], at: usize) -> Option<usize> {
    let mut i = at + 1;
    while i < bytes.len() && bytes[i] != b'"' {
        if bytes[i] == b'\\' {
            if bytes.get(i + 1) == Some(&b'u') {
                let unit = escape(bytes, i)?;
                match unit {
                    0 => return None,
                    0xD800..=0xDBFF => {
                        if !matches!(escape(bytes, i + 6), Some(0xDC00..=0xDFFF)) {
                            return None;
                        }
                        i += 6;
                    }
                    0xDC00..=0xDFFF => return None,
                    _ => {}
                }
                i += 6;
                continue;
            }
            i += 1;
        }
        i += 1;
    }
    Some(i + 1)
}

/// The code unit of `\uXXXX` at this place.
fn escape(bytes: &[u8], at: usize) -> Option<u16> {
    let hex = bytes.get(at..at + 6)?;
    (hex[0] == b'\\' && hex[1] == b'u').then_some(())?;
    u16::from_str_radix(std::str::from_utf8(&hex[2..]).ok()?, 16).ok()
}

/// PostgreSQL's numeric: up to 131,072 digits before the point and 16,383 after it.
fn number_fits(number: &str) -> bool {
    let (mantissa, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    let Ok(exponent) = exponent.parse::<i64>() else { return false };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let before = exponent.saturating_add(whole.trim_start_matches('-').len() as i64);
    let after = (fraction.len() as i64).saturating_sub(exponent);
    before <= 100_000 && after <= 16_000
}

impl From<serde_json::Value> for Json {
    fn from(value: serde_json::Value) -> Self {
        Self(serde_json::value::to_raw_value(&value).expect("a JSON value is JSON"))
    }
}

impl PartialEq for Json {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl fmt::Debug for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

/// `serde_json` only.
impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Box::<RawValue>::deserialize(deserializer).map(Self)
    }
}

/// An optional field that is there: `null` is a value, and only what is left out is none.
pub(super) fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Json>, D::Error> {
    Json::deserialize(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_jsonb_refuses_is_found() {
        let deep = "[".repeat(MAX_JSON_DEPTH + 1) + &"]".repeat(MAX_JSON_DEPTH + 1);
        for bad in [
            r#"{"a":"\u0000"}"#,
            r#"["\ud800"]"#,
            r#"["\udc00\ud800"]"#,
            r#"["\ud800\u0041"]"#,
            "1e200000",
            "[1e-20000]",
            "1e9223372036854775807",
            "1e-9223372036854775808",
            &deep,
        ] {
            assert!(Json::parse(bad).unwrap().flaw().is_some(), "{bad}");
        }
        for good in [r#"{"a":"\\u0000 \" \ud83d\ude00"}"#, "[1e300, -0.5, 12]", "null", r#""{[""#] {
            assert_eq!(Json::parse(good).unwrap().flaw(), None, "{good}");
        }
    }
}

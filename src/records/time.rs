//! Times as they stand in JSON: RFC 3339.

use std::fmt;

use chrono::{DateTime, FixedOffset, NaiveDate, Utc};
use serde::Deserializer;
use serde::de::{Error, Visitor};

/// As chrono reads a time, but quicker where it stands in the shape that nearly all have.
pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<DateTime<Utc>, D::Error> {
    deserializer.deserialize_str(Reader)
}

struct Reader;

impl Visitor<'_> for Reader {
    type Value = DateTime<Utc>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an RFC 3339 formatted date and time string")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<DateTime<Utc>, E> {
        match usual(text.as_bytes()) {
            Some(time) => Ok(time),
            None => text.parse::<DateTime<FixedOffset>>().map(|time| time.with_timezone(&Utc)).map_err(E::custom),
        }
    }
}

/// `2026-01-31T09:30:00`, up to nine digits behind a point, and `Z` or `+00:00`. `None` for all else, times that
/// there are not among it.
fn usual(text: &[u8]) -> Option<DateTime<Utc>> {
    let number = |at: usize, digits: usize| -> Option<u32> {
        text.get(at..at + digits)?.iter().try_fold(0, |n, b| b.is_ascii_digit().then(|| n * 10 + u32::from(b - b'0')))
    };
    let marks = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    if text.len() < 20 || marks.iter().any(|(at, mark)| text[*at] != *mark) {
        return None;
    }
    let (year, month, day) = (number(0, 4)?, number(5, 2)?, number(8, 2)?);
    let (hour, minute, second) = (number(11, 2)?, number(14, 2)?, number(17, 2)?);
    let mut rest = &text[19..];
    let mut nanos = 0;
    if rest[0] == b'.' {
        let digits = rest[1..].iter().take_while(|b| b.is_ascii_digit()).count();
        if !(1..=9).contains(&digits) {
            return None;
        }
        nanos = number(20, digits)? * 10u32.pow(9 - digits as u32);
        rest = &rest[1 + digits..];
    }
    if !matches!(rest, b"Z" | b"+00:00") || second > 59 {
        return None;
    }
    let date = NaiveDate::from_ymd_opt(i32::try_from(year).ok()?, month, day)?;
    Some(date.and_hms_nano_opt(hour, minute, second, nanos)?.and_utc())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn both(text: &str) -> (Result<DateTime<Utc>, String>, Result<DateTime<Utc>, String>) {
        let json = serde_json::to_string(text).unwrap();
        let mut ours = serde_json::Deserializer::from_str(&json);
        let ours = deserialize(&mut ours).map_err(|e| e.to_string());
        (ours, serde_json::from_str::<DateTime<Utc>>(&json).map_err(|e| e.to_string()))
    }

    #[test]
    fn usual_times_take_the_short_way() {
        for text in ["2026-01-31T09:30:00Z", "2026-01-31T09:30:00.123456Z", "2026-01-31T09:30:00.5+00:00", "2024-02-29T23:59:59.999999999Z"]
        {
            assert!(usual(text.as_bytes()).is_some(), "{text}");
        }
    }

    #[test]
    fn odd_times_are_read_or_refused_as_ever() {
        for text in [
            "",
            "Z",
            "2026-01-31",
            "2026-01-31T09:30:00",
            "2026-02-29T09:30:00Z",
            "2026-01-31T24:00:00Z",
            "2026-01-31T09:60:00Z",
            "2026-01-31T23:59:60Z",
            "2026-01-31T09:30:00.Z",
            "2026-01-31T09:30:00.1234567890Z",
            "2026-01-31 09:30:00Z",
            "2026-01-31t09:30:00z",
            "2026-01-31T09:30:00-00:00",
            "2026-01-31T09:30:00+01:00",
            "2026-1-31T09:30:00Z ",
            "0000-01-01T00:00:00Z",
            "+2026-01-31T09:30:00Z",
            "2026-01-31T09:30:00ZZ",
            "９026-01-31T09:30Z",
        ] {
            let (ours, chronos) = both(text);
            assert_eq!(ours, chronos, "{text}");
        }
    }

    proptest! {
        #[test]
        fn the_short_way_reads_what_chrono_reads(
            text in "[0-9]{4}-[01][0-9]-[0-3][0-9][T t][0-2][0-9]:[0-6][0-9]:[0-6][0-9](\\.[0-9]{0,11})?(Z|z|\\+00:00|-05:30|)"
        ) {
            let (ours, chronos) = both(&text);
            prop_assert_eq!(ours, chronos);
        }
    }
}

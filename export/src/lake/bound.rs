//! Values as the log's statistics have them, compared exactly: JSON numbers of any length, texts, times.

use std::cmp::Ordering;

use chrono::DateTime;

/// Whether a value is less than a bound.
pub(super) fn below(value: &str, bound: &str) -> bool {
    compare(value, bound) == Some(Ordering::Less)
}

/// Whether a value is greater than a bound.
pub(super) fn above(value: &str, bound: &str) -> bool {
    compare(value, bound) == Some(Ordering::Greater)
}

/// `None` for what has no order.
fn compare(a: &str, b: &str) -> Option<Ordering> {
    if a == b {
        return Some(Ordering::Equal);
    }
    match (serde_json::from_str::<String>(a), serde_json::from_str::<String>(b)) {
        (Ok(a), Ok(b)) => match (DateTime::parse_from_rfc3339(&a), DateTime::parse_from_rfc3339(&b)) {
            (Ok(a), Ok(b)) => Some(a.cmp(&b)),
            _ => Some(a.as_bytes().cmp(b.as_bytes())),
        },
        (Err(_), Err(_)) => Number::parse(a)?.compare(&Number::parse(b)?),
        _ => None,
    }
}

/// Its digits from the first that is not 0 on, and where among them the point is.
struct Number {
    negative: bool,
    digits: Vec<u8>,
    point: i64,
}

impl Number {
    fn parse(text: &str) -> Option<Self> {
        let (negative, text) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
        let (mantissa, exponent) = text.split_once(['e', 'E']).map_or((text, Some(0)), |(m, e)| (m, e.parse::<i64>().ok()));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let all: Vec<u8> = whole.bytes().chain(fraction.bytes()).collect();
        if all.is_empty() || !all.iter().all(u8::is_ascii_digit) {
            return None;
        }
        let zeros = all.iter().take_while(|digit| **digit == b'0').count();
        let mut digits = all[zeros..].to_vec();
        while digits.last() == Some(&b'0') {
            digits.pop();
        }
        let point = i64::try_from(whole.len()).ok()? - i64::try_from(zeros).ok()? + exponent?;
        Some(Self { negative: negative && !digits.is_empty(), point: if digits.is_empty() { i64::MIN } else { point }, digits })
    }

    fn compare(&self, other: &Self) -> Option<Ordering> {
        let size = (self.point, &self.digits).cmp(&(other.point, &other.digits));
        Some(match (self.negative, other.negative) {
            (false, false) => size,
            (true, true) => size.reverse(),
            (true, false) => Ordering::Less,
            (false, true) => Ordering::Greater,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_compared_by_every_digit() {
        let ascending = [
            "-99999999999999999999.999999999999999999",
            "-99999999999999999999.999999999999999998",
            "-1e3",
            "-12.5",
            "-0.001",
            "0",
            "1e-7",
            "0.001",
            "0.01",
            "9",
            "10.000000000000000001",
            "10.000000000000000002",
            "1.5E2",
            "99999999999999999999.999999999999999999",
        ];
        for (at, a) in ascending.iter().enumerate() {
            for (bt, b) in ascending.iter().enumerate() {
                assert_eq!(compare(a, b), Some(at.cmp(&bt)), "{a} and {b}");
            }
        }
        assert_eq!(compare("1.50", "15e-1"), Some(Ordering::Equal));
        assert_eq!(compare("-0.0", "0"), Some(Ordering::Equal));
    }

    #[test]
    fn times_are_no_texts() {
        assert!(below("\"2026-01-01T00:00:00.001Z\"", "\"2026-01-01T00:00:00.0011+00:00\""));
        assert!(above("\"b\"", "\"a\""));
        assert!(!above("\"b\"", "1") && !below("true", "false"), "what has no order is not out of it");
    }
}

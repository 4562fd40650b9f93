//! The times that an export goes from and to.

use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, NaiveTime, Utc};

/// A time as somebody typed it.
#[derive(Debug, Clone)]
pub(super) struct Time {
    pub(super) at: DateTime<Utc>,
    /// It names no time zone.
    pub(super) assumed: bool,
}

const HOW: &str = "write 2026-01-31, 2026-01-31T09:30:00Z or 2026-01-31T10:30:00+01:00";

/// Reads a day or a time; one without a zone is UTC's.
pub(super) fn time(text: &str) -> Result<Time, String> {
    let (at, assumed) = match DateTime::parse_from_rfc3339(text) {
        Ok(time) => (time.to_utc(), false),
        Err(_) => (without_zone(text).ok_or_else(|| why_not(text))?.and_utc(), true),
    };
    // Neither the database's texts nor most readers go further.
    if !(1..=9999).contains(&at.year()) {
        return Err("a year is 1 to 9999".to_owned());
    }
    Ok(Time { at, assumed })
}

fn without_zone(text: &str) -> Option<NaiveDateTime> {
    if let Ok(day) = text.parse::<NaiveDate>() {
        return Some(day.and_time(NaiveTime::MIN));
    }
    let formats = ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M"];
    formats.iter().find_map(|format| NaiveDateTime::parse_from_str(text, format).ok())
}

/// Whether it is the form that is wrong, or the day.
fn why_not(text: &str) -> String {
    let numbers: Option<Vec<u32>> = text.get(..10).map(|day| day.splitn(3, '-').filter_map(|n| n.parse().ok()).collect());
    match numbers.as_deref() {
        Some([year, month, day]) if NaiveDate::from_ymd_opt(*year as i32, *month, *day).is_none() => {
            format!("there is no such day; {HOW}")
        }
        Some([..]) if text.len() > 10 => format!("there is no such time of day, or it is not written so; {HOW}"),
        _ => HOW.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_with_and_without_a_zone() {
        for (text, at, assumed) in [
            ("2026-01-31", "2026-01-31T00:00:00Z", true),
            ("2026-01-31T09:30:00Z", "2026-01-31T09:30:00Z", false),
            ("2026-01-31T09:30:00.25+01:00", "2026-01-31T08:30:00.25Z", false),
            ("2026-01-31T09:30:00.25", "2026-01-31T09:30:00.25Z", true),
            ("2026-01-31 09:30", "2026-01-31T09:30:00Z", true),
            ("2024-02-29", "2024-02-29T00:00:00Z", true),
        ] {
            let time = time(text).unwrap();
            assert_eq!((time.at, time.assumed), (at.parse().unwrap(), assumed), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_told() {
        for (text, words) in [
            ("2026-02-30", "there is no such day"),
            ("2026-13-01T00:00:00Z", "there is no such day"),
            ("2026-02-29T10:00:00+01:00", "there is no such day"),
            ("2026-01-31T25:00:00Z", "there is no such time of day"),
            ("2026-01-31 noon", "there is no such time of day"),
            ("yesterday", "write 2026-01-31"),
            ("", "write 2026-01-31"),
            ("+12026-01-01", "a year is 1 to 9999"),
            ("0000-01-01", "a year is 1 to 9999"),
            ("31.1.2026-ü", "write 2026-01-31"),
        ] {
            let told = time(text).unwrap_err();
            assert!(told.contains(words), "{text}: {told}");
        }
    }
}

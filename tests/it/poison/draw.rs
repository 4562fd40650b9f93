//! Values that records are made of, good ones and poison.

use std::collections::BTreeSet;

use chrono::{DateTime, TimeDelta, Utc};
use hitherto::records::{Decimal, Json};
use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::{BoxedStrategy, ValueTree};
use proptest::test_runner::TestRunner;

/// Draws a record's values: good ones, but for those whose turn is in `poison`.
pub(super) struct Draw<'a> {
    pub(super) runner: &'a mut TestRunner,
    pub(super) poison: BTreeSet<usize>,
    pub(super) turn: usize,
    /// Tells this record's ids from others'.
    pub(super) id: String,
}

impl Draw<'_> {
    fn is_poison(&mut self) -> bool {
        self.turn += 1;
        self.poison.contains(&(self.turn - 1))
    }

    fn of<T: std::fmt::Debug>(&mut self, strategy: BoxedStrategy<T>) -> T {
        strategy.new_tree(self.runner).unwrap().current()
    }

    pub(super) fn id(&mut self) -> String {
        if self.is_poison() { self.of(texts()) } else { self.id.clone() }
    }

    pub(super) fn text(&mut self, good: &str) -> String {
        if self.is_poison() { self.of(texts()) } else { good.to_owned() }
    }

    pub(super) fn some_text(&mut self) -> Option<String> {
        Some(self.text("some words"))
    }

    pub(super) fn float(&mut self) -> f64 {
        if self.is_poison() { self.of(floats()) } else { 0.5 }
    }

    pub(super) fn json(&mut self, good: &str) -> Json {
        let text = if self.is_poison() { self.of(jsons()) } else { good.to_owned() };
        // What is no JSON at all no record can hold.
        Json::parse(&text).unwrap_or_else(|_| Json::parse(good).unwrap())
    }

    pub(super) fn decimal(&mut self) -> Decimal {
        if self.is_poison() { self.of(decimals()) } else { "1.5".parse().unwrap() }
    }

    pub(super) fn time(&mut self) -> DateTime<Utc> {
        let good = chrono::SubsecRound::trunc_subsecs(Utc::now(), 6) - TimeDelta::hours(1);
        if self.is_poison() { self.of(times(good)) } else { good }
    }

    pub(super) fn int8(&mut self) -> i64 {
        if self.is_poison() { self.of(prop_oneof![select(vec![i64::MIN, i64::MAX, 0, -1]), any::<i64>()].boxed()) } else { 7 }
    }

    pub(super) fn int4(&mut self) -> i32 {
        if self.is_poison() { self.of(prop_oneof![select(vec![i32::MIN, i32::MAX, -1]), any::<i32>()].boxed()) } else { 7 }
    }
}

fn floats() -> BoxedStrategy<f64> {
    let odd = vec![
        f64::NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
        -0.0,
        f64::MIN_POSITIVE,
        f64::from_bits(1),
        f64::MAX,
        f64::MIN,
        1e15,
        -1e15,
        1.000_000_000_000_001e15,
        1.0 + f64::EPSILON,
    ];
    prop_oneof![select(odd), proptest::num::f64::ANY].boxed()
}

fn texts() -> BoxedStrategy<String> {
    let odd = vec![
        String::new(),
        " ".to_owned(),
        "\u{a0}\t".to_owned(),
        "a\0b".to_owned(),
        "\0".to_owned(),
        "n".repeat(200),
        "n".repeat(201),
        "\u{1F4A5}".repeat(200),
        "x".repeat(300_000),
        "\u{202e}\u{5d0}\u{5d1}\u{200f} e\u{301} \u{1F468}\u{200d}\u{1F469}\u{200d}\u{1F467}".to_owned(),
        "'; DROP TABLE hitherto.module; -- \\ \" $1 %s {}".to_owned(),
        "\\N\t\r\n\u{7f}\u{85}\u{feff}\u{fffd}\u{10ffff}".to_owned(),
        "NULL".to_owned(),
    ];
    prop_oneof![select(odd), any::<String>(), "\\PC{1,40}".prop_map(|text| text)].boxed()
}

fn jsons() -> BoxedStrategy<String> {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let odd = vec![
        r#"{"a":"\u0000"}"#.to_owned(),
        r#"{"\u0000":1}"#.to_owned(),
        r#"["\ud800"]"#.to_owned(),
        r#"["\udc00\ud800"]"#.to_owned(),
        r#"{"a":"\ud83d\ude00 \\u0000"}"#.to_owned(),
        "1e200000".to_owned(),
        "[-1e-20000]".to_owned(),
        "1e9223372036854775807".to_owned(),
        "1e99999999999999999999".to_owned(),
        format!("[{}.{}]", "9".repeat(20_000), "1".repeat(15_000)),
        "[1e100, -0, -0.0, 0e5, 1E+2, 0.1000]".to_owned(),
        r#"{"b":1,"a":2,"b":{"c":[1e2]},"":0}"#.to_owned(),
        "null".to_owned(),
        "\"text\"".to_owned(),
        nested(128),
        nested(129),
        nested(900),
        nested(100_000),
        format!("\"{}\"", "x".repeat(300_000)),
        " {\n\"k\" :\t[ true , false ]\r}".to_owned(),
    ];
    prop_oneof![3 => select(odd), 1 => any::<String>().prop_map(|text| serde_json::json!({ "text": text }).to_string())].boxed()
}

fn decimals() -> BoxedStrategy<Decimal> {
    let edge = 10i128.pow(38) - 1;
    let odd: Vec<Decimal> = [edge, -edge, 1, -1, 0, 10i128.pow(18)].into_iter().map(|units| Decimal::from_units(units).unwrap()).collect();
    prop_oneof![select(odd), (-edge..=edge).prop_map(|units| Decimal::from_units(units).unwrap())].boxed()
}

fn times(good: DateTime<Utc>) -> BoxedStrategy<DateTime<Utc>> {
    let read = |text: &str| text.parse::<DateTime<Utc>>().unwrap();
    let odd = vec![
        DateTime::<Utc>::MIN_UTC,
        DateTime::<Utc>::MAX_UTC,
        read("9999-12-31T23:59:59.999999Z"),
        read("1970-01-01T00:00:00Z"),
        read("1999-12-31T23:59:59.999999Z"),
        read("-4712-01-01T00:00:00Z"),
        read("-4800-01-01T00:00:00Z"),
        read("0000-01-01T00:00:00Z"),
        read("2016-12-31T23:59:60Z"),
        good + TimeDelta::nanoseconds(1),
        good + TimeDelta::minutes(119),
        good + TimeDelta::days(20),
        good - TimeDelta::days(3651),
        good - TimeDelta::days(3700),
    ];
    prop_oneof![
        select(odd),
        (-60_000_000_000i64..200_000_000_000).prop_map(|second| DateTime::from_timestamp(second, 999_999_000).unwrap())
    ]
    .boxed()
}

//! Exact decimals: PostgreSQL's `numeric(38,18)`.

use std::fmt;
use std::str::FromStr;

use bytes::BytesMut;
use postgres_types::{FromSql, IsNull, ToSql, Type, to_sql_checked};
use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

const SCALE: u32 = 18;
const UNIT: i128 = 10i128.pow(SCALE);
const UNIT_64: u64 = 10u64.pow(SCALE);
/// The largest magnitude in units of 10^-18: 38 nines.
const MAX: i128 = 10i128.pow(38) - 1;

/// A quantity, a price or money: `numeric(38,18)`, exact, never a float.
///
/// 18 digits after the point and 20 before it. What has more is an error, never rounded.
///
/// ```
/// use hitherto::records::Decimal;
/// let price: Decimal = "175.539".parse()?;
/// assert_eq!(price.to_string(), "175.539");
/// assert!("0.1234567890123456789".parse::<Decimal>().is_err());
/// # Ok::<(), hitherto::records::DecimalError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Decimal(i128);

/// Why a text or number is not a [`Decimal`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecimalError {
    /// It is not a number.
    #[error("'{0}' is not a decimal number")]
    Syntax(String),
    /// It has more than 18 digits after the point.
    #[error("'{0}' has more than 18 digits after the point")]
    Scale(String),
    /// It has more than 20 digits before the point.
    #[error("'{0}' has more than 20 digits before the point")]
    Range(String),
}

impl Decimal {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// The number in units of 10^-18, within 38 digits.
    pub fn units(self) -> i128 {
        self.0
    }

    /// A number from units of 10^-18; `None` past 38 digits.
    pub fn from_units(units: i128) -> Option<Self> {
        (-MAX..=MAX).contains(&units).then_some(Self(units))
    }

    /// The nearest decimal with `places` (0 to 18) digits after the point, half to even, of a float's
    /// shortest decimal form: for values that are floats where they come from. `None` for NaN,
    /// infinities and what is out of range.
    ///
    /// ```
    /// use hitherto::records::Decimal;
    /// assert_eq!(Decimal::round_f64(175.5399932861328, 4).unwrap().to_string(), "175.54");
    /// ```
    pub fn round_f64(value: f64, places: u32) -> Option<Self> {
        if !value.is_finite() {
            return None;
        }
        let (negative, digits, exponent) = parts(&format!("{value:e}"))?;
        let shift = exponent + i64::from(places.min(SCALE));
        let units = match u32::try_from(shift) {
            Ok(up) => digits.checked_mul(10i128.checked_pow(up)?)?,
            Err(_) => round_half_even(digits, 10i128.checked_pow(u32::try_from(-shift).ok()?).unwrap_or(i128::MAX)),
        };
        let units = units.checked_mul(10i128.pow(SCALE - places.min(SCALE)))?;
        Self::from_units(if negative { -units } else { units })
    }

    /// The nearest float: for statistics, not for money.
    pub fn to_f64(self) -> f64 {
        self.0 as f64 / UNIT as f64
    }

    /// The sum; `None` past 38 digits.
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).and_then(Self::from_units)
    }

    /// The difference; `None` past 38 digits.
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        self.0.checked_sub(other.0).and_then(Self::from_units)
    }

    /// The product, half-even at 18 places; `None` past 38 digits.
    pub fn checked_mul_half_even(self, other: Self) -> Option<Self> {
        let negative = (self.0 < 0) != (other.0 < 0);
        let (a, b) = (self.0.unsigned_abs(), other.0.unsigned_abs());
        let unit = UNIT.unsigned_abs();
        // (a1 * U + a0) * (b1 * U + b0) / U, by parts so that nothing passes 128 bits.
        let (a1, a0, b1, b0) = (a / unit, a % unit, b / unit, b % unit);
        let low = a0.checked_mul(b0)?;
        let rounded = i128::try_from(low).ok().map(|n| round_half_even(n, UNIT))?;
        let high = a1.checked_mul(b1)?.checked_mul(unit)?;
        let middle = a1.checked_mul(b0)?.checked_add(a0.checked_mul(b1)?)?;
        let units = i128::try_from(high.checked_add(middle)?).ok()?.checked_add(rounded)?;
        Self::from_units(if negative { -units } else { units })
    }
}

/// `n / d` for n >= 0 and d > 0, half to even.
fn round_half_even(n: i128, d: i128) -> i128 {
    let (q, r) = (n / d, n % d);
    match (r.checked_mul(2).unwrap_or(i128::MAX)).cmp(&d) {
        std::cmp::Ordering::Greater => q + 1,
        std::cmp::Ordering::Equal => q + (q & 1),
        std::cmp::Ordering::Less => q,
    }
}

/// The longest text that is read as a number: far past 38 digits, zeros and exponent included.
const MAX_CHARS: usize = 100;

/// Sign, digits without the point and the power of ten that they are multiplied by.
fn parts(text: &str) -> Option<(bool, i128, i64)> {
    if text.len() > MAX_CHARS {
        return None;
    }
    let (negative, body) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let (mantissa, exponent) = match body.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i64>().ok().filter(|e| e.abs() < 1000)?),
        None => (body, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if whole.is_empty() && fraction.is_empty() || !whole.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit()) {
        return None;
    }
    let fraction = fraction.trim_end_matches('0');
    let mut digits: i128 = 0;
    for byte in whole.bytes().chain(fraction.bytes()) {
        // Past 38 digits nothing fits whatever follows; saturating keeps it too large.
        digits = digits.saturating_mul(10).saturating_add(i128::from(byte - b'0'));
    }
    Some((negative, digits, exponent - fraction.len() as i64))
}

/// Digits that fit 64 bits whatever they are.
const FEW: usize = 18;

/// Digits with or without a point among them, and no more than `FEW`: what nearly all numbers are.
fn usual(text: &[u8]) -> Option<Decimal> {
    let (negative, body) = match text.split_first()? {
        (b'-', body) => (true, body),
        _ => (false, text),
    };
    if body.len() > FEW + 1 {
        return None;
    }
    let (mut digits, mut count, mut point) = (0u64, 0, None);
    for (at, byte) in body.iter().enumerate() {
        match byte {
            b'0'..=b'9' => (digits, count) = (digits * 10 + u64::from(byte - b'0'), count + 1),
            b'.' if point.is_none() => point = Some(at),
            _ => return None,
        }
    }
    if !(1..=FEW).contains(&count) {
        return None;
    }
    let places = point.map_or(0, |at| body.len() - at - 1);
    let units = i128::from(digits) * POWERS[FEW - places];
    Some(Decimal(if negative { -units } else { units }))
}

/// 10^0 to 10^18.
const POWERS: [i128; FEW + 1] = {
    let mut powers = [1; FEW + 1];
    let mut at = 1;
    while at <= FEW {
        powers[at] = powers[at - 1] * 10;
        at += 1;
    }
    powers
};

impl FromStr for Decimal {
    type Err = DecimalError;

    fn from_str(text: &str) -> Result<Self, DecimalError> {
        if let Some(usual) = usual(text.as_bytes()) {
            return Ok(usual);
        }
        let shown = || text.chars().take(60).collect::<String>();
        let (negative, mut digits, mut exponent) = parts(text).ok_or_else(|| DecimalError::Syntax(shown()))?;
        if digits == 0 {
            return Ok(Self::ZERO);
        }
        while exponent < -i64::from(SCALE) && digits % 10 == 0 {
            digits /= 10;
            exponent += 1;
        }
        let shift = u32::try_from(exponent + i64::from(SCALE))
            .map_err(|_| if digits == i128::MAX { DecimalError::Range(shown()) } else { DecimalError::Scale(shown()) })?;
        10i128
            .checked_pow(shift)
            .and_then(|power| digits.checked_mul(power))
            .and_then(|units| Self::from_units(if negative { -units } else { units }))
            .ok_or_else(|| DecimalError::Range(shown()))
    }
}

impl From<i64> for Decimal {
    fn from(value: i64) -> Self {
        Self(i128::from(value) * UNIT)
    }
}

impl TryFrom<rust_decimal::Decimal> for Decimal {
    type Error = DecimalError;

    fn try_from(value: rust_decimal::Decimal) -> Result<Self, DecimalError> {
        value.to_string().parse()
    }
}

/// Plain digits, no exponent, no trailing zeros.
impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = self.0.unsigned_abs();
        let (whole, fraction) = (units / UNIT.unsigned_abs(), units % UNIT.unsigned_abs());
        let mut digits = whole.to_string();
        if fraction != 0 {
            digits.push('.');
            digits.push_str(format!("{fraction:018}").trim_end_matches('0'));
        }
        f.pad_integral(self.0 >= 0, "", &digits)
    }
}

impl fmt::Debug for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

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

/// Bytes of a field that holds a number, at most: its length, four words and eleven digits.
pub(crate) const NUMERIC_FIELD: usize = 4 + 2 * (4 + 11);

/// A number in PostgreSQL's binary form, digits in base 10,000 around the point, its length before it. Gives back how
/// many of the bytes count.
#[inline]
pub(crate) fn numeric_field(units: i128) -> ([u8; NUMERIC_FIELD], usize) {
    let magnitude = units.unsigned_abs();
    // The whole part is below 10^20, the fraction below 10^18. A division in 128 bits is a call of a function.
    let (whole, fraction) = match u64::try_from(magnitude) {
        Ok(small) => (u128::from(small / UNIT_64), small % UNIT_64),
        Err(_) => {
            let whole = magnitude / u128::from(UNIT_64);
            (whole, (magnitude - whole * u128::from(UNIT_64)) as u64)
        }
    };
    // Where the digit before the point lies; five lie before it, five behind. Nearly all numbers have few digits.
    const POINT: usize = 5;
    let mut digits = [0u16; 11];
    let mut first = match u64::try_from(whole) {
        Ok(0) => POINT + 1,
        Ok(low @ 1..10_000) => {
            digits[POINT] = low as u16;
            POINT
        }
        _ => {
            // What is past 10^16 apart, so that the rest is done in 64 bits.
            digits[1] = (whole / 10_000_000_000_000_000) as u16;
            let mut low = (whole % 10_000_000_000_000_000) as u64;
            for digit in digits[2..=POINT].iter_mut().rev() {
                *digit = (low % 10_000) as u16;
                low /= 10_000;
            }
            digits[1..].iter().position(|digit| *digit != 0).map_or(POINT, |at| at + 1)
        }
    };
    let mut end = POINT + 1;
    if fraction != 0 {
        // 18 places are four and a half digits: five of them with two zeros appended. Each half by itself, for the
        // processor to do both at once.
        let (high, low) = ((fraction / 10_000_000_000) as u32, fraction % 10_000_000_000);
        let (middle, rest) = ((low / 100) as u32, (low % 100) as u16);
        digits[6] = (high / 10_000) as u16;
        digits[7] = (high % 10_000) as u16;
        digits[8] = (middle / 10_000) as u16;
        digits[9] = (middle % 10_000) as u16;
        digits[10] = rest * 100;
        end = digits.len();
    }
    while end > first && digits[end - 1] == 0 {
        end -= 1;
    }
    while first < end && digits[first] == 0 {
        first += 1;
    }
    let count = end - first;
    let weight = if count == 0 { 0 } else { POINT as i16 - first as i16 };
    let sign: u16 = if units < 0 { 0x4000 } else { 0 };
    let mut field = [0; NUMERIC_FIELD];
    let size = 8 + 2 * count;
    field[..4].copy_from_slice(&(size as u32).to_be_bytes());
    field[4..6].copy_from_slice(&(count as u16).to_be_bytes());
    field[6..8].copy_from_slice(&weight.to_be_bytes());
    field[8..10].copy_from_slice(&sign.to_be_bytes());
    field[10..12].copy_from_slice(&(SCALE as u16).to_be_bytes());
    for (place, digit) in field[12..].chunks_exact_mut(2).zip(&digits[first..end]) {
        place.copy_from_slice(&digit.to_be_bytes());
    }
    (field, 4 + size)
}

impl ToSql for Decimal {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        let (field, count) = numeric_field(self.0);
        out.extend_from_slice(&field[4..count]);
        Ok(IsNull::No)
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::NUMERIC
    }

    to_sql_checked!();
}

impl<'a> FromSql<'a> for Decimal {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        let word = |at: usize| raw.get(2 * at..2 * at + 2).map(|b| i16::from_be_bytes([b[0], b[1]])).ok_or("numeric is cut short");
        let (count, weight, sign) = (word(0)?, word(1)?, word(2)? as u16);
        if sign != 0 && sign != 0x4000 {
            return Err("NaN and infinities are not decimals".into());
        }
        let mut units: i128 = 0;
        for i in 0..count {
            let digit = i128::from(word(4 + i as usize)?);
            // The digit's place in units of 10^-18.
            let power = 4 * (i32::from(weight) - i32::from(i)) + SCALE as i32;
            let part = match u32::try_from(power) {
                Ok(power) => 10i128.checked_pow(power).and_then(|p| p.checked_mul(digit)),
                Err(_) => {
                    let divisor = 10i128.checked_pow(power.unsigned_abs()).unwrap_or(i128::MAX);
                    (digit % divisor == 0).then_some(digit / divisor)
                }
            };
            units = part.and_then(|p| units.checked_add(p)).ok_or("number does not fit numeric(38,18)")?;
        }
        Ok(Self::from_units(if sign == 0 { units } else { -units }).ok_or("number does not fit numeric(38,18)")?)
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::NUMERIC
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn units() -> impl Strategy<Value = i128> {
        prop_oneof![-MAX..=MAX, -UNIT..=UNIT, (-1_000_000i128..1_000_000).prop_map(|n| n * UNIT), Just(MAX), Just(-MAX), Just(0)]
    }

    proptest! {
        #[test]
        fn text_and_binary_give_back_every_number(units in units()) {
            let decimal = Decimal::from_units(units).unwrap();
            prop_assert_eq!(decimal.to_string().parse::<Decimal>().unwrap(), decimal);
            let json = serde_json::to_string(&decimal).unwrap();
            prop_assert_eq!(serde_json::from_str::<Decimal>(&json).unwrap(), decimal);
            prop_assert_eq!(serde_json::from_str::<Decimal>(&decimal.to_string()).unwrap(), decimal);
            let mut out = BytesMut::new();
            decimal.to_sql(&Type::NUMERIC, &mut out).unwrap();
            prop_assert_eq!(Decimal::from_sql(&Type::NUMERIC, &out).unwrap(), decimal);
        }

        #[test]
        fn products_agree_with_a_wider_decimal(a in -10_000_000_000i64..10_000_000_000, b in -10_000_000_000i64..10_000_000_000) {
            let scaled = |n: i64| Decimal::from_units(i128::from(n) * 1_000_000_000).unwrap();
            let exact = i128::from(a) * i128::from(b);
            prop_assert_eq!(scaled(a).checked_mul_half_even(scaled(b)).unwrap().units(), exact);
        }

        #[test]
        fn any_text_is_a_number_or_an_error(text in ".{0,30}") {
            let _ = text.parse::<Decimal>();
        }
    }

    /// The same by the rule alone: the digits of the number from its first to its last that is not zero.
    fn numeric_by_rule(units: i128) -> Vec<u8> {
        let text = format!("{:022}{:018}00", units.unsigned_abs() / UNIT.unsigned_abs(), units.unsigned_abs() % UNIT.unsigned_abs());
        let text = format!("00{text}");
        let digits: Vec<u16> = text.as_bytes().chunks(4).map(|four| std::str::from_utf8(four).unwrap().parse().unwrap()).collect();
        let first = digits.iter().position(|digit| *digit != 0).unwrap_or(digits.len());
        let last = digits.iter().rposition(|digit| *digit != 0).map_or(first, |at| at + 1);
        let weight = if first == last { 0 } else { 5 - first as i16 };
        let words = [(last - first) as u16, weight as u16, if units < 0 { 0x4000 } else { 0 }, 18];
        words.iter().chain(&digits[first..last]).flat_map(|word| word.to_be_bytes()).collect()
    }

    #[test]
    fn numbers_with_zeros_anywhere_have_no_digit_too_many() {
        let powers = (0..38).map(|n| 10i128.pow(n));
        let around = powers.flat_map(|power| [power - 1, power, power + 1, power / 7 * 3, power * 9_999 % MAX]);
        for units in around.chain([0, MAX, u64::MAX.into(), i128::from(u64::MAX) + 1, 100 * UNIT, 10_000 * UNIT, UNIT / 2]) {
            for units in [units, -units] {
                let (field, count) = numeric_field(units);
                assert_eq!(&field[4..count], numeric_by_rule(units), "{units}");
                assert_eq!(field[..4], (count as u32 - 4).to_be_bytes(), "{units}");
            }
        }
    }

    proptest! {
        #[test]
        fn binary_numbers_are_what_the_rule_says(units in units()) {
            let (field, count) = numeric_field(units);
            prop_assert_eq!(&field[4..count], numeric_by_rule(units));
        }

        #[test]
        fn the_short_way_reads_what_the_long_way_reads(text in "-?[0-9]{0,20}(\\.[0-9]{0,20})?(e[0-9])?") {
            if let Some(short) = usual(text.as_bytes()) {
                let (negative, digits, exponent) = parts(&text).unwrap();
                let units = digits * 10i128.pow(u32::try_from(exponent + 18).unwrap());
                prop_assert_eq!(short.units(), if negative { -units } else { units });
            }
        }
    }

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

    #[test]
    fn what_does_not_fit_is_refused_not_rounded() {
        assert!(matches!("1e-19".parse::<Decimal>(), Err(DecimalError::Scale(_))));
        assert!(matches!("100000000000000000000".parse::<Decimal>(), Err(DecimalError::Range(_))));
        assert!(matches!("1e99999999999".parse::<Decimal>(), Err(DecimalError::Syntax(_))));
        let long = format!("0.{}", "0".repeat(20_000));
        for bad in [long.as_str(), "0e-20000", "", "-", ".", "NaN", "inf", "1_000", "0x10", " 1", "1e", "--1"] {
            assert!(matches!(bad.parse::<Decimal>(), Err(DecimalError::Syntax(_))), "{bad}");
        }
        assert_eq!("1.5000000000000000000000".parse::<Decimal>().unwrap().to_string(), "1.5");
        assert_eq!("1500e-3".parse::<Decimal>().unwrap().to_string(), "1.5");
        assert_eq!("-0".parse::<Decimal>().unwrap(), Decimal::ZERO);
        assert_eq!("99999999999999999999.999999999999999999".parse::<Decimal>().unwrap().units(), MAX);
    }

    #[test]
    fn floats_round_half_to_even() {
        assert_eq!(Decimal::round_f64(0.125, 2).unwrap().to_string(), "0.12");
        assert_eq!(Decimal::round_f64(0.375, 2).unwrap().to_string(), "0.38");
        assert_eq!(Decimal::round_f64(-1e-30, 4).unwrap(), Decimal::ZERO);
        assert_eq!(Decimal::round_f64(1e19, 4).unwrap().to_string(), "10000000000000000000");
        assert!(Decimal::round_f64(f64::NAN, 2).is_none());
        assert!(Decimal::round_f64(1e30, 2).is_none());
    }
}

//! Exact decimals: PostgreSQL's `numeric(38,18)`.

mod binary;
mod json;
mod text;

pub(crate) use binary::numeric_field;
use text::parts;

use std::fmt;

const SCALE: u32 = 18;
const UNIT: i128 = 10i128.pow(SCALE);
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

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use postgres_types::{FromSql, ToSql, Type};
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

//! Decimals in PostgreSQL's binary form.

use bytes::BytesMut;
use postgres_types::{FromSql, IsNull, ToSql, Type, to_sql_checked};

use super::{Decimal, SCALE};

const UNIT_64: u64 = 10u64.pow(SCALE);

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

    use super::super::{MAX, UNIT};
    use super::*;

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
        let around = powers.flat_map(|power| [power - 1, power, power + 1, power / 7 * 3, power / 10_001 * 9_999]);
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
        fn binary_numbers_are_what_the_rule_says(units in -MAX..=MAX) {
            let (field, count) = numeric_field(units);
            prop_assert_eq!(&field[4..count], numeric_by_rule(units));
        }
    }
}

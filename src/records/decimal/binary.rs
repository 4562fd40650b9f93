//! Decimals in PostgreSQL's binary form.

use bytes::BytesMut;
use postgres_types::{FromSql, IsNull, ToSql, Type, to_sql_checked};

use super::{Decimal, SCALE, UNIT};

/// Writes PostgreSQL's binary form: digits in base 10,000 around the point.
pub(crate) fn put_numeric(units: i128, out: &mut BytesMut) {
    // 18 places are four and a half digits: five of them with two zeros appended.
    let magnitude = units.unsigned_abs();
    let whole = magnitude / UNIT.unsigned_abs();
    // Below 10^18.
    let fraction = (magnitude - whole * UNIT.unsigned_abs()) as u64;
    let mut digits = [0i16; 11];
    // Below 10^20: what is past 10^16 apart, so that the rest is done in 64 bits.
    let (high, mut low) = ((whole / 10_000_000_000_000_000) as i16, (whole % 10_000_000_000_000_000) as u64);
    digits[1] = high;
    for digit in digits[2..6].iter_mut().rev() {
        *digit = (low % 10_000) as i16;
        low /= 10_000;
    }
    digits[10] = (fraction % 100 * 100) as i16;
    let mut rest = fraction / 100;
    for digit in digits[6..10].iter_mut().rev() {
        *digit = (rest % 10_000) as i16;
        rest /= 10_000;
    }
    let first = digits.iter().position(|d| *d != 0).unwrap_or(digits.len());
    let last = digits.iter().rposition(|d| *d != 0).map_or(first, |at| at + 1);
    let kept = &digits[first..last];
    let mut bytes = [0; 8 + 2 * 11];
    let weight = if kept.is_empty() { 0 } else { 5 - first as i16 };
    let sign = if units < 0 { 0x4000 } else { 0 };
    let words = [kept.len() as i16, weight, sign, SCALE as i16];
    for (place, word) in bytes.chunks_exact_mut(2).zip(words.iter().chain(kept)) {
        place.copy_from_slice(&word.to_be_bytes());
    }
    out.extend_from_slice(&bytes[..8 + 2 * kept.len()]);
}

impl ToSql for Decimal {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        put_numeric(self.0, out);
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

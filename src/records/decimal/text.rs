//! Decimals from text.

use std::str::FromStr;

use super::{Decimal, DecimalError, SCALE};

/// The longest text that is read as a number: far past 38 digits, zeros and exponent included.
const MAX_CHARS: usize = 100;

/// Sign, digits without the point and the power of ten that they are multiplied by.
pub(super) fn parts(text: &str) -> Option<(bool, i128, i64)> {
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_short_way_reads_what_the_long_way_reads(text in "-?[0-9]{0,20}(\\.[0-9]{0,20})?(e[0-9])?") {
            if let Some(short) = usual(text.as_bytes()) {
                let (negative, digits, exponent) = parts(&text).unwrap();
                let units = digits * 10i128.pow(u32::try_from(exponent + 18).unwrap());
                prop_assert_eq!(short.units(), if negative { -units } else { units });
            }
        }
    }
}

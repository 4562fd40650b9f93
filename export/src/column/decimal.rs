//! PostgreSQL's binary numeric: as an integer of units of its last place, and as text.

use std::fmt::Write as _;

/// Why a numeric is not an exact `Decimal128`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotDecimal {
    /// NaN or an infinity.
    NotFinite,
    /// More digits than the column's precision, or than its scale after the point.
    TooLong,
    /// Not a numeric at all.
    Malformed,
}

/// Digits are base 10,000; `weight` is the place of the first, 0 for the units.
pub(crate) fn units(raw: &[u8], precision: u8, scale: i8) -> Result<i128, NotDecimal> {
    let word = |at: usize| raw.get(2 * at..2 * at + 2).map(|b| i16::from_be_bytes([b[0], b[1]])).ok_or(NotDecimal::Malformed);
    let (count, weight, sign) = (word(0)?, i32::from(word(1)?), word(2)? as u16);
    if sign != 0 && sign != 0x4000 {
        return Err(NotDecimal::NotFinite);
    }
    let count = usize::try_from(count).map_err(|_| NotDecimal::Malformed)?;
    if raw.len() != 8 + 2 * count {
        return Err(NotDecimal::Malformed);
    }
    let digits = &raw[8..];
    if count == 0 {
        return Ok(0);
    }
    // The place of the last digit's units, as a power of ten of the result's.
    let power = 4 * (weight + 1 - count as i32) + i32::from(scale);
    let digit = |at: usize| match u16::from_be_bytes([digits[2 * at], digits[2 * at + 1]]) {
        digit if digit < 10_000 => Ok(digit),
        _ => Err(NotDecimal::Malformed),
    };
    // All digits but the last, which may have a tail of zeros past the scale.
    let mut units: u128 = 0;
    if count <= 5 {
        let mut short: u64 = 0;
        for at in 0..count - 1 {
            short = short * 10_000 + u64::from(digit(at)?);
        }
        units = u128::from(short);
    } else {
        for at in 0..count - 1 {
            units = units.checked_mul(10_000).and_then(|u| u.checked_add(u128::from(digit(at).ok()?))).ok_or(NotDecimal::TooLong)?;
        }
    }
    let last = digit(count - 1)?;
    let (step, last) = match power {
        0.. => (10_000, last),
        -3..0 => {
            let tail = 10u16.pow(power.unsigned_abs());
            if last % tail != 0 {
                return Err(NotDecimal::TooLong);
            }
            (10_000 / tail, last / tail)
        }
        // PostgreSQL leaves no zeros at the end.
        _ => return Err(NotDecimal::TooLong),
    };
    let power = POWERS.get(usize::try_from(power).unwrap_or_default()).ok_or(NotDecimal::TooLong)?;
    let limit = POWERS.get(usize::from(precision)).ok_or(NotDecimal::TooLong)?;
    units
        .checked_mul(u128::from(step))
        .and_then(|u| u.checked_add(u128::from(last)))
        .and_then(|u| u.checked_mul(*power))
        .filter(|u| u < limit)
        .and_then(|u| i128::try_from(u).ok())
        .map(|u| if sign == 0 { u } else { -u })
        .ok_or(NotDecimal::TooLong)
}

/// Appends a numeric as the server spells it; `None` where it isn't one.
pub(crate) fn spell(raw: &[u8], out: &mut String) -> Option<()> {
    let word = |at: usize| raw.get(2 * at..2 * at + 2).map(|b| [b[0], b[1]]);
    let (count, weight) = (u16::from_be_bytes(word(0)?), i32::from(i16::from_be_bytes(word(1)?)));
    let (sign, scale) = (u16::from_be_bytes(word(2)?), usize::from(u16::from_be_bytes(word(3)?)));
    match sign {
        0 => {}
        0x4000 => out.push('-'),
        0xC000 => out.push_str("NaN"),
        0xD000 => out.push_str("Infinity"),
        0xF000 => out.push_str("-Infinity"),
        _ => return None,
    }
    if sign & 0x8000 != 0 {
        return Some(());
    }
    // 14 bits of scale, as numeric_recv has it.
    if raw.len() != 8 + 2 * usize::from(count) || scale > 0x3FFF {
        return None;
    }
    // The digit, of base 10,000, at a place; zeros beyond those that were sent.
    let digit = |place: i32| match usize::try_from(weight - place).ok().and_then(|at| (at < usize::from(count)).then_some(at)) {
        Some(at) => word(4 + at).map(u16::from_be_bytes).filter(|digit| *digit < 10_000),
        None => Some(0),
    };
    if weight < 0 {
        out.push('0');
    }
    for place in (0..=weight).rev() {
        // Writing to a String cannot fail.
        let _ = if place == weight { write!(out, "{}", digit(place)?) } else { write!(out, "{:04}", digit(place)?) };
    }
    if scale > 0 {
        out.push('.');
        let end = out.len() + scale;
        let mut place = -1;
        while out.len() < end {
            let _ = write!(out, "{:04}", digit(place)?);
            place -= 1;
        }
        out.truncate(end);
    }
    Some(())
}

/// Powers of ten, 0 to 38.
const POWERS: [u128; 39] = {
    let mut powers = [1; 39];
    let mut at = 1;
    while at < 39 {
        powers[at] = powers[at - 1] * 10;
        at += 1;
    }
    powers
};

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The binary form, made from the text as PostgreSQL makes it.
    fn binary(text: &str, scale: usize) -> Vec<u8> {
        let (negative, text) = text.strip_prefix('-').map_or((false, text), |t| (true, t));
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let whole = format!("{}{whole}", "0".repeat((4 - whole.len() % 4) % 4));
        let fraction = format!("{fraction}{}", "0".repeat((4 - fraction.len() % 4) % 4));
        let digit = |chunk: &[u8]| std::str::from_utf8(chunk).unwrap().parse::<i16>().unwrap();
        let mut digits: Vec<i16> = whole.as_bytes().chunks(4).chain(fraction.as_bytes().chunks(4)).map(digit).collect();
        let mut weight = (whole.len() / 4) as i16 - 1;
        while digits.first() == Some(&0) {
            digits.remove(0);
            weight -= 1;
        }
        while digits.last() == Some(&0) {
            digits.pop();
        }
        let mut out = Vec::new();
        for word in [digits.len() as i16, if digits.is_empty() { 0 } else { weight }, if negative { 0x4000 } else { 0 }, scale as i16] {
            out.extend(word.to_be_bytes());
        }
        digits.iter().for_each(|d| out.extend(d.to_be_bytes()));
        out
    }

    proptest! {
        #[test]
        fn every_decimal_comes_out_exact(value in -(10i128.pow(38) - 1)..10i128.pow(38), scale in 0u8..=38) {
            let digits = format!("{:0>40}", value.unsigned_abs());
            let (whole, fraction) = digits.split_at(40 - scale as usize);
            let text = format!("{}{whole}.{fraction}", if value < 0 { "-" } else { "" });
            prop_assert_eq!(units(&binary(&text, scale as usize), 38, scale as i8), Ok(value));
        }

        #[test]
        fn every_numeric_is_spelled_as_it_was(whole in "0|[1-9][0-9]{0,60}", fraction in "[0-9]{0,60}", minus in any::<bool>()) {
            let text = if fraction.is_empty() { whole } else { format!("{whole}.{fraction}") };
            let minus = minus && text.contains(|c| ('1'..='9').contains(&c));
            let text = format!("{}{text}", if minus { "-" } else { "" });
            let mut spelled = String::new();
            prop_assert_eq!(spell(&binary(&text, fraction.len()), &mut spelled), Some(()));
            prop_assert_eq!(spelled, text);
        }

        #[test]
        fn garbage_is_no_number_and_no_panic(raw in proptest::collection::vec(any::<u8>(), 0..60), scale in 0i8..38) {
            let _ = units(&raw, 38, scale);
            let _ = spell(&raw, &mut String::new());
        }
    }

    #[test]
    fn what_is_not_a_number_is_told() {
        let nan = [0u8, 0, 0, 0, 0xC0, 0, 0, 0];
        assert_eq!(units(&nan, 38, 18), Err(NotDecimal::NotFinite));
        assert_eq!(units(&binary("12.345", 3), 38, 2), Err(NotDecimal::TooLong));
        assert_eq!(units(&binary("1000", 0), 3, 0), Err(NotDecimal::TooLong));
        assert_eq!(units(&[], 38, 0), Err(NotDecimal::Malformed));
    }
}

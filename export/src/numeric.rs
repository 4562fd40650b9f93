//! PostgreSQL's binary numeric as an integer of units of its last place.

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
    let mut units: i128 = 0;
    for at in 0..count {
        let digit = i128::from(word(4 + at)?);
        if !(0..10_000).contains(&digit) {
            return Err(NotDecimal::Malformed);
        }
        if digit == 0 {
            continue;
        }
        let power = 4 * (weight - at as i32) + i32::from(scale);
        let part = match u32::try_from(power) {
            Ok(power) => 10i128.checked_pow(power).and_then(|p| p.checked_mul(digit)),
            // The last digit's tail lies past the scale; a column's own scale makes it zeros.
            Err(_) => 10i128.checked_pow(power.unsigned_abs()).filter(|p| digit % p == 0).map(|p| digit / p),
        };
        units = part.and_then(|p| units.checked_add(p)).ok_or(NotDecimal::TooLong)?;
    }
    if units >= 10i128.pow(u32::from(precision)) {
        return Err(NotDecimal::TooLong);
    }
    Ok(if sign == 0 { units } else { -units })
}

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
        fn garbage_is_no_number_and_no_panic(raw in proptest::collection::vec(any::<u8>(), 0..60), scale in 0i8..38) {
            let _ = units(&raw, 38, scale);
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

//! `numeric`: a decimal of the scale that the column has, or of one that is asked for; or its text.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use arrow::array::PrimitiveBuilder;
use arrow::datatypes::{DataType, Decimal128Type};
use deltalake_core::kernel::DataType as DeltaType;

use super::codec::{Codec, Mapping, Refused, Spelled, variable};
use super::decimal::{NotDecimal, spell, units};

/// Digits that a decimal may have, in Delta and in most readers.
const MAX_PRECISION: u8 = 38;

/// What a numeric column is written as, whatever the database says of its scale. From text, as `38,18`
/// or `text`:
///
/// ```
/// use hitherto_export::NumericAs;
///
/// assert_eq!("38,18".parse(), Ok(NumericAs::Decimal { precision: 38, scale: 18 }));
/// assert_eq!("text".parse(), Ok(NumericAs::Text));
/// assert!("18,38".parse::<NumericAs>().is_err());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NumericAs {
    /// A decimal. A value that it can't hold exactly is an error; nothing is rounded.
    Decimal {
        /// Digits in all: 1 to 38.
        precision: u8,
        /// Digits after the point: no more than in all.
        scale: u8,
    },
    /// The server's own text, which keeps any number, its trailing zeros, NaN and infinities.
    Text,
}

impl FromStr for NumericAs {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "text" {
            return Ok(Self::Text);
        }
        let numbers = text.split_once(',').and_then(|(p, s)| Some((p.trim().parse().ok()?, s.trim().parse().ok()?)));
        let (precision, scale) = numbers.ok_or("write digits in all and after the point, as 38,18, or the word text")?;
        let decimal = Self::Decimal { precision, scale };
        decimal.check().map(|()| decimal)
    }
}

impl fmt::Display for NumericAs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Decimal { precision, scale } => write!(f, "{precision},{scale}"),
            Self::Text => f.write_str("text"),
        }
    }
}

impl NumericAs {
    pub(crate) fn check(&self) -> Result<(), Refused> {
        match self {
            Self::Decimal { precision: 1..=MAX_PRECISION, scale } if scale <= &MAX_PRECISION && self.holds(*scale) => Ok(()),
            Self::Decimal { .. } => {
                Err(format!("a decimal has 1 to {MAX_PRECISION} digits in all, and no more than those after the point"))
            }
            Self::Text => Ok(()),
        }
    }

    fn holds(&self, scale: u8) -> bool {
        matches!(self, Self::Decimal { precision, .. } if scale <= *precision)
    }
}

/// Finds the place of a numeric with this modifier in `column`, or of what is `wanted` instead.
pub(super) fn numeric(column: &str, modifier: i32, wanted: Option<NumericAs>) -> Result<Arc<dyn Mapping>, Refused> {
    let settle = format!(
        "settle it with --numeric {column}=38,18 (digits in all, digits after the point) or, as exact text, --numeric {column}=text"
    );
    let (precision, scale) = match (wanted, declared(modifier)) {
        (Some(NumericAs::Text), _) => return Ok(Arc::new(TEXT)),
        (Some(NumericAs::Decimal { precision, scale }), _) => (precision, scale),
        (None, Some((precision, scale))) => decimal(precision, scale)
            .ok_or_else(|| format!("numeric({precision},{scale}) does not fit the {MAX_PRECISION} digits of a decimal; {settle}"))?,
        (None, None) => return Err(format!("numeric without precision and scale has no one decimal type; {settle}")),
    };
    Ok(Arc::new(Numeric { precision, scale, column: column.into() }))
}

/// Precision and scale by a modifier, where it names them; see numeric_typmod_scale of PostgreSQL.
fn declared(modifier: i32) -> Option<(i32, i32)> {
    let bits = modifier.checked_sub(4).filter(|bits| *bits >= 0)?;
    Some((bits >> 16 & 0xFFFF, ((bits & 0x7FF) ^ 1024) - 1024))
}

/// The least decimal that holds every numeric of a precision and scale. A negative scale means zeros
/// before the point, and one beyond the precision zeros behind it, which decimals must spell out.
fn decimal(precision: i32, scale: i32) -> Option<(u8, u8)> {
    let digits = u8::try_from((precision - scale.min(0)).max(scale)).ok().filter(|digits| *digits <= MAX_PRECISION)?;
    Some((digits, u8::try_from(scale.max(0)).ok()?))
}

#[derive(Debug)]
struct Numeric {
    precision: u8,
    scale: u8,
    /// For what is told of values that don't fit.
    column: Arc<str>,
}

impl Mapping for Numeric {
    fn arrow(&self) -> DataType {
        DataType::Decimal128(self.precision, self.scale as i8)
    }

    fn delta(&self) -> Result<DeltaType, Refused> {
        DeltaType::decimal(self.precision, self.scale).map_err(|e| e.to_string())
    }

    fn codec(&self) -> Box<dyn Codec> {
        let (precision, scale, column) = (self.precision, self.scale as i8, self.column.clone());
        variable(PrimitiveBuilder::<Decimal128Type>::new().with_data_type(self.arrow()), move |raw| {
            units(raw, precision, scale).map_err(|why| refused(raw, why, precision, scale, &column))
        })
    }
}

#[cold]
fn refused(raw: &[u8], why: NotDecimal, precision: u8, scale: i8, column: &str) -> Refused {
    let mut value = String::new();
    if why == NotDecimal::Malformed || spell(raw, &mut value).is_none() {
        return "the server sent a numeric that is none".to_owned();
    }
    match why {
        NotDecimal::NotFinite => {
            format!(
                "{value} has no place among decimals; in the query, write nullif(x, '{value}'), or keep it as text with --numeric {column}=text"
            )
        }
        _ => {
            if value.len() > 100 {
                value.truncate(100);
                value.push_str("...");
            }
            format!(
                "{value} does not fit decimal({precision},{scale}); name one that it fits with --numeric {column}=PRECISION,SCALE, or --numeric {column}=text"
            )
        }
    }
}

/// A numeric as text.
const TEXT: Spelled =
    Spelled { name: "numeric", spell: |raw, out| spell(raw, out).ok_or_else(|| "the server sent a numeric that is none".to_owned()) };

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modifiers_say_precision_and_scale_negative_and_beyond_included() {
        // As numerictypmodin makes them: ((precision << 16) | (scale & 0x7ff)) + 4.
        let modifier = |precision: i32, scale: i32| (precision << 16 | scale & 0x7FF) + 4;
        assert_eq!(declared(-1), None);
        for (precision, scale, expected) in [
            (38, 18, Some((38, 18))),
            (10, 0, Some((10, 0))),
            (5, -2, Some((7, 0))),
            (2, -36, Some((38, 0))),
            (2, -37, None),
            (3, 5, Some((5, 5))),
            (1, 38, Some((38, 38))),
            (1, 39, None),
            (39, 0, None),
            (1000, -1000, None),
            (1000, 1000, None),
        ] {
            assert_eq!(declared(modifier(precision, scale)), Some((precision, scale)));
            assert_eq!(decimal(precision, scale), expected, "numeric({precision},{scale})");
        }
    }

    #[test]
    fn a_decimal_that_is_none_is_refused() {
        for text in ["0,0", "39,0", "5,6", "5", "5,-1", "decimal", ""] {
            text.parse::<NumericAs>().unwrap_err();
        }
        assert_eq!("20, 0".parse::<NumericAs>().unwrap().to_string(), "20,0");
    }
}

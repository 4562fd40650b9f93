//! `date`, from 4713 BC to 5874897 AD.

use arrow::array::PrimitiveBuilder;
use arrow::datatypes::{DataType, Date32Type};
use deltalake_core::kernel::{DataType as DeltaType, PrimitiveType};

use super::codec::{Codec, Mapping, Refused, fixed};

/// 2000-01-01 in days since 1970: PostgreSQL counts from there.
const EPOCH_DAYS: i32 = 10_957;

#[derive(Debug)]
pub(super) struct Date;

impl Mapping for Date {
    fn arrow(&self) -> DataType {
        DataType::Date32
    }

    fn delta(&self) -> Result<DeltaType, Refused> {
        Ok(DeltaType::Primitive(PrimitiveType::Date))
    }

    fn codec(&self) -> Box<dyn Codec> {
        fixed(PrimitiveBuilder::<Date32Type>::new(), |raw| {
            let days = i32::from_be_bytes(raw);
            // Infinity overflows; minus infinity does not.
            days.checked_add(EPOCH_DAYS).filter(|_| days != i32::MIN).ok_or_else(|| refused(days))
        })
    }
}

#[cold]
fn refused(days: i32) -> Refused {
    let value = match days {
        i32::MAX => "an infinite date (infinity)",
        i32::MIN => "an infinite date (-infinity)",
        _ => return "the server sent a date past its own range".to_owned(),
    };
    format!("{value} has no place among dates; in the query, write nullif(x, '{}infinity') or x::text", if days < 0 { "-" } else { "" })
}

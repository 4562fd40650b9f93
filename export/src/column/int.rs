//! `smallint`, `integer`, `bigint`; `oid`, `xid`, `cid` and `xid8`, which count without a sign.

use arrow::array::PrimitiveBuilder;
use arrow::datatypes::{DataType, Int16Type, Int32Type, Int64Type};
use deltalake_core::kernel::{DataType as DeltaType, PrimitiveType};

use super::codec::{Codec, Mapping, Refused, fixed};

#[derive(Debug)]
pub(super) enum Int {
    Two,
    Four,
    Eight,
    /// Four bytes without a sign, in eight with one: Delta has no unsigned numbers.
    UnsignedFour,
    /// Eight bytes without a sign: `xid8`, whose upper half is 2^31 wraparounds away.
    UnsignedEight,
}

impl Mapping for Int {
    fn arrow(&self) -> DataType {
        match self {
            Self::Two => DataType::Int16,
            Self::Four => DataType::Int32,
            Self::Eight | Self::UnsignedFour | Self::UnsignedEight => DataType::Int64,
        }
    }

    fn delta(&self) -> Result<DeltaType, Refused> {
        Ok(DeltaType::Primitive(match self {
            Self::Two => PrimitiveType::Short,
            Self::Four => PrimitiveType::Integer,
            Self::Eight | Self::UnsignedFour | Self::UnsignedEight => PrimitiveType::Long,
        }))
    }

    fn codec(&self) -> Box<dyn Codec> {
        let long = PrimitiveBuilder::<Int64Type>::new;
        match self {
            Self::Two => fixed(PrimitiveBuilder::<Int16Type>::new(), |raw| Ok(i16::from_be_bytes(raw))),
            Self::Four => fixed(PrimitiveBuilder::<Int32Type>::new(), |raw| Ok(i32::from_be_bytes(raw))),
            Self::Eight => fixed(long(), |raw| Ok(i64::from_be_bytes(raw))),
            Self::UnsignedFour => fixed(long(), |raw| Ok(i64::from(u32::from_be_bytes(raw)))),
            Self::UnsignedEight => fixed(long(), |raw| {
                let value = u64::from_be_bytes(raw);
                i64::try_from(value).map_err(|_| format!("{value} has no place in 64 bits with a sign; in the query, write x::text"))
            }),
        }
    }
}

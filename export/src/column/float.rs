//! `real` and `double precision`: every bit as the server has it, NaN and -0 included.

use arrow::array::PrimitiveBuilder;
use arrow::datatypes::{DataType, Float32Type, Float64Type};
use deltalake_core::kernel::{DataType as DeltaType, PrimitiveType};

use super::codec::{Codec, Mapping, Refused, fixed};

#[derive(Debug)]
pub(super) enum Float {
    Four,
    Eight,
}

impl Mapping for Float {
    fn arrow(&self) -> DataType {
        match self {
            Self::Four => DataType::Float32,
            Self::Eight => DataType::Float64,
        }
    }

    fn delta(&self) -> Result<DeltaType, Refused> {
        Ok(DeltaType::Primitive(match self {
            Self::Four => PrimitiveType::Float,
            Self::Eight => PrimitiveType::Double,
        }))
    }

    fn codec(&self) -> Box<dyn Codec> {
        match self {
            Self::Four => fixed(PrimitiveBuilder::<Float32Type>::new(), |raw| Ok(f32::from_be_bytes(raw))),
            Self::Eight => fixed(PrimitiveBuilder::<Float64Type>::new(), |raw| Ok(f64::from_be_bytes(raw))),
        }
    }
}

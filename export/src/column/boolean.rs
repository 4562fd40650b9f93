//! `boolean`

use arrow::array::BooleanBuilder;
use arrow::datatypes::DataType;
use deltalake_core::kernel::{DataType as DeltaType, PrimitiveType};

use super::codec::{Codec, Flags, Mapping, Refused};

#[derive(Debug)]
pub(super) struct Boolean;

impl Mapping for Boolean {
    fn arrow(&self) -> DataType {
        DataType::Boolean
    }

    fn delta(&self) -> Result<DeltaType, Refused> {
        Ok(DeltaType::Primitive(PrimitiveType::Boolean))
    }

    fn codec(&self) -> Box<dyn Codec> {
        Box::new(Flags(BooleanBuilder::new()))
    }
}

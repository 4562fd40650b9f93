//! `bytea`

use arrow::datatypes::DataType;
use deltalake_core::kernel::{DataType as DeltaType, PrimitiveType};

use super::codec::{Codec, Mapping, Refused, binary};

#[derive(Debug)]
pub(super) struct Bytea;

impl Mapping for Bytea {
    fn arrow(&self) -> DataType {
        DataType::Binary
    }

    fn delta(&self) -> Result<DeltaType, Refused> {
        Ok(DeltaType::Primitive(PrimitiveType::Binary))
    }

    fn codec(&self) -> Box<dyn Codec> {
        binary()
    }
}

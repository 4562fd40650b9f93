//! `json`, `jsonb` and `jsonpath`: the server's own text.

use arrow::datatypes::DataType;
use deltalake_core::kernel::{DataType as DeltaType, PrimitiveType};

use super::codec::{Codec, Mapping, Refused, text};

#[derive(Debug)]
pub(super) enum Json {
    /// `json`: as it was written.
    Written,
    /// `jsonb` and `jsonpath`, which send a version first.
    Versioned,
}

impl Mapping for Json {
    fn arrow(&self) -> DataType {
        DataType::Utf8
    }

    fn delta(&self) -> Result<DeltaType, Refused> {
        Ok(DeltaType::Primitive(PrimitiveType::String))
    }

    fn codec(&self) -> Box<dyn Codec> {
        match self {
            Self::Written => text(|raw| Ok(raw)),
            Self::Versioned => text(|raw| match raw.split_first() {
                Some((1, json)) => Ok(json),
                _ => Err("the server sent JSON of an unknown version".to_owned()),
            }),
        }
    }
}

//! `uuid`: its text, which every reader can join by.

use std::sync::Arc;

use arrow::array::{ArrayRef, StringBuilder};
use arrow::datatypes::DataType;
use deltalake_core::kernel::{DataType as DeltaType, PrimitiveType};

use super::codec::{Codec, Mapping, Refused, RefusedRow, bytes};
use crate::fields::Fields;

#[derive(Debug)]
pub(super) struct Uuid;

impl Mapping for Uuid {
    fn arrow(&self) -> DataType {
        DataType::Utf8
    }

    fn delta(&self) -> Result<DeltaType, Refused> {
        Ok(DeltaType::Primitive(PrimitiveType::String))
    }

    fn codec(&self) -> Box<dyn Codec> {
        Box::new(Uuids(StringBuilder::new()))
    }
}

struct Uuids(StringBuilder);

impl Codec for Uuids {
    fn append(&mut self, raw: &[u8]) -> Result<(), Refused> {
        let mut buffer = uuid::Uuid::encode_buffer();
        self.0.append_value(uuid::Uuid::from_bytes(bytes(raw)?).hyphenated().encode_lower(&mut buffer));
        Ok(())
    }

    fn append_null(&mut self) {
        self.0.append_null();
    }

    /// One id often stands in many rows, one after the other: its text is made once.
    fn append_column(&mut self, fields: &Fields<'_>) -> Result<(), RefusedRow> {
        let mut last = uuid::Uuid::nil();
        let mut buffer = uuid::Uuid::encode_buffer();
        let mut text: &str = last.hyphenated().encode_lower(&mut buffer);
        for (row, raw) in fields.iter().enumerate() {
            let Some(raw) = raw else {
                self.0.append_null();
                continue;
            };
            let id = uuid::Uuid::from_bytes(bytes(raw).map_err(|why| RefusedRow { row, why })?);
            if id != last {
                last = id;
                text = last.hyphenated().encode_lower(&mut buffer);
            }
            self.0.append_value(text);
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<ArrayRef, Refused> {
        Ok(Arc::new(self.0.finish()))
    }
}

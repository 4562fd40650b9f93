//! Texts of which there are few: enums, and columns that the dataset names. Each distinct word is kept once.

use std::sync::Arc;

use arrow::array::{ArrayRef, StringDictionaryBuilder};
use arrow::datatypes::{DataType, Int32Type};
use deltalake_core::kernel::{DataType as DeltaType, PrimitiveType};

use super::codec::{Codec, Mapping, Refused, RefusedRow, utf8};
use crate::fields::Fields;

#[derive(Debug)]
pub(super) struct Words;

impl Mapping for Words {
    fn arrow(&self) -> DataType {
        DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8))
    }

    fn delta(&self) -> Result<DeltaType, Refused> {
        Ok(DeltaType::Primitive(PrimitiveType::String))
    }

    fn codec(&self) -> Box<dyn Codec> {
        Box::new(Dictionary(StringDictionaryBuilder::new()))
    }
}

struct Dictionary(StringDictionaryBuilder<Int32Type>);

impl Dictionary {
    fn append_n(&mut self, raw: &[u8], count: usize) -> Result<(), Refused> {
        self.0.append_n(utf8(raw)?, count).map(drop).map_err(|e| e.to_string())
    }
}

impl Codec for Dictionary {
    fn append(&mut self, raw: &[u8]) -> Result<(), Refused> {
        self.append_n(raw, 1)
    }

    fn append_null(&mut self) {
        self.0.append_null();
    }

    /// Looks a value up once for a stretch of rows that have it.
    fn append_column(&mut self, fields: &Fields<'_>) -> Result<(), RefusedRow> {
        let mut fields = fields.iter().peekable();
        let mut row = 0;
        while let Some(raw) = fields.next() {
            let mut count = 1;
            while fields.next_if_eq(&raw).is_some() {
                count += 1;
            }
            match raw {
                Some(raw) => self.append_n(raw, count).map_err(|why| RefusedRow { row, why })?,
                None => self.0.append_nulls(count),
            }
            row += count;
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<ArrayRef, Refused> {
        Ok(Arc::new(self.0.finish()))
    }
}

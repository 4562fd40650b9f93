//! `text`, `varchar`, `bpchar`, `name`, and `"char"`.
//!
//! A `bpchar(n)` keeps the blanks that the server pads it with, as its driver and `COPY` show it.

use std::fmt::Write as _;

use arrow::datatypes::DataType;
use deltalake_core::kernel::{DataType as DeltaType, PrimitiveType};

use super::codec::{Codec, Mapping, Refused, Spelled, bytes, text};

#[derive(Debug)]
pub(super) struct Text;

impl Mapping for Text {
    fn arrow(&self) -> DataType {
        DataType::Utf8
    }

    fn delta(&self) -> Result<DeltaType, Refused> {
        Ok(DeltaType::Primitive(PrimitiveType::String))
    }

    fn codec(&self) -> Box<dyn Codec> {
        text(|raw| Ok(raw))
    }
}

/// One byte: 0 is shown as an empty text, and one past ASCII by its number, such as `\203`.
pub(super) const CHAR: Spelled = Spelled { name: "\"char\"", spell: spell_char };

fn spell_char(raw: &[u8], out: &mut String) -> Result<(), Refused> {
    match bytes(raw)? {
        [0] => {}
        [byte] if byte.is_ascii() => out.push(char::from(byte)),
        [byte] => {
            // Writing to a String cannot fail.
            let _ = write!(out, "\\{byte:03o}");
        }
    }
    Ok(())
}

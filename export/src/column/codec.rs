//! What a mapping is, and what collects a column's values.

use std::fmt::Debug;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, ArrowPrimitiveType, BinaryArray, BinaryBuilder, BooleanBuilder, PrimitiveBuilder, StringArray, StringBuilder,
};
use arrow::datatypes::DataType;
use deltalake_core::kernel::{DataType as DeltaType, PrimitiveType};

use crate::fields::Fields;

/// Why a type or a value was refused; whoever knows adds dataset, column and row.
pub(crate) type Refused = String;

/// What a column is written to. A few types have a place in a file's schema and none in Delta's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    File,
    Lake,
}

/// How the values of one PostgreSQL type are written.
pub(crate) trait Mapping: Debug + Send + Sync {
    /// Its type in the Parquet file.
    fn arrow(&self) -> DataType;

    /// Its type in the Delta table.
    fn delta(&self) -> Result<DeltaType, Refused>;

    /// What decodes its values.
    fn codec(&self) -> Box<dyn Codec>;
}

/// A value of a block of rows that was refused.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct RefusedRow {
    /// Which row of the block, from 0.
    pub(crate) row: usize,
    pub(crate) why: Refused,
}

/// Collects a column's values, or those of a part of it.
pub(crate) trait Codec: Send {
    /// Appends a field of a binary COPY.
    fn append(&mut self, raw: &[u8]) -> Result<(), Refused>;

    /// Appends a NULL.
    fn append_null(&mut self);

    /// Appends a column's fields of a block of rows; in a tight loop, where a type has one.
    fn append_column(&mut self, fields: &Fields<'_>) -> Result<(), RefusedRow> {
        for (row, raw) in fields.iter().enumerate() {
            match raw {
                Some(raw) => self.append(raw).map_err(|why| RefusedRow { row, why })?,
                None => self.append_null(),
            }
        }
        Ok(())
    }

    /// The values so far; the codec starts anew.
    fn finish(&mut self) -> Result<ArrayRef, Refused>;
}

/// Values of one width in memory, whatever width they have on the wire.
pub(crate) struct Primitive<T: ArrowPrimitiveType, F> {
    builder: PrimitiveBuilder<T>,
    decode: F,
}

/// Decodes values of `N` bytes.
pub(crate) fn fixed<const N: usize, T: ArrowPrimitiveType>(
    builder: PrimitiveBuilder<T>,
    decode: impl Fn([u8; N]) -> Result<T::Native, Refused> + Send + 'static,
) -> Box<dyn Codec> {
    variable(builder, move |raw| decode(bytes(raw)?))
}

/// Decodes values of any length.
pub(crate) fn variable<T, F>(builder: PrimitiveBuilder<T>, decode: F) -> Box<dyn Codec>
where
    T: ArrowPrimitiveType,
    F: Fn(&[u8]) -> Result<T::Native, Refused> + Send + 'static,
{
    Box::new(Primitive { builder, decode })
}

impl<T, F> Codec for Primitive<T, F>
where
    T: ArrowPrimitiveType,
    F: Fn(&[u8]) -> Result<T::Native, Refused> + Send,
{
    fn append(&mut self, raw: &[u8]) -> Result<(), Refused> {
        self.builder.append_value((self.decode)(raw)?);
        Ok(())
    }

    fn append_null(&mut self) {
        self.builder.append_null();
    }

    fn append_column(&mut self, fields: &Fields<'_>) -> Result<(), RefusedRow> {
        let mut values = Vec::with_capacity(fields.len());
        // Empty until there is a NULL.
        let mut valid: Vec<bool> = Vec::new();
        for raw in fields.iter() {
            match raw {
                Some(raw) => {
                    values.push((self.decode)(raw).map_err(|why| RefusedRow { row: values.len(), why })?);
                    if !valid.is_empty() {
                        valid.push(true);
                    }
                }
                None => {
                    if valid.is_empty() {
                        valid.reserve(fields.len());
                        valid.resize(values.len(), true);
                    }
                    valid.push(false);
                    values.push(T::Native::default());
                }
            }
        }
        if valid.is_empty() {
            self.builder.append_slice(&values);
        } else {
            self.builder.append_values(&values, &valid);
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<ArrayRef, Refused> {
        Ok(Arc::new(self.builder.finish()))
    }
}

/// Values that are kept as the server sends them, or a part of what it sends.
pub(crate) struct Bytes<F> {
    builder: BinaryBuilder,
    part: F,
    finish: fn(BinaryArray) -> Result<ArrayRef, Refused>,
}

/// Takes each value as bytes.
pub(crate) fn binary() -> Box<dyn Codec> {
    kept(|raw| Ok(raw), |bytes| Ok(Arc::new(bytes)))
}

/// Takes a part of each value as text; all of them are checked at once, at the end.
pub(crate) fn text(part: impl Fn(&[u8]) -> Result<&[u8], Refused> + Send + 'static) -> Box<dyn Codec> {
    kept(part, |bytes| match StringArray::try_from_binary(bytes) {
        Ok(texts) => Ok(Arc::new(texts)),
        Err(e) => Err(not_utf8(e)),
    })
}

fn kept<F>(part: F, finish: fn(BinaryArray) -> Result<ArrayRef, Refused>) -> Box<dyn Codec>
where
    F: Fn(&[u8]) -> Result<&[u8], Refused> + Send + 'static,
{
    Box::new(Bytes { builder: BinaryBuilder::new(), part, finish })
}

impl<F: Fn(&[u8]) -> Result<&[u8], Refused> + Send> Codec for Bytes<F> {
    fn append(&mut self, raw: &[u8]) -> Result<(), Refused> {
        self.builder.append_value((self.part)(raw)?);
        Ok(())
    }

    fn append_null(&mut self) {
        self.builder.append_null();
    }

    fn finish(&mut self) -> Result<ArrayRef, Refused> {
        (self.finish)(self.builder.finish())
    }
}

/// A type whose values are written as text, spelled as the server spells them.
#[derive(Clone, Copy)]
pub(crate) struct Spelled {
    pub(crate) name: &'static str,
    pub(crate) spell: Spell,
}

/// Appends a value's text.
pub(crate) type Spell = fn(&[u8], &mut String) -> Result<(), Refused>;

impl Debug for Spelled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Spelled({})", self.name)
    }
}

impl Mapping for Spelled {
    fn arrow(&self) -> DataType {
        DataType::Utf8
    }

    fn delta(&self) -> Result<DeltaType, Refused> {
        Ok(DeltaType::Primitive(PrimitiveType::String))
    }

    fn codec(&self) -> Box<dyn Codec> {
        Box::new(Speller { builder: StringBuilder::new(), spell: self.spell, text: String::new() })
    }
}

struct Speller {
    builder: StringBuilder,
    spell: Spell,
    /// Kept for its memory.
    text: String,
}

impl Codec for Speller {
    fn append(&mut self, raw: &[u8]) -> Result<(), Refused> {
        self.text.clear();
        (self.spell)(raw, &mut self.text)?;
        self.builder.append_value(&self.text);
        Ok(())
    }

    fn append_null(&mut self) {
        self.builder.append_null();
    }

    fn finish(&mut self) -> Result<ArrayRef, Refused> {
        Ok(Arc::new(self.builder.finish()))
    }
}

/// Yes and no.
pub(crate) struct Flags(pub(crate) BooleanBuilder);

impl Codec for Flags {
    fn append(&mut self, raw: &[u8]) -> Result<(), Refused> {
        let [flag] = bytes(raw)?;
        self.0.append_value(flag != 0);
        Ok(())
    }

    fn append_null(&mut self) {
        self.0.append_null();
    }

    fn finish(&mut self) -> Result<ArrayRef, Refused> {
        Ok(Arc::new(self.0.finish()))
    }
}

/// The bytes of a value that has `N` of them.
pub(crate) fn bytes<const N: usize>(raw: &[u8]) -> Result<[u8; N], Refused> {
    match raw.try_into() {
        Ok(bytes) => Ok(bytes),
        Err(_) => Err(wrong_length(raw.len(), N)),
    }
}

#[cold]
fn wrong_length(is: usize, should: usize) -> Refused {
    format!("the server sent {is} bytes, not {should}")
}

/// A value as UTF-8.
pub(crate) fn utf8(raw: &[u8]) -> Result<&str, Refused> {
    std::str::from_utf8(raw).map_err(not_utf8)
}

#[cold]
fn not_utf8(error: impl std::fmt::Display) -> Refused {
    format!("a text is not UTF-8: {error}")
}

/// What a value of several parts consists of, part by part.
pub(crate) struct Parts<'a>(pub(crate) &'a [u8]);

impl<'a> Parts<'a> {
    /// The next `N` bytes.
    pub(crate) fn next<const N: usize>(&mut self) -> Result<[u8; N], Refused> {
        let (head, tail) = self.0.split_first_chunk().ok_or_else(cut_short)?;
        self.0 = tail;
        Ok(*head)
    }

    /// The next number.
    pub(crate) fn number(&mut self) -> Result<i32, Refused> {
        self.next().map(i32::from_be_bytes)
    }

    /// The next value, which has its length before it; `None` for NULL.
    pub(crate) fn value(&mut self) -> Result<Option<&'a [u8]>, Refused> {
        let Ok(length) = usize::try_from(self.number()?) else { return Ok(None) };
        let (head, tail) = self.0.split_at_checked(length).ok_or_else(cut_short)?;
        self.0 = tail;
        Ok(Some(head))
    }

    /// Makes sure that nothing is left.
    pub(crate) fn end(&self) -> Result<(), Refused> {
        if self.0.is_empty() { Ok(()) } else { Err(format!("the server sent {} bytes too many", self.0.len())) }
    }
}

#[cold]
fn cut_short() -> Refused {
    "the server sent a value that is cut short".to_owned()
}

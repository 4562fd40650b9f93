//! Columns: which PostgreSQL type becomes which Arrow and Delta type, and the builders.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, ArrowPrimitiveType, BinaryArray, BinaryBuilder, BooleanBuilder, Date32Builder, Decimal128Builder, Float32Builder,
    Float64Builder, Int16Builder, Int32Builder, Int64Builder, ListBuilder, PrimitiveBuilder, StringArray, StringBuilder,
    StringDictionaryBuilder, TimestampMicrosecondBuilder,
};
use arrow::datatypes::{DataType, Field, Int32Type, TimeUnit};
use deltalake_core::kernel::{ArrayType, DataType as DeltaType, PrimitiveType, StructField};
use postgres_types::{Kind, Type};
use tokio_postgres::Column as PgColumn;

use crate::error::{ExportError, ExportErrorKind, Result};
use crate::fields::Fields;
use crate::numeric::{NotDecimal, units};

/// 2000-01-01 in microseconds and days since 1970: PostgreSQL counts from there.
const EPOCH_MICROS: i64 = 946_684_800_000_000;
const EPOCH_DAYS: i32 = 10_957;

/// What a column is decoded as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Bool,
    Int2,
    Int4,
    Int8,
    Float4,
    Float8,
    Numeric(u8, i8),
    Text,
    Dictionary,
    Bytea,
    Timestamptz,
    Timestamp,
    Date,
    Uuid,
    Json,
    Jsonb,
    TextArray,
}

/// A column of a dataset.
#[derive(Debug, Clone)]
pub(crate) struct Column {
    pub(crate) name: String,
    form: Form,
}

impl Column {
    /// Finds the exact place of a result column, or says why it has none.
    pub(crate) fn new(dataset: &str, column: &PgColumn, dictionary: bool) -> Result<Self> {
        let refuse = |why: String| {
            let message = format!("{dataset}.{}: {why}", column.name());
            Err(ExportError::new(ExportErrorKind::Unsupported, message))
        };
        let form = match *column.type_() {
            Type::BOOL => Form::Bool,
            Type::INT2 => Form::Int2,
            Type::INT4 => Form::Int4,
            Type::INT8 => Form::Int8,
            Type::FLOAT4 => Form::Float4,
            Type::FLOAT8 => Form::Float8,
            // The modifier is (precision << 16 | scale) + 4; see numerictypmodin.
            Type::NUMERIC => match column.type_modifier() {
                modifier if modifier < 4 => {
                    return refuse(
                        "numeric without precision and scale has no exact Parquet type; cast it, e.g. to numeric(38,18)".to_owned(),
                    );
                }
                modifier => {
                    let (precision, scale) = ((modifier - 4) >> 16 & 0xFFFF, (modifier - 4) & 0x7FF);
                    match (u8::try_from(precision), i8::try_from(scale)) {
                        (Ok(p), Ok(s)) if p <= 38 && (0..=38).contains(&s) && s as u8 <= p => Form::Numeric(p, s),
                        _ => {
                            return refuse(format!("numeric({precision},{scale}) does not fit 38 digits; cast it, e.g. to numeric(38,18)"));
                        }
                    }
                }
            },
            Type::TEXT | Type::VARCHAR | Type::BPCHAR | Type::NAME if dictionary => Form::Dictionary,
            Type::TEXT | Type::VARCHAR | Type::BPCHAR | Type::NAME => Form::Text,
            Type::BYTEA => Form::Bytea,
            Type::TIMESTAMPTZ => Form::Timestamptz,
            Type::TIMESTAMP => Form::Timestamp,
            Type::DATE => Form::Date,
            Type::UUID => Form::Uuid,
            Type::JSON => Form::Json,
            Type::JSONB => Form::Jsonb,
            Type::TEXT_ARRAY | Type::VARCHAR_ARRAY => Form::TextArray,
            _ if matches!(column.type_().kind(), Kind::Enum(_)) => Form::Dictionary,
            _ => return refuse(format!("type {} has no exact Parquet type here; cast it, e.g. to text", column.type_().name())),
        };
        Ok(Self { name: column.name().to_owned(), form })
    }

    pub(crate) fn is_timestamptz(&self) -> bool {
        self.form == Form::Timestamptz
    }

    /// The Arrow field.
    pub(crate) fn field(&self) -> Field {
        let data_type = match self.form {
            Form::Bool => DataType::Boolean,
            Form::Int2 => DataType::Int16,
            Form::Int4 => DataType::Int32,
            Form::Int8 => DataType::Int64,
            Form::Float4 => DataType::Float32,
            Form::Float8 => DataType::Float64,
            Form::Numeric(precision, scale) => DataType::Decimal128(precision, scale),
            Form::Text | Form::Uuid | Form::Json | Form::Jsonb => DataType::Utf8,
            Form::Dictionary => DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8)),
            Form::Bytea => DataType::Binary,
            // Parquet knows instants; a timestamp without zone is taken as UTC, as Delta's is.
            Form::Timestamptz | Form::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            Form::Date => DataType::Date32,
            Form::TextArray => DataType::List(Arc::new(Field::new("item", DataType::Utf8, true))),
        };
        Field::new(&self.name, data_type, true)
    }

    /// The Delta field.
    pub(crate) fn delta_field(&self) -> Result<StructField> {
        let primitive = DeltaType::Primitive;
        let data_type = match self.form {
            Form::Bool => primitive(PrimitiveType::Boolean),
            Form::Int2 => primitive(PrimitiveType::Short),
            Form::Int4 => primitive(PrimitiveType::Integer),
            Form::Int8 => primitive(PrimitiveType::Long),
            Form::Float4 => primitive(PrimitiveType::Float),
            Form::Float8 => primitive(PrimitiveType::Double),
            Form::Numeric(precision, scale) => DeltaType::decimal(precision, scale as u8).map_err(|e| ExportError::lake(&self.name, e))?,
            Form::Text | Form::Dictionary | Form::Uuid | Form::Json | Form::Jsonb => primitive(PrimitiveType::String),
            Form::Bytea => primitive(PrimitiveType::Binary),
            Form::Timestamptz | Form::Timestamp => primitive(PrimitiveType::Timestamp),
            Form::Date => primitive(PrimitiveType::Date),
            Form::TextArray => DeltaType::Array(Box::new(ArrayType::new(primitive(PrimitiveType::String), true))),
        };
        Ok(StructField::new(&self.name, data_type, true))
    }

    pub(crate) fn builder(&self) -> Builder {
        let zoned = || TimestampMicrosecondBuilder::new().with_timezone("UTC");
        let values = match self.form {
            Form::Bool => Values::Bool(BooleanBuilder::new()),
            Form::Int2 => Values::Int2(Int16Builder::new()),
            Form::Int4 => Values::Int4(Int32Builder::new()),
            Form::Int8 => Values::Int8(Int64Builder::new()),
            Form::Float4 => Values::Float4(Float32Builder::new()),
            Form::Float8 => Values::Float8(Float64Builder::new()),
            Form::Numeric(precision, scale) => Values::Numeric(
                Decimal128Builder::new()
                    .with_precision_and_scale(precision, scale)
                    .expect("precision and scale were checked when the column was made"),
                precision,
                scale,
            ),
            Form::Text | Form::Json => Values::Text(BinaryBuilder::new()),
            Form::Jsonb => Values::Jsonb(BinaryBuilder::new()),
            Form::Dictionary => Values::Dictionary(StringDictionaryBuilder::new()),
            Form::Bytea => Values::Bytea(BinaryBuilder::new()),
            Form::Timestamptz | Form::Timestamp => Values::Time(zoned()),
            Form::Date => Values::Date(Date32Builder::new()),
            Form::Uuid => Values::Uuid(StringBuilder::new()),
            Form::TextArray => Values::TextArray(ListBuilder::new(StringBuilder::new())),
        };
        Builder { values }
    }
}

/// Collects a column's values.
pub(crate) struct Builder {
    values: Values,
}

enum Values {
    Bool(BooleanBuilder),
    Int2(Int16Builder),
    Int4(Int32Builder),
    Int8(Int64Builder),
    Float4(Float32Builder),
    Float8(Float64Builder),
    Numeric(Decimal128Builder, u8, i8),
    /// Bytes until [`Builder::finish`] checks them all at once.
    Text(BinaryBuilder),
    Jsonb(BinaryBuilder),
    Dictionary(StringDictionaryBuilder<Int32Type>),
    Bytea(BinaryBuilder),
    Time(TimestampMicrosecondBuilder),
    Date(Date32Builder),
    Uuid(StringBuilder),
    TextArray(ListBuilder<StringBuilder>),
}

/// Why a value was refused; the reader adds dataset and column.
pub(crate) type Refused = String;

impl Builder {
    /// Appends a column's fields of a block of rows: in a tight loop where the type has one, one by one
    /// where it has none or a value is not plain.
    pub(crate) fn append_column(&mut self, fields: &Fields<'_>) -> Result<(), Refused> {
        let done = match &mut self.values {
            Values::Int2(b) => fixed_column(b, fields, |raw| Some(i16::from_be_bytes(raw))),
            Values::Int4(b) => fixed_column(b, fields, |raw| Some(i32::from_be_bytes(raw))),
            Values::Int8(b) => fixed_column(b, fields, |raw| Some(i64::from_be_bytes(raw))),
            Values::Float4(b) => fixed_column(b, fields, |raw| Some(f32::from_be_bytes(raw))),
            Values::Float8(b) => fixed_column(b, fields, |raw| Some(f64::from_be_bytes(raw))),
            // Infinity overflows here; minus infinity does not.
            Values::Time(b) => {
                fixed_column(b, fields, |raw| Some(i64::from_be_bytes(raw)).filter(|micros| *micros != i64::MIN)?.checked_add(EPOCH_MICROS))
            }
            Values::Date(b) => {
                fixed_column(b, fields, |raw| Some(i32::from_be_bytes(raw)).filter(|days| *days != i32::MIN)?.checked_add(EPOCH_DAYS))
            }
            Values::Numeric(b, precision, scale) => {
                let (precision, scale) = (*precision, *scale);
                plain_column(b, fields, |raw| units(raw, precision, scale).ok())
            }
            Values::Text(b) => bytes_column(b, fields, |raw| Some(raw)),
            Values::Jsonb(b) => bytes_column(b, fields, json),
            Values::Bytea(b) => bytes_column(b, fields, |raw| Some(raw)),
            Values::Uuid(b) => uuid_column(b, fields),
            Values::Dictionary(b) => return dictionary_column(b, fields),
            Values::Bool(_) | Values::TextArray(_) => 0,
        };
        fields.iter().skip(done).try_for_each(|raw| self.append(raw))
    }

    /// Appends a field of a binary COPY: its bytes, `None` for NULL.
    pub(crate) fn append(&mut self, raw: Option<&[u8]>) -> Result<(), Refused> {
        let Some(raw) = raw else {
            self.append_null();
            return Ok(());
        };
        match &mut self.values {
            Values::Bool(b) => b.append_value(fixed::<1>(raw)?[0] != 0),
            Values::Int2(b) => b.append_value(i16::from_be_bytes(fixed(raw)?)),
            Values::Int4(b) => b.append_value(i32::from_be_bytes(fixed(raw)?)),
            Values::Int8(b) => b.append_value(i64::from_be_bytes(fixed(raw)?)),
            Values::Float4(b) => b.append_value(f32::from_be_bytes(fixed(raw)?)),
            Values::Float8(b) => b.append_value(f64::from_be_bytes(fixed(raw)?)),
            Values::Numeric(b, precision, scale) => b.append_value(units(raw, *precision, *scale).map_err(|why| match why {
                NotDecimal::NotFinite => "NaN or infinity has no decimal".to_owned(),
                NotDecimal::TooLong => format!("a value does not fit decimal({precision},{scale})"),
                NotDecimal::Malformed => "a value is not numeric".to_owned(),
            })?),
            Values::Text(b) => b.append_value(raw),
            Values::Jsonb(b) => b.append_value(json(raw).ok_or("jsonb of an unknown version")?),
            Values::Dictionary(b) => {
                b.append(text(raw)?).map_err(|e| e.to_string())?;
            }
            Values::Bytea(b) => b.append_value(raw),
            Values::Time(b) => match i64::from_be_bytes(fixed(raw)?) {
                i64::MAX | i64::MIN => return Err("an infinite time has no timestamp".to_owned()),
                micros => b.append_value(micros.checked_add(EPOCH_MICROS).ok_or("a time is out of range")?),
            },
            Values::Date(b) => match i32::from_be_bytes(fixed(raw)?) {
                i32::MAX | i32::MIN => return Err("an infinite date has no place".to_owned()),
                days => b.append_value(days.checked_add(EPOCH_DAYS).ok_or("a date is out of range")?),
            },
            Values::Uuid(b) => {
                let mut buffer = uuid::Uuid::encode_buffer();
                b.append_value(uuid::Uuid::from_bytes(fixed(raw)?).hyphenated().encode_lower(&mut buffer));
            }
            Values::TextArray(b) => {
                text_array(raw, b.values())?;
                b.append(true);
            }
        }
        Ok(())
    }

    fn append_null(&mut self) {
        match &mut self.values {
            Values::Bool(b) => b.append_null(),
            Values::Int2(b) => b.append_null(),
            Values::Int4(b) => b.append_null(),
            Values::Int8(b) => b.append_null(),
            Values::Float4(b) => b.append_null(),
            Values::Float8(b) => b.append_null(),
            Values::Numeric(b, ..) => b.append_null(),
            Values::Text(b) | Values::Jsonb(b) | Values::Bytea(b) => b.append_null(),
            Values::Uuid(b) => b.append_null(),
            Values::Dictionary(b) => b.append_null(),
            Values::Time(b) => b.append_null(),
            Values::Date(b) => b.append_null(),
            Values::TextArray(b) => b.append_null(),
        }
    }

    /// The values so far; the builder starts anew.
    pub(crate) fn finish(&mut self) -> Result<ArrayRef, Refused> {
        Ok(match &mut self.values {
            Values::Bool(b) => Arc::new(b.finish()),
            Values::Int2(b) => Arc::new(b.finish()),
            Values::Int4(b) => Arc::new(b.finish()),
            Values::Int8(b) => Arc::new(b.finish()),
            Values::Float4(b) => Arc::new(b.finish()),
            Values::Float8(b) => Arc::new(b.finish()),
            Values::Numeric(b, ..) => Arc::new(b.finish()),
            Values::Text(b) | Values::Jsonb(b) => Arc::new(texts(b.finish())?),
            Values::Uuid(b) => Arc::new(b.finish()),
            Values::Dictionary(b) => Arc::new(b.finish()),
            Values::Bytea(b) => Arc::new(b.finish()),
            Values::Time(b) => Arc::new(b.finish()),
            Values::Date(b) => Arc::new(b.finish()),
            Values::TextArray(b) => Arc::new(b.finish()),
        })
    }
}

/// Appends fields of `N` bytes up to the first that `decode` does not take; gives how many.
fn fixed_column<const N: usize, T: ArrowPrimitiveType>(
    builder: &mut PrimitiveBuilder<T>,
    fields: &Fields<'_>,
    decode: impl Fn([u8; N]) -> Option<T::Native>,
) -> usize {
    plain_column(builder, fields, |raw| raw.try_into().ok().and_then(&decode))
}

/// Appends fields up to the first that `decode` does not take; gives how many.
fn plain_column<T: ArrowPrimitiveType>(
    builder: &mut PrimitiveBuilder<T>,
    fields: &Fields<'_>,
    decode: impl Fn(&[u8]) -> Option<T::Native>,
) -> usize {
    let mut values = Vec::with_capacity(fields.len());
    // Empty until there is a NULL.
    let mut valid: Vec<bool> = Vec::new();
    for raw in fields.iter() {
        let value = match raw {
            Some(raw) => match decode(raw) {
                Some(value) => value,
                None => break,
            },
            None => {
                if valid.is_empty() {
                    valid.reserve(fields.len());
                    valid.resize(values.len(), true);
                }
                valid.push(false);
                values.push(T::Native::default());
                continue;
            }
        };
        values.push(value);
        if !valid.is_empty() {
            valid.push(true);
        }
    }
    if valid.is_empty() {
        builder.append_slice(&values)
    } else {
        builder.append_values(&values, &valid)
    }
    values.len()
}

/// Appends fields as bytes, up to the first that `part` does not take; gives how many.
fn bytes_column(builder: &mut BinaryBuilder, fields: &Fields<'_>, part: impl Fn(&[u8]) -> Option<&[u8]>) -> usize {
    for (at, raw) in fields.iter().enumerate() {
        match raw.map(&part) {
            Some(Some(value)) => builder.append_value(value),
            Some(None) => return at,
            None => builder.append_null(),
        }
    }
    fields.len()
}

/// One id often stands in many rows, one after the other: its text is made once.
fn uuid_column(builder: &mut StringBuilder, fields: &Fields<'_>) -> usize {
    let mut last = uuid::Uuid::nil();
    let mut buffer = uuid::Uuid::encode_buffer();
    let mut text: &str = last.hyphenated().encode_lower(&mut buffer);
    for (at, raw) in fields.iter().enumerate() {
        match raw.map(uuid::Uuid::from_slice) {
            Some(Ok(id)) => {
                if id != last {
                    last = id;
                    text = last.hyphenated().encode_lower(&mut buffer);
                }
                builder.append_value(text);
            }
            Some(Err(_)) => return at,
            None => builder.append_null(),
        }
    }
    fields.len()
}

/// Looks a value up once for a stretch of rows that have it.
fn dictionary_column(builder: &mut StringDictionaryBuilder<Int32Type>, fields: &Fields<'_>) -> Result<(), Refused> {
    let mut fields = fields.iter().peekable();
    while let Some(raw) = fields.next() {
        let mut count = 1;
        while fields.next_if_eq(&raw).is_some() {
            count += 1;
        }
        match raw {
            Some(raw) => {
                builder.append_n(text(raw)?, count).map_err(|e| e.to_string())?;
            }
            None => builder.append_nulls(count),
        }
    }
    Ok(())
}

/// What a jsonb holds behind its version.
fn json(raw: &[u8]) -> Option<&[u8]> {
    raw.split_first().filter(|(version, _)| **version == 1).map(|(_, json)| json)
}

fn texts(bytes: BinaryArray) -> Result<StringArray, Refused> {
    StringArray::try_from_binary(bytes).map_err(|e| format!("a text is not UTF-8: {e}"))
}

fn fixed<const N: usize>(raw: &[u8]) -> Result<[u8; N], Refused> {
    raw.try_into().map_err(|_| format!("a value has {} bytes, not {N}", raw.len()))
}

fn text(raw: &[u8]) -> Result<&str, Refused> {
    std::str::from_utf8(raw).map_err(|e| format!("a text is not UTF-8: {e}"))
}

/// A one-dimensional array of texts; see array_send.
fn text_array(raw: &[u8], values: &mut StringBuilder) -> Result<(), Refused> {
    let word = |at: usize| raw.get(at..at + 4).map(|b| i32::from_be_bytes([b[0], b[1], b[2], b[3]])).ok_or("an array is cut short");
    match word(0)? {
        0 => return Ok(()),
        1 => {}
        dimensions => return Err(format!("an array has {dimensions} dimensions, not one")),
    }
    let mut at = 20;
    for _ in 0..word(12)? {
        let length = word(at)?;
        at += 4;
        match usize::try_from(length) {
            Ok(length) => {
                values.append_value(text(raw.get(at..at + length).ok_or("an array is cut short")?)?);
                at += length;
            }
            Err(_) => values.append_null(),
        }
    }
    Ok(())
}

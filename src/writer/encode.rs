//! Records in PostgreSQL's binary form.
//!
//! A field is a length and its bytes, whether it goes into a binary COPY, row by row, or into the
//! arrays of an INSERT ... FROM unnest, column by column: one encoding serves both.

use bytes::{BufMut, BytesMut};
use chrono::{DateTime, Utc};
use postgres_types::{IsNull, ToSql, Type};

use crate::records::{Decimal, Fields, Json, Kind, Record, numeric_field};

/// 2000-01-01 00:00 UTC in microseconds since 1970: PostgreSQL counts from there.
const EPOCH_MICROS: i64 = 946_684_800_000_000;

/// The length of a NULL.
const NULL: [u8; 4] = (-1i32).to_be_bytes();

/// Bytes that grow at their end. They are made larger ahead of what goes in, so that a short field costs one
/// comparison and one write of a known length.
#[derive(Debug, Default)]
pub(super) struct Out {
    bytes: BytesMut,
    /// How many of them are written.
    written: usize,
}

/// Bytes that are made at once, at least.
const MORE: usize = 4 << 10;

impl Out {
    /// Goes on in a buffer that was used before: what is in it is written over.
    pub(super) fn reuse(bytes: BytesMut) -> Self {
        Self { bytes, written: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.written
    }

    pub(super) fn clear(&mut self) {
        self.written = 0;
    }

    /// What is written, and nothing behind it.
    pub(super) fn take(&mut self) -> BytesMut {
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.truncate(std::mem::take(&mut self.written));
        bytes
    }

    pub(super) fn written(&self) -> &[u8] {
        &self.bytes[..self.written]
    }

    /// Writes `bytes`, of which the first `count` count: one write whose length the compiler knows.
    #[inline]
    pub(super) fn put<const N: usize>(&mut self, bytes: &[u8; N], count: usize) {
        let end = self.written + N;
        if self.bytes.len() < end {
            self.grow(end);
        }
        self.bytes[self.written..end].copy_from_slice(bytes);
        self.written += count;
    }

    #[inline]
    pub(super) fn put_slice(&mut self, bytes: &[u8]) {
        let end = self.written + bytes.len();
        if self.bytes.len() < end {
            self.grow(end);
        }
        self.bytes[self.written..end].copy_from_slice(bytes);
        self.written = end;
    }

    #[cold]
    fn grow(&mut self, end: usize) {
        self.bytes.resize(self.bytes.capacity().max(end).max(2 * self.written).max(MORE), 0);
    }
}

/// Where the next field's bytes go.
pub(super) trait Target {
    /// jsonb goes in as its binary form, version and text; a digest is taken of it as the server prints it.
    const JSON_PRINTED: bool = false;

    fn next(&mut self) -> &mut Out;

    /// The field that comes is a jsonb.
    fn json(&mut self) {}
}

/// Writes fields to a target.
pub(super) struct Encoder<'a, T>(pub(super) &'a mut T);

impl<T: Target> Encoder<'_, T> {
    #[inline]
    fn fixed<const N: usize>(&mut self, value: Option<[u8; N]>) {
        let out = self.0.next();
        match value {
            Some(bytes) => {
                // One write of length and value is cheaper than two; none is longer than 8 bytes.
                let mut field = [0; 12];
                field[..4].copy_from_slice(&(N as i32).to_be_bytes());
                field[4..4 + N].copy_from_slice(&bytes);
                out.put(&field, 4 + N);
            }
            None => out.put(&NULL, NULL.len()),
        }
    }

    #[inline]
    pub(super) fn bytes(&mut self, prefix: &[u8], value: Option<&[u8]>) {
        let out = self.0.next();
        match value {
            Some(bytes) => {
                // Limits keep a value far below 2 GiB.
                out.put(&((prefix.len() + bytes.len()) as i32).to_be_bytes(), 4);
                if !prefix.is_empty() {
                    out.put_slice(prefix);
                }
                out.put_slice(bytes);
            }
            None => out.put(&NULL, NULL.len()),
        }
    }
}

impl<T: Target> Fields for Encoder<'_, T> {
    fn time(&mut self, value: Option<DateTime<Utc>>) {
        self.fixed(value.map(|t| (t.timestamp_micros() - EPOCH_MICROS).to_be_bytes()));
    }

    fn int8(&mut self, value: Option<i64>) {
        self.fixed(value.map(i64::to_be_bytes));
    }

    fn int4(&mut self, value: Option<i32>) {
        self.fixed(value.map(i32::to_be_bytes));
    }

    fn float8(&mut self, value: Option<f64>) {
        self.fixed(value.map(f64::to_be_bytes));
    }

    fn bool(&mut self, value: Option<bool>) {
        self.fixed(value.map(|b| [u8::from(b)]));
    }

    fn text(&mut self, value: Option<&str>) {
        self.bytes(&[], value.map(str::as_bytes));
    }

    fn numeric(&mut self, value: Option<Decimal>) {
        let out = self.0.next();
        match value {
            Some(decimal) => {
                let (field, count) = numeric_field(decimal.units());
                out.put(&field, count);
            }
            None => out.put(&NULL, NULL.len()),
        }
    }

    fn json(&mut self, value: Option<&Json>) {
        let Some(value) = value else { return self.bytes(&[], None) };
        self.0.json();
        if T::JSON_PRINTED {
            self.bytes(&[], Some(value.printed().as_bytes()));
        } else {
            // jsonb's binary form is its version, 1, and the text.
            self.bytes(&[1], Some(value.as_str().as_bytes()));
        }
    }
}

/// A row's canonical bytes: what `hitherto.canonical_row` makes of it once it is stored, a binary
/// COPY's tuple without the batch's id and with jsonb as text.
#[derive(Default)]
pub(super) struct CanonicalRow(Out);

impl Target for CanonicalRow {
    const JSON_PRINTED: bool = true;

    fn next(&mut self) -> &mut Out {
        &mut self.0
    }
}

impl CanonicalRow {
    /// The row's bytes, in place of those of the row before.
    pub(super) fn of<R: Record>(&mut self, row: &R, module_id: i64) -> &[u8] {
        self.0.clear();
        self.0.put_slice(&(R::COLUMNS.len() as i16).to_be_bytes());
        row.fields(module_id, &mut Encoder(self));
        self.0.written()
    }
}

/// One array a column. The buffers are used again for the next rows.
#[derive(Default)]
pub(super) struct Columns {
    arrays: Vec<Array>,
    at: usize,
}

impl Target for Columns {
    #[inline]
    fn next(&mut self) -> &mut Out {
        let at = self.at;
        self.at = if at + 1 == self.arrays.len() { 0 } else { at + 1 };
        &mut self.arrays[at].0
    }
}

/// A column's values as a binary array, to be bound as a parameter.
#[derive(Debug, Default)]
pub(super) struct Array(Out);

impl Columns {
    /// Encodes rows, with the ids of their modules, in place of those before.
    pub(super) fn encode<R: Record>(&mut self, rows: &[R], module_ids: &[i64]) {
        self.arrays.resize_with(R::COLUMNS.len(), Array::default);
        self.at = 0;
        for (Array(out), column) in self.arrays.iter_mut().zip(R::COLUMNS) {
            out.clear();
            // Dimensions; that there may be NULLs; type, number and lower bound of the elements.
            for word in [1, 1, element(column.kind).oid() as i32, rows.len() as i32, 1] {
                out.put(&word.to_be_bytes(), 4);
            }
        }
        for (row, module_id) in rows.iter().zip(module_ids) {
            row.fields(*module_id, &mut Encoder(self));
        }
    }

    pub(super) fn arrays(&self) -> &[Array] {
        &self.arrays
    }
}

fn element(kind: Kind) -> Type {
    match kind {
        Kind::Timestamptz => Type::TIMESTAMPTZ,
        Kind::Int8 => Type::INT8,
        Kind::Int4 => Type::INT4,
        Kind::Float8 => Type::FLOAT8,
        Kind::Bool => Type::BOOL,
        Kind::Text => Type::TEXT,
        Kind::Numeric => Type::NUMERIC,
        Kind::Jsonb => Type::JSONB,
    }
}

/// The name of a column's type, for a cast.
pub(super) fn type_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Timestamptz => "timestamptz",
        Kind::Int8 => "bigint",
        Kind::Int4 => "integer",
        Kind::Float8 => "double precision",
        Kind::Bool => "boolean",
        Kind::Text => "text",
        Kind::Numeric => "numeric",
        Kind::Jsonb => "jsonb",
    }
}

impl ToSql for Array {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        out.put_slice(self.0.written());
        Ok(IsNull::No)
    }

    // The bytes were made for the column; the statement's cast asks for just that.
    fn accepts(_: &Type) -> bool {
        true
    }

    fn to_sql_checked(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        self.to_sql(ty, out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::{EventType, HealthCheck, OrderEvent};
    use crate::writer::copy_body::tests::{body, fields};
    use uuid::Uuid;

    #[test]
    fn fields_are_what_the_driver_would_send() {
        let check = HealthCheck::new("m", "healthy").response_time_ms(1.5).details(Json::parse("[1]").unwrap());
        let id = Uuid::from_u128(7);
        let rows = fields(&body(std::slice::from_ref(&check), Some(id), 42));
        let driver = |value: &dyn ToSql, ty: Type| {
            let mut out = BytesMut::new();
            value.to_sql_checked(&ty, &mut out).unwrap();
            Some(out.to_vec())
        };
        let expected = vec![
            driver(&check.checked_at, Type::TIMESTAMPTZ),
            driver(&42i64, Type::INT8),
            driver(&"healthy", Type::TEXT),
            driver(&1.5f64, Type::FLOAT8),
            driver(&0i32, Type::INT4),
            None,
            None,
            Some(b"\x01[1]".to_vec()),
            driver(&id, Type::UUID),
        ];
        assert_eq!(rows, vec![expected]);
    }

    #[test]
    fn arrays_hold_the_same_bytes_as_copy() {
        let price: Decimal = "12345678901234567890.000000000000000001".parse().unwrap();
        let rows = [OrderEvent::new("a", EventType::Fill).last_price(price), OrderEvent::new("b", EventType::Pending)];
        let by_row = fields(&body(&rows, None, 0));
        let mut columns = Columns::default();
        // What was in the buffers before leaves nothing behind.
        columns.encode(&[rows.clone(), rows.clone()].concat(), &[0; 4]);
        columns.encode(&rows, &[0; 2]);
        for (at, array) in columns.arrays().iter().enumerate() {
            let array = array.0.written();
            let mut expected = BytesMut::from(&array[..20]);
            for row in &by_row {
                match &row[at] {
                    Some(value) => {
                        expected.put_i32(value.len() as i32);
                        expected.put_slice(value);
                    }
                    None => expected.put_i32(-1),
                }
            }
            assert_eq!(expected, array, "column {at}");
        }
    }
}

//! Records in PostgreSQL's binary form.
//!
//! A field is a length and its bytes, whether it goes into a binary COPY, row by row, or into the
//! arrays of an INSERT ... FROM unnest, column by column: one encoding serves both.

use bytes::{BufMut, Bytes, BytesMut};
use chrono::{DateTime, Utc};
use postgres_types::{IsNull, ToSql, Type};

use crate::records::{Decimal, Fields, Json, Kind, Record, put_numeric};

/// 2000-01-01 00:00 UTC in microseconds since 1970: PostgreSQL counts from there.
const EPOCH_MICROS: i64 = 946_684_800_000_000;

/// The length of a NULL.
const NULL: [u8; 4] = (-1i32).to_be_bytes();

/// Where the next field's bytes go.
pub(super) trait Target {
    /// jsonb goes in as its binary form, version and text; a digest is taken of it as the server prints it.
    const JSON_PRINTED: bool = false;

    fn next(&mut self) -> &mut BytesMut;

    /// The field that comes is a jsonb.
    fn json(&mut self) {}
}

/// Writes fields to a target.
pub(super) struct Encoder<'a, T>(pub(super) &'a mut T);

impl<T: Target> Encoder<'_, T> {
    fn fixed<const N: usize>(&mut self, value: Option<[u8; N]>) {
        let out = self.0.next();
        match value {
            Some(bytes) => {
                // One write of length and value is cheaper than two; none is longer than 8 bytes.
                let mut field = [0; 12];
                field[..4].copy_from_slice(&(N as i32).to_be_bytes());
                field[4..4 + N].copy_from_slice(&bytes);
                out.extend_from_slice(&field[..4 + N]);
            }
            None => out.extend_from_slice(&NULL),
        }
    }

    pub(super) fn bytes(&mut self, prefix: &[u8], value: Option<&[u8]>) {
        let out = self.0.next();
        match value {
            Some(bytes) => {
                // Limits keep a value far below 2 GiB.
                out.extend_from_slice(&((prefix.len() + bytes.len()) as i32).to_be_bytes());
                out.extend_from_slice(prefix);
                out.extend_from_slice(bytes);
            }
            None => out.extend_from_slice(&NULL),
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
                let at = out.len();
                out.put_i32(0);
                put_numeric(decimal.units(), out);
                let length = (out.len() - at - 4) as i32;
                out[at..at + 4].copy_from_slice(&length.to_be_bytes());
            }
            None => out.extend_from_slice(&NULL),
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
pub(super) struct CanonicalRow(BytesMut);

impl Target for CanonicalRow {
    const JSON_PRINTED: bool = true;

    fn next(&mut self) -> &mut BytesMut {
        &mut self.0
    }
}

impl CanonicalRow {
    /// The row's bytes, in place of those of the row before.
    pub(super) fn of<R: Record>(&mut self, row: &R, module_id: i64) -> &[u8] {
        self.0.clear();
        self.0.put_i16(R::COLUMNS.len() as i16);
        row.fields(module_id, &mut Encoder(self));
        &self.0
    }
}

/// One array a column.
struct Columns {
    arrays: Vec<BytesMut>,
    at: usize,
}

impl Target for Columns {
    fn next(&mut self) -> &mut BytesMut {
        let at = self.at;
        self.at = (at + 1) % self.arrays.len();
        &mut self.arrays[at]
    }
}

/// A column's values as a binary array, to be bound as a parameter.
#[derive(Debug)]
pub(super) struct Array(Bytes);

/// Encodes rows, with the ids of their modules, as one array a column.
pub(super) fn arrays<R: Record>(rows: &[R], module_ids: &[i64]) -> Vec<Array> {
    let header = |kind: Kind| {
        let mut out = BytesMut::with_capacity(20 + rows.len() * 12);
        out.put_i32(1); // dimensions
        out.put_i32(1); // there may be NULLs
        out.put_u32(element(kind).oid());
        out.put_i32(rows.len() as i32);
        out.put_i32(1); // lower bound
        out
    };
    let mut columns = Columns { arrays: R::COLUMNS.iter().map(|c| header(c.kind)).collect(), at: 0 };
    for (row, module_id) in rows.iter().zip(module_ids) {
        row.fields(*module_id, &mut Encoder(&mut columns));
    }
    columns.arrays.into_iter().map(|array| Array(array.freeze())).collect()
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
        out.put_slice(&self.0);
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
        for (at, array) in arrays(&rows, &[0; 2]).iter().enumerate() {
            let mut expected = BytesMut::from(&array.0[..20]);
            for row in &by_row {
                match &row[at] {
                    Some(value) => {
                        expected.put_i32(value.len() as i32);
                        expected.put_slice(value);
                    }
                    None => expected.put_i32(-1),
                }
            }
            assert_eq!(expected, array.0, "column {at}");
        }
    }
}

//! `interval`: months, days and microseconds, which are three things: a month has no length in days, nor a day in hours.
//!
//! Parquet's own interval has milliseconds, and Arrow's is not written to Parquet: both are a struct.

use std::sync::Arc;

use arrow::array::{ArrayRef, PrimitiveBuilder};
use arrow::datatypes::{DataType, Int32Type, Int64Type};
use deltalake_core::kernel::DataType as DeltaType;

use super::codec::{Codec, Mapping, Parts, Refused};
use super::int::Int;
use super::structure::Structure;

#[derive(Debug)]
pub(super) struct Interval(Structure);

impl Interval {
    pub(super) fn new() -> Self {
        let parts = [("months", Int::Four), ("days", Int::Four), ("microseconds", Int::Eight)];
        Self(Structure::new(parts.into_iter().map(|(name, int)| (name.to_owned(), Arc::new(int) as _)).collect()))
    }
}

impl Mapping for Interval {
    fn arrow(&self) -> DataType {
        self.0.arrow()
    }

    fn delta(&self) -> Result<DeltaType, Refused> {
        self.0.delta()
    }

    fn codec(&self) -> Box<dyn Codec> {
        Box::new(Intervals {
            months: PrimitiveBuilder::new(),
            days: PrimitiveBuilder::new(),
            microseconds: PrimitiveBuilder::new(),
            structure: self.0.clone(),
            valid: Default::default(),
        })
    }
}

struct Intervals {
    months: PrimitiveBuilder<Int32Type>,
    days: PrimitiveBuilder<Int32Type>,
    microseconds: PrimitiveBuilder<Int64Type>,
    structure: Structure,
    valid: Vec<bool>,
}

impl Codec for Intervals {
    fn append(&mut self, raw: &[u8]) -> Result<(), Refused> {
        let mut parts = Parts(raw);
        let microseconds = parts.next().map(i64::from_be_bytes)?;
        let (days, months) = (parts.number()?, parts.number()?);
        parts.end()?;
        // PostgreSQL 17 has infinite ones, and no others with these numbers.
        match (months, days, microseconds) {
            (i32::MAX, i32::MAX, i64::MAX) => return Err(infinite("infinity")),
            (i32::MIN, i32::MIN, i64::MIN) => return Err(infinite("-infinity")),
            _ => {}
        }
        self.months.append_value(months);
        self.days.append_value(days);
        self.microseconds.append_value(microseconds);
        self.valid.push(true);
        Ok(())
    }

    fn append_null(&mut self) {
        self.months.append_null();
        self.days.append_null();
        self.microseconds.append_null();
        self.valid.push(false);
    }

    fn finish(&mut self) -> Result<ArrayRef, Refused> {
        let parts: Vec<ArrayRef> = vec![Arc::new(self.months.finish()), Arc::new(self.days.finish()), Arc::new(self.microseconds.finish())];
        self.structure.array(parts, std::mem::take(&mut self.valid))
    }
}

#[cold]
fn infinite(which: &str) -> Refused {
    format!("an infinite interval ({which}) has no months and days; in the query, write nullif(x, '{which}') or x::text")
}

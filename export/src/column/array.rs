//! Arrays of anything: lists.

use std::sync::Arc;

use arrow::array::{ArrayRef, ListArray};
use arrow::buffer::{OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, Field, FieldRef};
use deltalake_core::kernel::{ArrayType, DataType as DeltaType};

use super::codec::{Codec, Mapping, Parts, Refused};
use super::structure::nulls;

/// A list of values of one type.
#[derive(Debug)]
pub(super) struct List {
    pub(super) element: Arc<dyn Mapping>,
    pub(super) of: ListOf,
}

/// How the server sends a list.
#[derive(Debug, Clone, Copy)]
pub(super) enum ListOf {
    Array,
    Multirange,
}

impl List {
    fn element(&self) -> FieldRef {
        Arc::new(Field::new("element", self.element.arrow(), true))
    }
}

impl Mapping for List {
    fn arrow(&self) -> DataType {
        DataType::List(self.element())
    }

    fn delta(&self) -> Result<DeltaType, Refused> {
        Ok(DeltaType::Array(Box::new(ArrayType::new(self.element.delta()?, true))))
    }

    fn codec(&self) -> Box<dyn Codec> {
        Box::new(Lists { field: self.element(), elements: self.element.codec(), of: self.of, ends: vec![0], valid: Vec::new() })
    }
}

struct Lists {
    field: FieldRef,
    elements: Box<dyn Codec>,
    of: ListOf,
    /// Where each list ends among the elements, after a 0.
    ends: Vec<i32>,
    valid: Vec<bool>,
}

impl Codec for Lists {
    fn append(&mut self, raw: &[u8]) -> Result<(), Refused> {
        let mut parts = Parts(raw);
        let count = match self.of {
            ListOf::Array => array_length(&mut parts)?,
            ListOf::Multirange => parts.number()?,
        };
        for _ in 0..count {
            match parts.value()? {
                Some(element) => self.elements.append(element)?,
                None => self.elements.append_null(),
            }
        }
        parts.end()?;
        let end = self.last().checked_add(count.max(0)).ok_or("more than 2^31 elements in the lists of some rows")?;
        self.ends.push(end);
        self.valid.push(true);
        Ok(())
    }

    fn append_null(&mut self) {
        self.ends.push(self.last());
        self.valid.push(false);
    }

    fn finish(&mut self) -> Result<ArrayRef, Refused> {
        let ends = std::mem::replace(&mut self.ends, vec![0]);
        let offsets = OffsetBuffer::new(ScalarBuffer::from(ends));
        let nulls = nulls(std::mem::take(&mut self.valid));
        let list = ListArray::try_new(self.field.clone(), offsets, self.elements.finish()?, nulls);
        Ok(Arc::new(list.map_err(|e| e.to_string())?))
    }
}

impl Lists {
    fn last(&self) -> i32 {
        self.ends.last().copied().unwrap_or_default()
    }
}

/// How many elements follow; see array_send of PostgreSQL. A list has one dimension, and counts from 1
/// or from wherever its reader likes.
fn array_length(parts: &mut Parts<'_>) -> Result<i32, Refused> {
    let dimensions = parts.number()?;
    // Whether there are NULLs, and the type of the elements.
    parts.next::<8>()?;
    match dimensions {
        0 => return Ok(0),
        1 => {}
        _ => return Err(format!("an array of {dimensions} dimensions is no list; in the query, write to_jsonb(x), or x::text")),
    }
    let (count, first) = (parts.number()?, parts.number()?);
    if first != 1 {
        return Err(format!(
            "an array that begins at [{first}], not at [1], would lose that in a list; in the query, write x[:], or x::text"
        ));
    }
    Ok(count)
}

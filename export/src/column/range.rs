//! Ranges: a struct of both bounds, whether each is part of it, and whether it is empty.
//!
//! A bound that is NULL is none: the range has no end there. Multiranges are lists of ranges.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanBuilder};
use arrow::datatypes::DataType;
use deltalake_core::kernel::DataType as DeltaType;

use super::boolean::Boolean;
use super::codec::{Codec, Flags, Mapping, Parts, Refused};
use super::structure::Structure;

/// Bits of the first byte; see rangetypes.h of PostgreSQL.
const EMPTY: u8 = 0x01;
const LOWER_INCLUSIVE: u8 = 0x02;
const UPPER_INCLUSIVE: u8 = 0x04;
const LOWER_INFINITE: u8 = 0x08;
const UPPER_INFINITE: u8 = 0x10;

#[derive(Debug)]
pub(super) struct Range(Structure);

impl Range {
    /// A range whose bounds are of a type.
    pub(super) fn new(bound: &Arc<dyn Mapping>) -> Self {
        let flag = || Arc::new(Boolean) as Arc<dyn Mapping>;
        let fields = [
            ("lower", bound.clone()),
            ("upper", bound.clone()),
            ("lower_inclusive", flag()),
            ("upper_inclusive", flag()),
            ("empty", flag()),
        ];
        Self(Structure::new(fields.into_iter().map(|(name, mapping)| (name.to_owned(), mapping)).collect()))
    }
}

impl Mapping for Range {
    fn arrow(&self) -> DataType {
        self.0.arrow()
    }

    fn delta(&self) -> Result<DeltaType, Refused> {
        self.0.delta()
    }

    fn codec(&self) -> Box<dyn Codec> {
        let mut bounds = self.0.mappings().map(Mapping::codec);
        let (Some(lower), Some(upper)) = (bounds.next(), bounds.next()) else { unreachable!("a range has two bounds") };
        let flags = || Flags(BooleanBuilder::new());
        Box::new(Ranges { structure: self.0.clone(), bounds: [lower, upper], flags: [flags(), flags(), flags()], valid: Vec::new() })
    }
}

struct Ranges {
    structure: Structure,
    bounds: [Box<dyn Codec>; 2],
    /// Lower bound included, upper bound included, empty.
    flags: [Flags; 3],
    valid: Vec<bool>,
}

impl Codec for Ranges {
    fn append(&mut self, raw: &[u8]) -> Result<(), Refused> {
        let mut parts = Parts(raw);
        let [flags] = parts.next()?;
        for (bound, infinite) in self.bounds.iter_mut().zip([LOWER_INFINITE, UPPER_INFINITE]) {
            match flags & (EMPTY | infinite) {
                0 => bound.append(parts.value()?.ok_or("the server sent a range whose bound is NULL")?)?,
                _ => bound.append_null(),
            }
        }
        parts.end()?;
        for (flag, bit) in self.flags.iter_mut().zip([LOWER_INCLUSIVE, UPPER_INCLUSIVE, EMPTY]) {
            flag.0.append_value(flags & bit != 0);
        }
        self.valid.push(true);
        Ok(())
    }

    fn append_null(&mut self) {
        self.bounds.iter_mut().for_each(|bound| bound.append_null());
        self.flags.iter_mut().for_each(|flag| flag.append_null());
        self.valid.push(false);
    }

    fn finish(&mut self) -> Result<ArrayRef, Refused> {
        let mut parts = Vec::with_capacity(5);
        for bound in &mut self.bounds {
            parts.push(bound.finish()?);
        }
        for flag in &mut self.flags {
            parts.push(flag.finish()?);
        }
        self.structure.array(parts, std::mem::take(&mut self.valid))
    }
}

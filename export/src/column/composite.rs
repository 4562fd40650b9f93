//! Composites, which are rows with names: structs.

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use deltalake_core::kernel::DataType as DeltaType;

use super::codec::{Codec, Mapping, Parts, Refused};
use super::structure::Structure;

#[derive(Debug)]
pub(super) struct Composite(pub(super) Structure);

impl Mapping for Composite {
    fn arrow(&self) -> DataType {
        self.0.arrow()
    }

    fn delta(&self) -> Result<DeltaType, Refused> {
        self.0.delta()
    }

    fn codec(&self) -> Box<dyn Codec> {
        Box::new(Composites { structure: self.0.clone(), fields: self.0.mappings().map(Mapping::codec).collect(), valid: Vec::new() })
    }
}

struct Composites {
    structure: Structure,
    fields: Vec<Box<dyn Codec>>,
    valid: Vec<bool>,
}

impl Codec for Composites {
    fn append(&mut self, raw: &[u8]) -> Result<(), Refused> {
        let mut parts = Parts(raw);
        let count = parts.number()?;
        if usize::try_from(count) != Ok(self.fields.len()) {
            return Err(format!("a row has {count} fields, not {}", self.fields.len()));
        }
        for field in &mut self.fields {
            // Its type.
            parts.next::<4>()?;
            match parts.value()? {
                Some(value) => field.append(value)?,
                None => field.append_null(),
            }
        }
        parts.end()?;
        self.valid.push(true);
        Ok(())
    }

    fn append_null(&mut self) {
        self.fields.iter_mut().for_each(|field| field.append_null());
        self.valid.push(false);
    }

    fn finish(&mut self) -> Result<ArrayRef, Refused> {
        let parts = self.fields.iter_mut().map(|field| field.finish()).collect::<Result<_, _>>()?;
        self.structure.array(parts, std::mem::take(&mut self.valid))
    }
}

//! Values of several named parts: what composites, ranges and intervals have in common.

use std::sync::Arc;

use arrow::array::{ArrayRef, StructArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Field, Fields};
use deltalake_core::kernel::{DataType as DeltaType, StructField};

use super::codec::{Mapping, Refused};

/// A struct, and what each of its fields is.
#[derive(Debug, Clone)]
pub(super) struct Structure(Vec<(String, Arc<dyn Mapping>)>);

impl Structure {
    pub(super) fn new(fields: Vec<(String, Arc<dyn Mapping>)>) -> Self {
        Self(fields)
    }

    pub(super) fn mappings(&self) -> impl Iterator<Item = &dyn Mapping> {
        self.0.iter().map(|(_, mapping)| &**mapping)
    }

    fn fields(&self) -> Fields {
        self.0.iter().map(|(name, mapping)| Field::new(name, mapping.arrow(), true)).collect()
    }

    pub(super) fn arrow(&self) -> DataType {
        DataType::Struct(self.fields())
    }

    pub(super) fn delta(&self) -> Result<DeltaType, Refused> {
        let fields = self.0.iter().map(|(name, mapping)| Ok(StructField::new(name, mapping.delta()?, true)));
        DeltaType::try_struct_type(fields.collect::<Result<Vec<_>, Refused>>()?).map_err(|e| e.to_string())
    }

    /// The struct of these parts; where it is not `valid` it is NULL.
    pub(super) fn array(&self, parts: Vec<ArrayRef>, valid: Vec<bool>) -> Result<ArrayRef, Refused> {
        let nulls = nulls(valid);
        Ok(Arc::new(StructArray::try_new(self.fields(), parts, nulls).map_err(|e| e.to_string())?))
    }
}

/// NULL where not valid.
pub(super) fn nulls(valid: Vec<bool>) -> Option<NullBuffer> {
    Some(NullBuffer::from(valid)).filter(|nulls| nulls.null_count() > 0)
}

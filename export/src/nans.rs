//! Which columns hold NaN: a Parquet file's statistics pass over it, and readers that take it for the
//! largest number must not be told a smaller one.

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{DataType, Float32Type, Float64Type};

/// By column, whether NaN was seen.
#[derive(Debug, Clone, Default)]
pub(crate) struct Nans(Vec<bool>);

impl Nans {
    pub(crate) fn new(columns: usize) -> Self {
        Self(vec![false; columns])
    }

    pub(crate) fn note(&mut self, batch: &RecordBatch) {
        for (seen, array) in self.0.iter_mut().zip(batch.columns()).filter(|(seen, _)| !**seen) {
            *seen = match array.data_type() {
                DataType::Float32 => array.as_primitive::<Float32Type>().iter().flatten().any(f32::is_nan),
                DataType::Float64 => array.as_primitive::<Float64Type>().iter().flatten().any(f64::is_nan),
                _ => false,
            };
        }
    }

    pub(crate) fn at(&self, column: usize) -> bool {
        self.0.get(column).copied().unwrap_or_default()
    }
}

//! What all records have in common.

use std::fmt::Debug;

use chrono::{DateTime, Utc};
use serde::{Serialize, de::DeserializeOwned};

use super::{
    Check, Decimal, HealthCheck, Invalid, Json, Limits, Module, ModuleExecution, OrderEvent, PortfolioSnapshot, Proposal, RegimeState,
    RiskEvaluation, Signal,
};

/// The types that columns have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `timestamptz`
    Timestamptz,
    /// `bigint`
    Int8,
    /// `integer`
    Int4,
    /// `double precision`
    Float8,
    /// `boolean`
    Bool,
    /// `text`
    Text,
    /// `numeric(38,18)`
    Numeric,
    /// `jsonb`
    Jsonb,
}

/// A column of a record's table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: &'static str,
    /// Its type.
    pub kind: Kind,
}

impl Column {
    pub(super) const fn new(name: &'static str, kind: Kind) -> Self {
        Self { name, kind }
    }
}

/// Takes a record's fields one after the other, in the order of [`Record::COLUMNS`].
pub trait Fields {
    /// A `timestamptz`.
    fn time(&mut self, value: Option<DateTime<Utc>>);
    /// A `bigint`.
    fn int8(&mut self, value: Option<i64>);
    /// An `integer`.
    fn int4(&mut self, value: Option<i32>);
    /// A `double precision`.
    fn float8(&mut self, value: Option<f64>);
    /// A `boolean`.
    fn bool(&mut self, value: Option<bool>);
    /// A `text`.
    fn text(&mut self, value: Option<&str>);
    /// A `numeric(38,18)`.
    fn numeric(&mut self, value: Option<Decimal>);
    /// A `jsonb`.
    fn json(&mut self, value: Option<&Json>);
}

mod sealed {
    pub trait Sealed {}
}

/// A row that a module can write. Implemented by the records of this crate alone.
pub trait Record: sealed::Sealed + Clone + Debug + PartialEq + Serialize + DeserializeOwned + Send + Sync + 'static {
    /// The table.
    const TABLE: &'static str;
    /// The columns that a record fills, without `batch_id`.
    const COLUMNS: &'static [Column];

    /// The record's own time; `None` for a record that has none.
    fn time(&self) -> Option<DateTime<Utc>>;

    /// The module it names.
    fn module(&self) -> Option<&str>;

    /// The order whose report depends on it.
    fn order_id(&self) -> Option<&str> {
        None
    }

    /// Its own id, where the table takes each id once.
    fn id(&self) -> Option<&str> {
        None
    }

    /// Its own id, empty until it has one; `None` for a record that has none.
    fn id_mut(&mut self) -> Option<&mut String>;

    /// Hands over the optional JSON fields.
    fn each_json(&mut self, each: &mut dyn FnMut(&mut Option<Json>));

    /// Takes a JSON field that is `null` for one that was left out. Whoever writes lines by hand means
    /// that; a record's own JSON has no `null` but where the value is one.
    fn nulls_are_none(&mut self) {
        self.each_json(&mut |field| *field = field.take().filter(|json| json.as_str() != "null"));
    }

    /// Hands over the fields. `module_id` stands for the module's name.
    fn fields(&self, module_id: i64, to: &mut impl Fields);

    /// Bytes that the record takes up, about.
    fn size(&self) -> usize;

    /// The rules of this record.
    ///
    /// # Errors
    /// The first rule that is broken.
    fn check(&self, check: &Check<'_>) -> Result<(), Invalid>;

    /// Whether the record may be stored.
    ///
    /// # Errors
    /// The first rule that is broken, with record, field and value.
    fn validate(&self, limits: &Limits, now: DateTime<Utc>) -> Result<(), Invalid> {
        self.check(&Check::new(Self::TABLE, limits, now))
    }
}

/// What [`with_record_of`] does.
pub(crate) trait WithRecord {
    /// What comes of it.
    type Output;
    /// Does it.
    fn with<R: Record>(self) -> Self::Output;
}

macro_rules! records {
    ($($record:ident),*) => {
        $(impl sealed::Sealed for $record {})*

        /// Every table that records go to.
        pub const TABLES: &[&str] = &[$($record::TABLE),*];

        /// Does something with the type of a table's records, the table being known by name only.
        pub(crate) fn with_record_of<V: WithRecord>(table: &str, visitor: V) -> Option<V::Output> {
            match table {
                $($record::TABLE => Some(visitor.with::<$record>()),)*
                _ => None,
            }
        }
    };
}

records!(Module, ModuleExecution, HealthCheck, Signal, Proposal, RiskEvaluation, OrderEvent, PortfolioSnapshot, RegimeState);

/// Bytes of an optional text.
pub(super) fn len(text: &Option<String>) -> usize {
    text.as_ref().map_or(0, String::len)
}

/// Bytes of an optional JSON value.
pub(super) fn json_len(json: &Option<Json>) -> usize {
    json.as_ref().map_or(0, |j| j.as_str().len())
}

//! Columns: which PostgreSQL type becomes which Arrow and Delta type, and what decodes it.
//!
//! One rule decides. A number, a time, a text or a flag becomes Arrow's own type where that holds every value
//! of it or refuses the few that it can't hold; what is made of others becomes a list or a struct of
//! theirs. A type that Arrow has none for becomes text if the server has one spelling of it, whatever
//! its settings, that we can make of the binary form exactly. Everything else is refused.

mod array;
mod bits;
mod boolean;
mod bytea;
mod codec;
mod composite;
mod date;
mod decimal;
mod domain;
mod float;
mod inet;
mod int;
mod interval;
mod json;
mod numeric;
mod range;
mod structure;
#[cfg(test)]
mod tests;
mod text;
mod time;
mod timestamp;
mod uuid;
mod words;

use std::sync::Arc;

use arrow::datatypes::Field;
use deltalake_core::kernel::StructField;
use postgres_types::{Kind, Type};
use tokio_postgres::Column as PgColumn;

pub(crate) use self::codec::{Codec, Place, Refused, RefusedRow};
pub(crate) use self::domain::Modifiers;
pub use self::numeric::NumericAs;

use self::array::{List, ListOf};
use self::codec::{Mapping, Spelled};
use self::composite::Composite;
use self::float::Float;
use self::int::Int;
use self::json::Json;
use self::structure::Structure;
use self::timestamp::Timestamp;
use crate::dataset::Dataset;
use crate::error::{ExportError, ExportErrorKind, Result};

/// A column of a dataset.
#[derive(Debug, Clone)]
pub(crate) struct Column {
    pub(crate) name: String,
    timestamptz: bool,
    mapping: Arc<dyn Mapping>,
}

impl Column {
    /// Finds the exact place of a result column, or says why it has none.
    pub(crate) fn new(dataset: &Dataset, column: &PgColumn, modifiers: &Modifiers, place: Place) -> Result<Self> {
        let name = column.name();
        let numeric = dataset.numeric.iter().find(|(wanted, _)| wanted == name).map(|(_, numeric)| *numeric);
        let planner = Planner { column: name, modifiers, place, numeric };
        let refuse = |why: Refused| ExportError::new(ExportErrorKind::Unsupported, format!("{}.{name}: {why}", dataset.name));
        let mapping = match (planner.plan(column.type_(), column.type_modifier()), column.type_()) {
            (Ok(_), _) if numeric.is_some() && !holds_numeric(column.type_()) => {
                let message = format!(
                    "{}.{name} is a {}, and no numeric, which --numeric {name} takes it for; leave that out",
                    dataset.name,
                    column.type_().name()
                );
                return Err(ExportError::new(ExportErrorKind::Config, message));
            }
            (Ok(_), &Type::TEXT | &Type::VARCHAR | &Type::BPCHAR | &Type::NAME) if dataset.dictionary.iter().any(|d| d == name) => {
                Arc::new(words::Words)
            }
            (Ok(_), type_) if matches!(type_.kind(), Kind::Enum(_)) => Arc::new(words::Words),
            (mapping, _) => mapping.map_err(refuse)?,
        };
        if place == Place::Lake {
            mapping.delta().map_err(refuse)?;
        }
        Ok(Self { name: name.to_owned(), timestamptz: *column.type_() == Type::TIMESTAMPTZ, mapping })
    }

    pub(crate) fn is_timestamptz(&self) -> bool {
        self.timestamptz
    }

    /// The Arrow field.
    pub(crate) fn field(&self) -> Field {
        Field::new(&self.name, self.mapping.arrow(), true)
    }

    /// The Delta field.
    pub(crate) fn delta_field(&self) -> Result<StructField> {
        let refuse = |why| ExportError::new(ExportErrorKind::Unsupported, format!("{}: {why}", self.name));
        Ok(StructField::new(&self.name, self.mapping.delta().map_err(refuse)?, true))
    }

    /// What decodes its values.
    pub(crate) fn codec(&self) -> Box<dyn Codec> {
        self.mapping.codec()
    }
}

/// Whether a numeric is anywhere in a type.
fn holds_numeric(type_: &Type) -> bool {
    match type_.kind() {
        Kind::Array(inner) | Kind::Range(inner) | Kind::Multirange(inner) | Kind::Domain(inner) => holds_numeric(inner),
        Kind::Composite(fields) => fields.iter().any(|field| holds_numeric(field.type_())),
        _ => *type_ == Type::NUMERIC,
    }
}

/// Finds the mapping of a type and of the types that it is made of.
struct Planner<'a> {
    column: &'a str,
    modifiers: &'a Modifiers,
    place: Place,
    /// What every numeric in the column is written as, where somebody has said so.
    numeric: Option<NumericAs>,
}

impl Planner<'_> {
    fn plan(&self, type_: &Type, modifier: i32) -> Result<Arc<dyn Mapping>, Refused> {
        Ok(match *type_ {
            Type::BOOL => Arc::new(boolean::Boolean),
            Type::INT2 => Arc::new(Int::Two),
            Type::INT4 => Arc::new(Int::Four),
            Type::INT8 => Arc::new(Int::Eight),
            Type::OID | Type::XID | Type::CID => Arc::new(Int::UnsignedFour),
            Type::XID8 => Arc::new(Int::UnsignedEight),
            Type::FLOAT4 => Arc::new(Float::Four),
            Type::FLOAT8 => Arc::new(Float::Eight),
            Type::NUMERIC => numeric::numeric(self.column, modifier, self.numeric)?,
            Type::TEXT | Type::VARCHAR | Type::BPCHAR | Type::NAME => Arc::new(text::Text),
            Type::CHAR => spelled(text::CHAR),
            Type::BYTEA => Arc::new(bytea::Bytea),
            Type::DATE => Arc::new(date::Date),
            Type::TIME => Arc::new(time::Time(self.place)),
            Type::TIMETZ => spelled(time::TIMETZ),
            Type::TIMESTAMPTZ => Arc::new(Timestamp::Instant),
            Type::TIMESTAMP => Arc::new(Timestamp::Clock),
            Type::INTERVAL => Arc::new(interval::Interval::new()),
            Type::UUID => Arc::new(uuid::Uuid),
            Type::JSON => Arc::new(Json::Written),
            Type::JSONB | Type::JSONPATH => Arc::new(Json::Versioned),
            Type::INET | Type::CIDR => spelled(inet::INET),
            Type::MACADDR => spelled(inet::MACADDR),
            Type::MACADDR8 => spelled(inet::MACADDR8),
            Type::BIT | Type::VARBIT => spelled(bits::BITS),
            Type::PG_LSN => spelled(bits::LSN),
            _ => self.plan_by_kind(type_, modifier)?,
        })
    }

    /// The type of an array's elements and a range's bounds has the modifier of the whole.
    fn plan_by_kind(&self, type_: &Type, modifier: i32) -> Result<Arc<dyn Mapping>, Refused> {
        Ok(match type_.kind() {
            Kind::Enum(_) => Arc::new(text::Text),
            Kind::Domain(base) => self.plan(base, self.modifiers.domain(type_))?,
            Kind::Array(element) => Arc::new(List { element: self.plan(element, modifier)?, of: ListOf::Array }),
            Kind::Range(bound) => Arc::new(range::Range::new(&self.plan(bound, modifier)?)),
            Kind::Multirange(bound) => {
                Arc::new(List { element: Arc::new(range::Range::new(&self.plan(bound, modifier)?)), of: ListOf::Multirange })
            }
            Kind::Composite(fields) if !fields.is_empty() => {
                let fields = fields.iter().enumerate().map(|(at, field)| {
                    let mapping = self.plan(field.type_(), self.modifiers.field(type_, at));
                    Ok((field.name().to_owned(), mapping.map_err(|why| format!("its field {}: {why}", field.name()))?))
                });
                Arc::new(Composite(Structure::new(fields.collect::<Result<_, Refused>>()?)))
            }
            _ if *type_ == Type::RECORD => {
                return Err(
                    "a row without a type has no names for its fields; in the query, cast it to a composite type, or write to_jsonb(x)"
                        .to_owned(),
                );
            }
            _ => return Err(format!("type {} has no exact place in Parquet; in the query, write {}::text", type_.name(), self.column)),
        })
    }
}

fn spelled(spelled: Spelled) -> Arc<dyn Mapping> {
    Arc::new(spelled)
}

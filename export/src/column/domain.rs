//! Domains, which are written as what they stand for.
//!
//! A column of a domain is described by the server as of its base type, modifier included. Where a
//! domain stands within an array, a range or a composite, or a numeric within a composite, nobody says
//! its modifier: that is looked up, once for all columns of a query.

use std::collections::{BTreeSet, HashMap};

use postgres_types::{Kind, Oid, Type};
use tokio_postgres::{Client, Column};

/// Modifiers of domains and of fields of composites.
#[derive(Debug, Default)]
pub(crate) struct Modifiers {
    domains: HashMap<Oid, i32>,
    /// By composite and number of the field, from 0.
    fields: HashMap<(Oid, usize), i32>,
}

impl Modifiers {
    /// Looks up what the columns need; asks nothing where they need nothing.
    pub(crate) async fn read(client: &Client, columns: &[Column]) -> Result<Self, tokio_postgres::Error> {
        let mut wanted = BTreeSet::new();
        for column in columns {
            collect(column.type_(), &mut wanted);
        }
        let mut modifiers = Self::default();
        if wanted.is_empty() {
            return Ok(modifiers);
        }
        let wanted: Vec<Oid> = wanted.into_iter().collect();
        let query = "-- modifiers
            SELECT t.oid, NULL::bigint, t.typtypmod FROM pg_catalog.pg_type t WHERE t.oid = ANY($1) AND t.typtype = 'd'
            UNION ALL
            SELECT t.oid, row_number() OVER (PARTITION BY t.oid ORDER BY a.attnum) - 1, a.atttypmod
            FROM pg_catalog.pg_type t JOIN pg_catalog.pg_attribute a ON a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped
            WHERE t.oid = ANY($1) AND t.typrelid <> 0";
        for row in client.query(query, &[&wanted]).await? {
            let (oid, modifier) = (row.try_get(0)?, row.try_get(2)?);
            match row.try_get::<_, Option<i64>>(1)?.and_then(|field| usize::try_from(field).ok()) {
                Some(field) => modifiers.fields.insert((oid, field), modifier),
                None => modifiers.domains.insert(oid, modifier),
            };
        }
        Ok(modifiers)
    }

    /// The modifier that a domain gives to its base type.
    pub(super) fn domain(&self, domain: &Type) -> i32 {
        self.domains.get(&domain.oid()).copied().unwrap_or(-1)
    }

    /// The modifier of a composite's field.
    pub(super) fn field(&self, composite: &Type, field: usize) -> i32 {
        self.fields.get(&(composite.oid(), field)).copied().unwrap_or(-1)
    }
}

/// Notes the domains and composites in which a modifier counts: those of numerics.
fn collect(type_: &Type, wanted: &mut BTreeSet<Oid>) -> bool {
    match type_.kind() {
        Kind::Array(inner) | Kind::Range(inner) | Kind::Multirange(inner) => collect(inner, wanted),
        Kind::Domain(base) => note(type_, collect(base, wanted), wanted),
        Kind::Composite(fields) => {
            let counts = fields.iter().fold(false, |counts, field| collect(field.type_(), wanted) | counts);
            note(type_, counts, wanted)
        }
        _ => *type_ == Type::NUMERIC,
    }
}

fn note(type_: &Type, counts: bool, wanted: &mut BTreeSet<Oid>) -> bool {
    if counts {
        wanted.insert(type_.oid());
    }
    counts
}

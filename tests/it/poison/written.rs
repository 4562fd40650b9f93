//! What was written, and what is there, in the same words.

use chrono::{DateTime, Utc};
use hitherto::records::{Decimal, Fields, Json, Kind};
use hitherto::writer::Batch;

use super::kinds::Kinds;
use crate::harness::Db;

/// A record's values as text, bit by bit.
#[derive(Default)]
struct Written {
    module: String,
    values: Vec<String>,
}

impl Written {
    fn put<T: std::fmt::Debug>(&mut self, value: Option<T>) {
        self.values.push(value.map_or("NULL".to_owned(), |value| format!("{value:?}")));
    }
}

impl Fields for Written {
    fn time(&mut self, value: Option<DateTime<Utc>>) {
        self.put(value.map(|time| (time.timestamp_micros() - 946_684_800_000_000).to_be_bytes().to_vec()));
    }
    fn int8(&mut self, value: Option<i64>) {
        match value {
            // A module's number is the database's.
            Some(MODULE) => self.put(Some(self.module.clone())),
            value => self.put(value),
        }
    }
    fn int4(&mut self, value: Option<i32>) {
        self.put(value);
    }
    fn float8(&mut self, value: Option<f64>) {
        self.put(value.map(f64::to_bits));
    }
    fn bool(&mut self, value: Option<bool>) {
        self.put(value);
    }
    fn text(&mut self, value: Option<&str>) {
        self.put(value);
    }
    fn numeric(&mut self, value: Option<Decimal>) {
        self.put(value.map(Decimal::units));
    }
    fn json(&mut self, value: Option<&Json>) {
        self.put(value.map(Json::printed));
    }
}

const MODULE: i64 = -987_654_321;

pub(super) fn written<R: Kinds>(record: &R) -> String {
    let mut written = Written { module: record.module().unwrap_or_default().to_owned(), values: Vec::new() };
    record.fields(MODULE, &mut written);
    let columns = R::COLUMNS.iter().zip(&written.values).filter(|(column, _)| !R::DECIDED.contains(&column.name));
    columns.map(|(column, value)| format!("{}={value}", column.name)).collect::<Vec<_>>().join(" ")
}

/// The rows that are there, as [`written`] would say them.
pub(super) async fn stored<R: Kinds>(db: &Db, batch: &Batch<R>) -> Vec<String> {
    let columns: Vec<_> = R::COLUMNS.iter().filter(|column| !R::DECIDED.contains(&column.name)).collect();
    let list: Vec<String> = columns
        .iter()
        .map(|column| match column.kind {
            Kind::Timestamptz => format!("timestamptz_send(t.{})", column.name),
            Kind::Jsonb => format!("t.{}::text", column.name),
            Kind::Int8 if column.name == "module_id" => {
                "(SELECT m.name::text FROM hitherto.module m WHERE m.module_id = t.module_id)".to_owned()
            }
            _ => format!("t.{}", column.name),
        })
        .collect();
    let client = db.store.client().await.unwrap();
    let select = format!("SELECT {} FROM hitherto.{} t", list.join(", "), R::TABLE);
    let rows = match R::KEY {
        None => client.query(&format!("{select} WHERE t.batch_id = $1"), &[&batch.id()]).await,
        Some(key) => {
            // A key that text can't hold is in no row.
            let keys: Vec<String> = batch.rows().iter().map(R::key).filter(|key| !key.contains('\0')).collect();
            client.query(&format!("{select} WHERE t.{key} = ANY ($1)"), &[&keys]).await
        }
    }
    .unwrap();
    let mut all = Vec::new();
    for row in rows {
        let mut said = Written::default();
        for (at, column) in columns.iter().enumerate() {
            match column.kind {
                Kind::Timestamptz => said.put(row.get::<_, Option<Vec<u8>>>(at)),
                Kind::Int8 if column.name == "module_id" => said.put(row.get::<_, Option<String>>(at)),
                Kind::Int8 => said.put(row.get::<_, Option<i64>>(at)),
                Kind::Int4 => said.put(row.get::<_, Option<i32>>(at)),
                Kind::Float8 => said.put(row.get::<_, Option<f64>>(at).map(f64::to_bits)),
                Kind::Bool => said.put(row.get::<_, Option<bool>>(at)),
                Kind::Text | Kind::Jsonb => said.put(row.get::<_, Option<String>>(at)),
                Kind::Numeric => said.put(row.get::<_, Option<Decimal>>(at).map(Decimal::units)),
            }
        }
        all.push(columns.iter().zip(&said.values).map(|(column, value)| format!("{}={value}", column.name)).collect::<Vec<_>>().join(" "));
    }
    all.sort();
    all
}

//! The statements that store records, made of the records' own constants.

use crate::records::Record;

use super::encode::type_name;

/// How a table takes a row that it has already.
enum Again {
    /// It can't tell: the batch's id alone guards it.
    Unknown,
    /// The row's own id is unique: nothing changes, or the row is updated.
    Known,
    /// The row's own id is unique: nothing changes, and id and time of the rows that are new come back.
    Told,
}

fn again(table: &str) -> Again {
    match table {
        "order_event" | "risk_evaluation" | "proposal" => Again::Told,
        "regime_state" | "module" => Again::Known,
        _ => Again::Unknown,
    }
}

/// Whether rows of the table carry their batch's id.
pub(super) fn has_batch_id(table: &str) -> bool {
    !matches!(table, "module" | "regime_state")
}

/// Whether of two rows the one that comes last stands: their order matters.
pub(super) fn last_wins(table: &str) -> bool {
    !has_batch_id(table)
}

/// Whether the table's INSERT returns id and time of the rows that it stored.
pub(super) fn tells_stored(table: &str) -> bool {
    matches!(again(table), Again::Told)
}

/// Whether the table takes a row a second time.
#[cfg(feature = "cli")]
pub(crate) fn takes_twice(table: &str) -> bool {
    can_copy(table)
}

/// Whether the table's rows can go in by COPY: it knows no ON CONFLICT.
pub(super) fn can_copy(table: &str) -> bool {
    matches!(again(table), Again::Unknown)
}

pub(super) fn copy<R: Record>() -> String {
    format!("COPY hitherto.{} ({}) FROM STDIN (FORMAT binary)", R::TABLE, columns::<R>())
}

/// Where a table must be read to be written to, a function of the database does it: whoever writes needs
/// no privilege but that of writing.
pub(super) fn insert<R: Record>() -> String {
    let (table, call) = (R::TABLE, call::<R>("store", has_batch_id(R::TABLE)));
    match again(table) {
        Again::Told => format!("-- {table}_store\nSELECT stored_id, stored_at FROM {call}"),
        Again::Known => format!("-- {table}_store\nSELECT {call}"),
        Again::Unknown => {
            let names: Vec<&str> = R::COLUMNS.iter().map(|c| c.name).collect();
            let (columns, arrays, names, id) = (columns::<R>(), arrays::<R>(), names.join(", "), R::COLUMNS.len() + 1);
            format!(
                "-- {table}_insert\nINSERT INTO hitherto.{table} ({columns}) SELECT {names}, ${id}::uuid FROM unnest({arrays}) AS r ({names})"
            )
        }
    }
}

/// Whether the conflicts of a table are noted in one of its own, so that they are refused once.
pub(super) fn notes_conflicts(table: &str) -> bool {
    table == "order_event"
}

/// Finds, among rows that were not all inserted, those whose id stands with other content: their number,
/// what stands, and, of an order event, the order whose event stands. Where they are noted, those that were not before.
pub(super) fn conflicts<R: Record>(noted: bool) -> Option<String> {
    let table = R::TABLE;
    let verb = if notes_conflicts(table) && !noted { "differing" } else { "conflicts" };
    matches!(table, "order_event" | "risk_evaluation" | "proposal" | "regime_state")
        .then(|| format!("-- {table}_{verb}\nSELECT n, stands, stands_order_id FROM {}", call::<R>(verb, noted)))
}

/// One of the table's functions, called with an array a column.
fn call<R: Record>(verb: &str, with_batch_id: bool) -> String {
    let batch_id = if with_batch_id { format!(", ${}::uuid", R::COLUMNS.len() + 1) } else { String::new() };
    format!("hitherto.{}_{verb}({}{batch_id})", R::TABLE, arrays::<R>())
}

fn arrays<R: Record>() -> String {
    R::COLUMNS.iter().enumerate().map(|(i, c)| format!("${}::{}[]", i + 1, type_name(c.kind))).collect::<Vec<_>>().join(", ")
}

fn columns<R: Record>() -> String {
    let mut names: Vec<&str> = R::COLUMNS.iter().map(|c| c.name).collect();
    if has_batch_id(R::TABLE) {
        names.push("batch_id");
    }
    names.join(", ")
}

pub(super) const LEDGER_FIND: &str = "-- ledger_find
SELECT row_count, digest, digest_form, quarantined FROM hitherto.batch_find($1)";

pub(super) const QUARANTINE_FIND: &str = "-- quarantine_find
SELECT record, sqlstate, reason FROM hitherto.batch_refused($1)";

/// No line where modules go by other numbers than those that the rows were stored under.
pub(super) const LEDGER_INSERT: &str = "-- ledger_insert
INSERT INTO hitherto.ingest_batch (batch_id, producer, table_name, row_count, min_time, max_time, digest, digest_form, rows_digest)
SELECT $1::uuid, $2::text, $3::text, $4::bigint, $5::timestamptz, $6::timestamptz, $7::bytea, 2, $8::bytea
WHERE cardinality($9::text[]) = (SELECT count(*) FROM unnest($9::text[], $10::bigint[]) AS used (name, module_id)
                                 JOIN hitherto.module_ensure($9::text[]) AS here USING (name, module_id))";

pub(super) const MODULE_ENSURE: &str = "-- module_ensure\nSELECT name, module_id FROM hitherto.module_ensure($1)";

pub(super) const ORDER_FOLD: &str = "-- execution_report_fold\nSELECT hitherto.execution_report_fold($1)";

pub(super) const QUARANTINE_INSERT: &str = "-- quarantine_insert
INSERT INTO hitherto.quarantine (batch_id, producer, table_name, record, sqlstate, reason) VALUES ($1, $2, $3, $4, $5, $6)";

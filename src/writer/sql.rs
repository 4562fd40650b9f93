//! The statements that store records, made of the records' own constants.

use crate::records::Record;

use super::encode::type_name;

/// How a table takes a row that it has already.
enum Again {
    /// It can't tell: the batch's id alone guards it.
    Unknown,
    /// The row's own id is unique: nothing changes.
    Nothing(&'static str),
    /// The same, and id and time of the rows that are new come back.
    Told(&'static str),
    /// The row is updated.
    Update,
}

fn again(table: &str) -> Again {
    match table {
        "order_event" => Again::Told("event_id, event_at"),
        "risk_evaluation" => Again::Told("evaluation_id, evaluated_at"),
        "proposal" => Again::Told("proposal_id, proposed_at"),
        // Any other conflict, such as two active regimes, must be seen.
        "regime_state" => Again::Nothing("ON CONFLICT (regime_id) DO NOTHING"),
        "module" => Again::Update,
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
    matches!(again(table), Again::Told(_))
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

pub(super) fn insert<R: Record>() -> String {
    let names: Vec<&str> = R::COLUMNS.iter().map(|c| c.name).collect();
    let (table, columns, arrays, names) = (R::TABLE, columns::<R>(), arrays::<R>(), names.join(", "));
    match again(table) {
        Again::Update => format!(
            "-- {table}_insert
             INSERT INTO hitherto.{table} ({columns})
             SELECT DISTINCT ON (name) {names} FROM unnest({arrays}) WITH ORDINALITY AS r ({names}, n) ORDER BY name, n DESC
             ON CONFLICT (name) DO UPDATE SET version = excluded.version, status = excluded.status, config = excluded.config,
                 error_message = excluded.error_message, updated_at = clock_timestamp()"
        ),
        Again::Told(key) if table == "order_event" => format!(
            "-- order_event_insert
             WITH incoming AS (
                 SELECT DISTINCT ON (event_id COLLATE \"C\") {names} FROM unnest({arrays}) WITH ORDINALITY AS r ({names}, n) ORDER BY event_id COLLATE \"C\", n
             ), claimed AS (
                 INSERT INTO hitherto.order_event_key (event_id, event_at, order_id) SELECT event_id, event_at, order_id FROM incoming ORDER BY event_id COLLATE \"C\"
                 ON CONFLICT DO NOTHING RETURNING event_id
             )
             INSERT INTO hitherto.order_event ({columns}) SELECT {names}, ${id}::uuid FROM incoming JOIN claimed USING (event_id)
             ON CONFLICT DO NOTHING RETURNING {key}",
            id = R::COLUMNS.len() + 1
        ),
        Again::Nothing(conflict) => format!("{} {conflict}", plain(table, &columns, &names, &arrays, R::COLUMNS.len())),
        Again::Told(key) => {
            format!("{} ON CONFLICT DO NOTHING RETURNING {key}", plain(table, &columns, &names, &arrays, R::COLUMNS.len()))
        }
        Again::Unknown => plain(table, &columns, &names, &arrays, R::COLUMNS.len()),
    }
}

/// Whether the conflicts of a table are noted in one of its own, so that they are refused once.
pub(super) fn notes_conflicts(table: &str) -> bool {
    table == "order_event"
}

/// Finds, among rows that were not all inserted, those whose id stands with other content: their number,
/// what stands, and, of an order event, the order whose event stands.
pub(super) fn conflicts<R: Record>() -> Option<String> {
    let names: Vec<&str> = R::COLUMNS.iter().map(|c| c.name).collect();
    let (key, compared) = match R::TABLE {
        "order_event" => ("event_id, event_at", &names[..]),
        "risk_evaluation" => ("evaluation_id, evaluated_at", &names[..]),
        "proposal" => ("proposal_id", &names[..]),
        // The others change as it is decided on.
        "regime_state" => {
            ("regime_id", &["regime", "confidence", "method", "classified_by", "reasoning", "context", "proposed_at", "decide_by"][..])
        }
        _ => return None,
    };
    let of = |row: &str| compared.iter().map(|name| format!("{row}.{name}")).collect::<Vec<_>>().join(", ");
    let (table, arrays, stands, incoming, names) = (R::TABLE, arrays::<R>(), of("s"), of("r"), names.join(", "));
    let rows = format!("unnest({arrays}) WITH ORDINALITY AS r ({names}, n)");
    Some(if notes_conflicts(table) {
        // The same id may stand at another time; retention may have dropped what stood, and then id, time
        // and order tell it from another.
        format!(
            "-- {table}_conflicts
             WITH differing AS (
                 SELECT r.n, k.event_id, k.order_id, r.order_id AS refused_order_id, sha256(convert_to((to_jsonb(r) - 'n')::text, 'UTF8')) AS digest,
                        CASE WHEN e.event_id IS NULL THEN to_jsonb(k) ELSE to_jsonb(e) - '{{recorded_at,batch_id}}'::text[] END::text AS stands
                 FROM {rows} JOIN hitherto.order_event_key k USING (event_id)
                 LEFT JOIN hitherto.order_event s ON s.event_id = r.event_id AND s.event_at = r.event_at
                 LEFT JOIN hitherto.order_event e ON e.event_id = k.event_id AND e.event_at = k.event_at
                 WHERE ({stands}) IS DISTINCT FROM ({incoming})
                   AND (e.event_id IS NOT NULL OR (k.event_at, k.order_id) IS DISTINCT FROM (r.event_at, r.order_id))
             ), noted AS (
                 INSERT INTO hitherto.order_event_conflict (event_id, digest, order_id, refused_order_id, batch_id)
                 SELECT DISTINCT event_id, digest, order_id, refused_order_id, ${id}::uuid FROM differing ON CONFLICT DO NOTHING RETURNING event_id, digest
             )
             SELECT DISTINCT ON (digest) n, stands, order_id FROM differing JOIN noted USING (event_id, digest) ORDER BY digest, n",
            id = R::COLUMNS.len() + 1
        )
    } else {
        format!(
            "-- {table}_conflicts
             SELECT r.n, (to_jsonb(s) - 'batch_id')::text, NULL::text FROM {rows} JOIN hitherto.{table} s USING ({key})
             WHERE ({stands}) IS DISTINCT FROM ({incoming})"
        )
    })
}

fn arrays<R: Record>() -> String {
    R::COLUMNS.iter().enumerate().map(|(i, c)| format!("${}::{}[]", i + 1, type_name(c.kind))).collect::<Vec<_>>().join(", ")
}

fn plain(table: &str, columns: &str, names: &str, arrays: &str, count: usize) -> String {
    let batch_id = if has_batch_id(table) { format!(", ${}::uuid", count + 1) } else { String::new() };
    format!("-- {table}_insert\nINSERT INTO hitherto.{table} ({columns}) SELECT {names}{batch_id} FROM unnest({arrays}) AS r ({names})")
}

fn columns<R: Record>() -> String {
    let mut names: Vec<&str> = R::COLUMNS.iter().map(|c| c.name).collect();
    if has_batch_id(R::TABLE) {
        names.push("batch_id");
    }
    names.join(", ")
}

pub(super) const LEDGER_FIND: &str = "-- ledger_find
SELECT row_count, digest, digest_form, (SELECT count(*) FROM hitherto.quarantine q WHERE q.batch_id = b.batch_id)
FROM hitherto.ingest_batch b WHERE batch_id = $1";

pub(super) const QUARANTINE_FIND: &str = "-- quarantine_find
SELECT record, sqlstate, reason FROM hitherto.quarantine WHERE batch_id = $1 ORDER BY quarantine_id";

pub(super) const LEDGER_INSERT: &str = "-- ledger_insert
INSERT INTO hitherto.ingest_batch (batch_id, producer, table_name, row_count, min_time, max_time, digest, digest_form, rows_digest)
VALUES ($1, $2, $3, $4, $5, $6, $7, 2, $8)";

pub(super) const MODULE_ENSURE: &str = "-- module_ensure\nSELECT name, module_id FROM hitherto.module_ensure($1)";

pub(super) const ORDER_FOLD: &str = "-- execution_report_fold\nSELECT hitherto.execution_report_fold($1)";

pub(super) const QUARANTINE_INSERT: &str = "-- quarantine_insert
INSERT INTO hitherto.quarantine (batch_id, producer, table_name, record, sqlstate, reason) VALUES ($1, $2, $3, $4, $5, $6)";

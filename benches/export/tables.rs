//! What is exported: health checks as the writer stores them, and two wide tables.

use hitherto::records::HealthCheck;
use hitherto::{Engine, Store, WriterConfig};
use hitherto_export::Dataset;
use serde::{Deserialize, Serialize};

use crate::harness::Db;

/// Rows of the narrow table; the wide ones have a tenth.
const ROWS: i64 = 2_000_000;
const COLUMNS: usize = 60;

/// As the command reads it: without it, days are found by counting rows.
const LEDGER: &str = "
    SELECT min_time, max_time, row_count, NULL::uuid FROM hitherto.ingest_batch
    WHERE table_name = 'health_check' AND xid >= $1::text::xid8
      AND ($2::timestamptz IS NULL OR max_time >= $2) AND ($3::timestamptz IS NULL OR min_time < $3)";

/// A table and how it is exported.
#[derive(Serialize, Deserialize)]
pub(crate) struct Table {
    pub(crate) name: String,
    pub(crate) rows: i64,
    pub(crate) columns: usize,
    pub(crate) query: String,
    pub(crate) time: String,
    sort: String,
    dictionary: Vec<String>,
    span: String,
    ledger: Option<String>,
}

impl Table {
    pub(crate) fn dataset(&self) -> Dataset {
        Dataset {
            name: self.name.clone(),
            query: self.query.clone(),
            time_column: Some(self.time.clone()),
            sort: vec![self.sort.clone()],
            dictionary: self.dictionary.clone(),
            tables: vec![format!("hitherto.{}", self.name)],
            span: Some(self.span.clone()),
            ledger: self.ledger.clone(),
            ..Dataset::default()
        }
    }
}

/// Makes them.
pub(crate) async fn all(db: &Db) -> Vec<Table> {
    let rows = std::env::var("HITHERTO_BENCH_ROWS").ok().map_or(ROWS, |rows| rows.parse().expect("HITHERTO_BENCH_ROWS is a number"));
    vec![health_check(&db.store, rows).await, wide(db, "wide_text", rows / 10).await, wide(db, "wide_numeric", rows / 10).await]
}

/// Nine columns, some 216,000 rows a day.
async fn health_check(store: &Store, rows: i64) -> Table {
    let start = chrono::SubsecRound::trunc_subsecs(chrono::Utc::now() - chrono::TimeDelta::milliseconds(rows * 400), 0);
    let mut state = 1u64;
    let mut random = |below: u64| {
        // xorshift64: the same checks every time.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    let writer = store.writer(WriterConfig::new("bench"));
    for n in 0..rows {
        let at = start + chrono::TimeDelta::microseconds(n * 400_000 + random(100_000) as i64);
        let mut check = HealthCheck::new(format!("module-{}", n % 16), if random(50) == 0 { "degraded" } else { "healthy" }).at(at);
        check.response_time_ms = Some(random(100_000) as f64 / 100.0);
        check.error_count = random(3) as i32;
        check.memory_usage_mb = Some(100.0 + random(5_000) as f64 / 10.0);
        check.cpu_usage_percent = Some(random(1_000) as f64 / 10.0);
        writer.write(check).await.unwrap();
    }
    assert_eq!(writer.close().await.unwrap().stored, rows as u64);
    store.client().await.unwrap().batch_execute("VACUUM ANALYZE hitherto.health_check").await.unwrap();
    Table {
        name: "health_check".to_owned(),
        rows,
        columns: 9,
        query: "SELECT checked_at, module_id, status, response_time_ms, error_count, memory_usage_mb, cpu_usage_percent, details, batch_id FROM hitherto.health_check".to_owned(),
        time: "checked_at".to_owned(),
        sort: "module_id".to_owned(),
        dictionary: vec!["status".to_owned()],
        span: "SELECT min(min_time), max(max_time) FROM hitherto.ingest_batch WHERE table_name = 'health_check'".to_owned(),
        ledger: Some(LEDGER.to_owned()),
    }
}

/// A time, a number, and texts or numerics: words of few kinds, ids, sentences; prices, quantities, rates.
async fn wide(db: &Db, name: &str, rows: i64) -> Table {
    let texts = name == "wide_text";
    let (mut types, mut values) = (Vec::new(), Vec::new());
    for column in 0..COLUMNS - 2 {
        let (kind, value) = match (texts, column % 3) {
            (true, 0) => ("text", format!("'kind-' || (n * {column}) % 20")),
            (true, 1) => ("text", format!("md5((n + {column})::text)")),
            (true, _) => ("text", format!("'order ' || n || ' of module ' || (n % 16) || ' went through step {column}'")),
            (false, 0) => ("numeric(38,18)", format!("(n * 7919 % 1000000) * 0.000001 + {column}")),
            (false, 1) => ("numeric(18,4)", format!("(n * 104729 % 100000000) / 10000.0 - {column}")),
            (false, _) => ("double precision", format!("sin(n + {column})")),
        };
        types.push(format!("c{column} {kind}"));
        values.push(value);
    }
    let hypertable = match db.store.capabilities().engine {
        Engine::Timescaledb => format!("SELECT create_hypertable('hitherto.{name}', by_range('at', INTERVAL '1 day'));"),
        Engine::Postgresql => format!("CREATE INDEX ON hitherto.{name} (at);"),
    };
    let sql = format!(
        "CREATE TABLE hitherto.{name} (at timestamptz NOT NULL, id integer NOT NULL, {});
         {hypertable}
         INSERT INTO hitherto.{name} SELECT TIMESTAMPTZ '2026-03-01 00:00:00+00' + n * INTERVAL '4 seconds', n % 16, {}
         FROM generate_series(0::bigint, {rows} - 1) AS n;",
        types.join(", "),
        values.join(", ")
    );
    let client = db.store.client().await.unwrap();
    client.batch_execute(&sql).await.unwrap();
    client.batch_execute(&format!("VACUUM ANALYZE hitherto.{name}")).await.unwrap();
    Table {
        name: name.to_owned(),
        rows,
        columns: COLUMNS,
        query: format!("SELECT * FROM hitherto.{name}"),
        time: "at".to_owned(),
        sort: "id".to_owned(),
        dictionary: Vec::new(),
        span: format!("SELECT TIMESTAMPTZ '2026-03-01 00:00:00+00', TIMESTAMPTZ '2026-03-01 00:00:00+00' + {rows} * INTERVAL '4 seconds'"),
        ledger: None,
    }
}

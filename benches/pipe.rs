//! The export against the raw limit of the same server, in one run: `make bench`.
//!
//! Ratios are what counts; machines differ and are shared. Each figure is the median of three rounds,
//! the two sides taking turns.
#![allow(clippy::print_stdout, reason = "printing is what it is for")]

#[path = "../tests/it/harness.rs"]
#[allow(dead_code, reason = "the tests use the rest of it")]
mod harness;

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use hitherto::records::{HealthCheck, ModuleExecution};
use hitherto::{Store, WriterConfig};
use hitherto_export::{Dataset, Options, export_file, export_lake};

const ROWS: i64 = 1_000_000;
const ROUNDS: usize = 3;

#[tokio::main]
async fn main() {
    // Cargo hands flags to every bench.
    if std::env::args().any(|a| a == "--test") {
        return;
    }
    let mut dbs = vec![harness::native().await];
    dbs.extend(harness::native_timescaledb().await);
    for db in dbs {
        println!("{} (PostgreSQL {})", db.name, db.store.capabilities().server_version);
        fill(&db.store).await;
        export(&db.store, &db.config).await;
        if db.name == "timescaledb" {
            percentiles(&db.store).await;
        }
    }
}

fn checks() -> Vec<HealthCheck> {
    let start = hitherto_time();
    (0..ROWS)
        .map(|n| {
            let mut check = HealthCheck::new(format!("module-{}", n % 16), "healthy").at(start + chrono::TimeDelta::milliseconds(n * 400));
            check.response_time_ms = Some((n % 977) as f64 / 10.0);
            check.error_count = (n % 3) as i32;
            check.memory_usage_mb = Some(100.0 + (n % 50) as f64);
            check.cpu_usage_percent = Some((n % 100) as f64);
            check
        })
        .collect()
}

fn hitherto_time() -> chrono::DateTime<chrono::Utc> {
    chrono::SubsecRound::trunc_subsecs(chrono::Utc::now() - chrono::TimeDelta::days(6), 0)
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort();
    times[times.len() / 2].as_secs_f64()
}

fn line(what: &str, seconds: f64, rows: i64) {
    println!("  {what:<44} {seconds:>7.2} s  {:>9.0} rows/s", rows as f64 / seconds);
}

/// What the export reads.
async fn fill(store: &Store) {
    let writer = store.writer(WriterConfig::new("bench"));
    for record in checks() {
        writer.write(record).await.unwrap();
    }
    assert_eq!(writer.close().await.unwrap().stored, ROWS as u64);
}

async fn export(store: &Store, config: &hitherto::Config) {
    let query = "SELECT checked_at, module_id, status, response_time_ms, error_count, memory_usage_mb, cpu_usage_percent, details, batch_id FROM hitherto.health_check";
    let dataset = Dataset {
        name: "health_check".to_owned(),
        query: query.to_owned(),
        time_column: Some("checked_at".to_owned()),
        sort: vec!["module_id".to_owned()],
        dictionary: vec!["status".to_owned()],
        tables: vec!["hitherto.health_check".to_owned()],
        ..Dataset::default()
    };
    let folder = tempfile::tempdir().unwrap();
    store.client().await.unwrap().batch_execute("ANALYZE hitherto.health_check").await.unwrap();
    let mut client = config.connect().await.unwrap();
    let (mut raw, mut sorted, mut file, mut lake) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut bytes = 0;
    for round in 0..ROUNDS {
        raw.push(nowhere(&client, query).await);
        sorted.push(nowhere(&client, &format!("{query} ORDER BY module_id, checked_at")).await);
        let began = Instant::now();
        let exported =
            export_file(&mut client, &dataset, &folder.path().join("f.parquet"), &Options::default(), &mut |_| ()).await.unwrap();
        file.push(began.elapsed());
        (bytes, _) = (exported.bytes, assert_eq!(exported.rows, ROWS as u64));
        let began = Instant::now();
        let path = folder.path().join(format!("lake{round}"));
        export_lake(&mut client, path.to_str().unwrap(), std::slice::from_ref(&dataset), &Options::default(), &mut |_| ()).await.unwrap();
        lake.push(began.elapsed());
    }
    let (raw, sorted, file, lake) = (median(raw), median(sorted), median(file), median(lake));
    line("COPY (SELECT) TO nowhere, unsorted", raw, ROWS);
    line("COPY (SELECT ... ORDER BY) TO nowhere", sorted, ROWS);
    line("export --file", file, ROWS);
    line("export --lake, 6 days or so", lake, ROWS);
    println!(
        "  export --file / COPY: {:.2} unsorted, {:.2} sorted alike (aim 0.5); {:.1} MB",
        raw / file,
        sorted / file,
        bytes as f64 / 1e6
    );
    println!("  export --lake / COPY: {:.2} unsorted, {:.2} sorted alike", raw / lake, sorted / lake);
}

async fn nowhere(client: &tokio_postgres::Client, query: &str) -> Duration {
    let began = Instant::now();
    let stream = client.copy_out(&format!("COPY ({query}) TO STDOUT (FORMAT binary)")).await.unwrap();
    let mut stream = std::pin::pin!(stream);
    let mut total = 0;
    while let Some(chunk) = stream.next().await {
        total += chunk.unwrap().len();
    }
    assert!(total > 0);
    began.elapsed()
}

/// The two designs that docs/percentiles.md weighs: a histogram a module and hour, or a row a class.
async fn percentiles(store: &Store) {
    let start = hitherto_time();
    let mut state = 1u64;
    let mut random = || {
        // xorshift64: the same latencies every time.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as f64 / (1u64 << 53) as f64
    };
    let writer = store.writer(WriterConfig::new("bench"));
    for n in 0..ROWS {
        let ms = (-2.0 * random().max(1e-12).ln()).sqrt() * (std::f64::consts::TAU * random()).cos();
        let run =
            ModuleExecution::new(format!("module-{}", n % 16), (ms * 0.9 + 2.5).exp()).at(start + chrono::TimeDelta::milliseconds(n * 400));
        writer.write(run).await.unwrap();
    }
    writer.close().await.unwrap();
    let client = store.client().await.unwrap();
    client
        .batch_execute(
            "CREATE MATERIALIZED VIEW hitherto.bench_class WITH (timescaledb.continuous, timescaledb.materialized_only = true) AS
             SELECT time_bucket(INTERVAL '1 hour', started_at) AS bucket, module_id,
                    width_bucket(ln(greatest(duration_ms, 1e-7)), ln(1e-6::float8), ln(1e10::float8), 1920) AS class, count(*) AS n
             FROM hitherto.module_execution GROUP BY 1, 2, 3 WITH NO DATA",
        )
        .await
        .unwrap();
    println!("  percentiles, {ROWS} runs of 16 modules by hour");
    for (what, aggregate) in [("histogram in the row", "module_latency_hour_aggregate"), ("a row a class", "bench_class")] {
        let began = Instant::now();
        client.batch_execute(&format!("CALL refresh_continuous_aggregate('hitherto.{aggregate}', NULL, NULL)")).await.unwrap();
        let refresh = began.elapsed().as_secs_f64();
        let row = client
            .query_one(
                &format!(
                    "SELECT (SELECT count(*) FROM hitherto.{aggregate}), hypertable_size(format('%I.%I', materialization_hypertable_schema, materialization_hypertable_name)::regclass)
                     FROM timescaledb_information.continuous_aggregates WHERE view_name = '{aggregate}'"
                ),
                &[],
            )
            .await
            .unwrap();
        println!(
            "    {what:<22} refresh {refresh:>5.2} s, {:>7} rows, {:>6.1} MB",
            row.get::<_, i64>(0),
            row.get::<_, i64>(1) as f64 / 1e6
        );
    }
    let began = Instant::now();
    let row = client
        .query_one(
            "SELECT hitherto.latency_percentile(0.95, 'module-3', $1, now()), (SELECT percentile_cont(0.95) WITHIN GROUP (ORDER BY duration_ms)
             FROM hitherto.module_execution e JOIN hitherto.module m USING (module_id) WHERE m.name = 'module-3' AND e.started_at >= $1)",
            &[&start],
        )
        .await
        .unwrap();
    let (answer, exact): (f64, f64) = (row.get(0), row.get(1));
    println!(
        "    latency_percentile over all: {answer:.3} ms, exactly {exact:.3} ({:+.2} %), both asked in {:.0} ms",
        (answer / exact - 1.0) * 100.0,
        began.elapsed().as_secs_f64() * 1000.0
    );
}

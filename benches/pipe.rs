//! The two designs of percentiles that docs/percentiles.md weighs, in one run: `make bench`.
#![allow(clippy::print_stdout, reason = "printing is what it is for")]

#[path = "../tests/it/harness.rs"]
#[allow(dead_code, reason = "the tests use the rest of it")]
mod harness;

use std::time::Instant;

use hitherto::records::ModuleExecution;
use hitherto::{Store, WriterConfig};

const ROWS: i64 = 1_000_000;

#[tokio::main]
async fn main() {
    // Cargo hands flags to every bench.
    if std::env::args().any(|a| a == "--test") {
        return;
    }
    let mut dbs = Vec::new();
    dbs.extend(harness::native_timescaledb().await);
    dbs.extend(harness::named().await);
    if dbs.is_empty() {
        println!("percentiles: no server with TimescaleDB; HITHERTO_TEST_DATABASE_URL names one");
    }
    for db in dbs {
        println!("{} (PostgreSQL {})", db.name, db.store.capabilities().server_version);
        percentiles(&db.store).await;
    }
}

fn hitherto_time() -> chrono::DateTime<chrono::Utc> {
    chrono::SubsecRound::trunc_subsecs(chrono::Utc::now() - chrono::TimeDelta::days(6), 0)
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

//! Rows that the server compresses as they come in.

use chrono::{SubsecRound, TimeDelta, Utc};
use hitherto::records::{EventType, HealthCheck, Json, ModuleExecution, OrderEvent};
use hitherto::{Engine, WriterConfig};

use crate::harness;

const ROWS: i64 = 12_000;

#[tokio::test]
async fn rows_that_go_into_the_columnstore_at_once_are_the_same_rows() {
    for db in harness::all().await {
        let mut config = WriterConfig::new("test");
        config.direct_compress = true;
        let writer = db.store.writer(config);
        let start = (Utc::now() - TimeDelta::hours(30)).trunc_subsecs(0);
        let details = Json::parse(r#"{"z": 1.50, "a": ["\u00e9", null]}"#).unwrap();
        for n in 0..ROWS {
            let mut check = HealthCheck::new(format!("m{}", n % 3), "healthy").at(start + TimeDelta::seconds(n)).error_count(n as i32);
            check.response_time_ms = (n % 7 > 0).then_some(n as f64 / 3.0);
            check.details = (n % 100 == 0).then(|| details.clone());
            writer.write(check).await.unwrap();
            if n % 12 == 0 {
                writer.write(ModuleExecution::new("m0", n as f64).at(start + TimeDelta::seconds(n))).await.unwrap();
                writer.write(OrderEvent::new("o", EventType::Pending).sequence(n)).await.unwrap();
            }
        }
        let stats = writer.close().await.unwrap();
        assert_eq!((stats.stored, stats.quarantined, stats.retries), (ROWS as u64 + 2000, 0, 0), "{}", db.name);
        let client = db.store.client().await.unwrap();
        let row = client
            .query_one("SELECT count(*), count(DISTINCT error_count), sum(error_count), count(details) FROM hitherto.health_check", &[])
            .await
            .unwrap();
        let sums: [i64; 4] = [row.get(0), row.get(1), row.get(2), row.get(3)];
        assert_eq!(sums, [ROWS, ROWS, ROWS * (ROWS - 1) / 2, ROWS / 100], "{}", db.name);
        let offered: i64 = client
            .query_one("SELECT count(*) FROM pg_settings WHERE name = 'timescaledb.enable_direct_compress_copy'", &[])
            .await
            .unwrap()
            .get(0);
        let capabilities = db.store.capabilities();
        if capabilities.engine == Engine::Timescaledb && capabilities.copy_in && offered > 0 {
            let compressed = "SELECT count(*) FROM timescaledb_information.chunks WHERE hypertable_name = $1 AND is_compressed";
            for (table, expected) in [("health_check", true), ("order_event", false)] {
                let chunks: i64 = client.query_one(compressed, &[&table]).await.unwrap().get(0);
                assert_eq!(chunks > 0, expected, "{}: {chunks} chunks of {table} are in the columnstore", db.name);
            }
        }
        drop(client);
        db.store.audit_seal().await.unwrap();
        let audit = db.store.audit_verify(&[]).await.unwrap();
        assert_eq!((audit.finding_count, audit.rows), (0, ROWS as u64 + 2000), "{}", db.name);
    }
}

//! The migrator.

use hitherto::{Capabilities, Config, Engine, ErrorKind, Store, migrate};

use crate::harness;

async fn migrate_once(config: &Config, engine: Option<Engine>) -> hitherto::Result<migrate::Migrated> {
    let mut client = config.connect().await?;
    let mut capabilities = Capabilities::detect(&client).await?;
    if let Some(engine) = engine {
        capabilities = capabilities.with_engine(engine)?;
    }
    migrate::migrate(&mut client, &capabilities).await
}

/// The schema as text that does not depend on object ids: what a golden file holds.
async fn dump(config: &Config) -> String {
    let client = config.connect().await.unwrap();
    let mut lines = Vec::new();
    for (what, query) in [
        ("column", "SELECT format('%s.%s %s%s%s', c.relname, a.attname, format_type(a.atttypid, a.atttypmod), CASE WHEN a.attnotnull THEN ' NOT NULL' ELSE '' END,
                    coalesce(' DEFAULT ' || pg_get_expr(d.adbin, d.adrelid), '')) FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
                    LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
                    WHERE c.relnamespace = 'hitherto'::regnamespace AND c.relkind IN ('r', 'v', 'p') AND a.attnum > 0 AND NOT a.attisdropped ORDER BY c.relname, a.attnum"),
        ("constraint", "SELECT format('%s.%s %s', c.relname, o.conname, pg_get_constraintdef(o.oid)) FROM pg_constraint o JOIN pg_class c ON c.oid = o.conrelid
                    WHERE c.relnamespace = 'hitherto'::regnamespace AND o.contype <> 'n' ORDER BY c.relname, o.conname"),
        ("index", "SELECT indexdef FROM pg_indexes WHERE schemaname = 'hitherto' ORDER BY indexname"),
        ("function", "SELECT format('%s %s', p.oid::regprocedure, md5(prosrc)) FROM pg_proc p WHERE pronamespace = 'hitherto'::regnamespace ORDER BY 1"),
    ] {
        for row in client.query(query, &[]).await.unwrap() {
            lines.push(format!("{what} {}", row.get::<_, String>(0)));
        }
    }
    if client.query_one("SELECT to_regclass('timescaledb_information.jobs') IS NOT NULL", &[]).await.unwrap().get(0) {
        for (what, query) in [
            ("hypertable", "SELECT format('%s by %s every %s', hypertable_name, column_name, time_interval) FROM timescaledb_information.dimensions WHERE hypertable_schema = 'hitherto' ORDER BY 1"),
            ("aggregate", "SELECT format('%s real-time %s', view_name, NOT materialized_only) FROM timescaledb_information.continuous_aggregates WHERE view_schema = 'hitherto' ORDER BY 1"),
            ("job", "SELECT format('%s every %s on %s: %s', proc_name, schedule_interval, coalesce(a.view_name, j.hypertable_name), config - 'mat_hypertable_id' - 'hypertable_id')
                     FROM timescaledb_information.jobs j LEFT JOIN timescaledb_information.continuous_aggregates a ON a.materialization_hypertable_name = j.hypertable_name
                     WHERE job_id >= 1000 ORDER BY 1"),
        ] {
            for row in client.query(query, &[]).await.unwrap() {
                lines.push(format!("{what} {}", row.get::<_, String>(0)));
            }
        }
    }
    lines.join("\n") + "\n"
}

#[tokio::test]
async fn the_schema_is_the_golden_one_and_migrating_again_changes_nothing() {
    for db in harness::all().await {
        drop(db.store);
        let golden = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(format!("{}.txt", db.name));
        let first = dump(&db.config).await;
        let again = migrate_once(&db.config, None).await.unwrap();
        assert_eq!(again.applied, Vec::<String>::new(), "{}", db.name);
        assert_eq!(dump(&db.config).await, first, "{}", db.name);
        if db.name.starts_with("HITHERTO") {
            continue;
        }
        if std::env::var_os("HITHERTO_GOLDEN").is_some() {
            std::fs::write(&golden, &first).unwrap();
        }
        let expected = std::fs::read_to_string(&golden).unwrap_or_default();
        let differ: Vec<String> = diff(&expected, &first);
        assert!(differ.is_empty(), "{}: the schema is not {}:\n{}", db.name, golden.display(), differ.join("\n"));
    }
}

fn diff(expected: &str, found: &str) -> Vec<String> {
    let missing = expected.lines().filter(|l| !found.lines().any(|f| f == *l)).map(|l| format!("- {l}"));
    let extra = found.lines().filter(|l| !expected.lines().any(|e| e == *l)).map(|l| format!("+ {l}"));
    missing.chain(extra).collect()
}

#[tokio::test]
async fn every_table_view_and_column_has_a_comment() {
    for db in harness::all().await {
        let client = db.store.client().await.unwrap();
        let bare: Vec<String> = client
            .query(
                "SELECT c.relname::text FROM pg_class c WHERE c.relnamespace = 'hitherto'::regnamespace AND c.relkind IN ('r', 'v', 'p') AND obj_description(c.oid, 'pg_class') IS NULL
                 UNION ALL SELECT format('%s.%s', c.relname, a.attname) FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
                 WHERE c.relnamespace = 'hitherto'::regnamespace AND c.relkind IN ('r', 'v', 'p') AND a.attnum > 0 AND NOT a.attisdropped AND col_description(c.oid, a.attnum) IS NULL",
                &[],
            )
            .await
            .unwrap()
            .iter()
            .map(|row| row.get(0))
            .collect();
        assert_eq!(bare, Vec::<String>::new(), "{}", db.name);
    }
}

/// The engines that the private server can be.
async fn native_engines() -> Vec<Option<Engine>> {
    if harness::native_timescaledb().await.is_some() { vec![Some(Engine::Postgresql), None] } else { vec![Some(Engine::Postgresql)] }
}

#[tokio::test]
async fn eight_migrators_at_once_leave_one_schema() {
    for engine in native_engines().await {
        let config = harness::empty_database().await;
        let all = futures_util::future::join_all((0..8).map(|_| migrate_once(&config, engine))).await;
        let mut applied: Vec<String> = all.into_iter().flat_map(|m| m.unwrap().applied).collect();
        applied.sort();
        let client = config.connect().await.unwrap();
        let rows = client.query("SELECT name FROM hitherto.schema_migration", &[]).await.unwrap();
        let mut there: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
        there.sort();
        assert_eq!(applied, there, "they take turns, file by file, and each file is one's alone");
        Store::connect(config).await.unwrap();
    }
}

#[tokio::test]
async fn a_killed_migration_can_be_run_again() {
    for engine in native_engines().await {
        for round in 0..6u64 {
            let config = harness::empty_database().await;
            let victim = config.clone().with_application_name("victim");
            let task = tokio::spawn(async move { migrate_once(&victim, engine).await });
            tokio::time::sleep(std::time::Duration::from_millis(10 + round * 15)).await;
            let killer = config.connect().await.unwrap();
            killer
                .execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'victim' AND datname = current_database()",
                    &[],
                )
                .await
                .unwrap();
            let _ = task.await.unwrap();
            migrate_once(&config, engine).await.unwrap();
            assert_eq!(migrate_once(&config, None).await.unwrap().applied, Vec::<String>::new());
        }
    }
}

#[tokio::test]
async fn a_newer_schema_and_an_edited_migration_are_refused() {
    let db = harness::native().await;
    let client = db.store.client().await.unwrap();
    client
        .execute("INSERT INTO hitherto.schema_migration (version, name, checksum) VALUES (9999, 'schema/9999_later', 'x')", &[])
        .await
        .unwrap();
    for error in [migrate_once(&db.config, None).await.unwrap_err(), Store::connect(db.config.clone()).await.unwrap_err()] {
        assert_eq!(error.kind(), ErrorKind::Refused);
        assert!(error.to_string().contains("schema/9999_later"), "{error}");
    }
    client.batch_execute("DELETE FROM hitherto.schema_migration WHERE version = 9999; UPDATE hitherto.schema_migration SET checksum = 'y' WHERE version = 10").await.unwrap();
    for error in [migrate_once(&db.config, None).await.unwrap_err(), Store::connect(db.config.clone()).await.unwrap_err()] {
        assert_eq!(error.kind(), ErrorKind::Refused);
        assert!(error.to_string().contains("schema/010_module"), "{error}");
    }
}

#[tokio::test]
async fn an_empty_database_says_what_to_do() {
    let error = Store::connect(harness::empty_database().await).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(error.to_string().contains("hitherto migrate"), "{error}");
}

#[tokio::test]
async fn a_failing_statement_is_named() {
    let config = harness::empty_database().await;
    let client = config.connect().await.unwrap();
    client.batch_execute("CREATE SCHEMA hitherto; CREATE TABLE hitherto.health_check (n int)").await.unwrap();
    let error = migrate_once(&config, Some(Engine::Postgresql)).await.unwrap_err();
    assert!(error.to_string().contains("sql/schema/001_schema_migration.sql, statement 1"), "{error}");
    client.batch_execute("DROP SCHEMA hitherto CASCADE").await.unwrap();
    migrate_once(&config, Some(Engine::Postgresql)).await.unwrap();
}

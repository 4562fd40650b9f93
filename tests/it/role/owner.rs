//! Whoever migrates, the objects are the schema owner's.

use serde_json::json;
use tokio_postgres::Client;

use crate::harness;
use crate::shell::{code, document, words};

/// What belongs to others than the schema's owner.
const STRAYED: &str = "
    WITH owner AS (SELECT nspowner AS oid FROM pg_namespace WHERE nspname = 'hitherto')
    SELECT array_agg(s.name ORDER BY 1) FROM (
        SELECT c.relname::text AS name FROM pg_class c WHERE c.relowner <> (SELECT oid FROM owner)
            AND (c.relnamespace IN ('hitherto'::regnamespace, 'legacy'::regnamespace) OR c.relname LIKE '%hyper\\_%')
        UNION ALL SELECT p.proname FROM pg_proc p WHERE p.pronamespace IN ('hitherto'::regnamespace, 'legacy'::regnamespace) AND p.proowner <> (SELECT oid FROM owner)
        UNION ALL SELECT nspname FROM pg_namespace WHERE nspname = 'legacy' AND nspowner <> (SELECT oid FROM owner)) AS s";

async fn strayed(client: &Client) -> Vec<String> {
    client.query_one(STRAYED, &[]).await.unwrap().get::<_, Option<Vec<String>>>(0).unwrap_or_default()
}

/// What the next migrate makes anew: a table, a view, an aggregate's, functions.
async fn take_away(client: &Client) {
    client
        .batch_execute(
            "DROP TABLE hitherto.quarantine_resolution; DELETE FROM hitherto.schema_migration WHERE name LIKE '%quarantine_resolution';
             DROP VIEW hitherto.module_silence; DROP FUNCTION hitherto.role_open(); DROP VIEW legacy.module_health_checks",
        )
        .await
        .unwrap();
}

/// On a server of its own, for roles are the server's.
#[tokio::test]
async fn whoever_migrates_the_objects_are_one_owners() {
    let server = harness::Server::running();
    let root = server.config().connect().await.unwrap();
    root.batch_execute(
        "CREATE ROLE plain LOGIN CREATEROLE; CREATE ROLE \"He\"\"lper\" LOGIN; GRANT plain TO \"He\"\"lper\"; CREATE ROLE stranger LOGIN",
    )
    .await
    .unwrap();
    let offered = root.query_one("SELECT EXISTS (SELECT FROM pg_available_extensions WHERE name = 'timescaledb')", &[]).await.unwrap();
    let engines = if offered.get(0) { &["postgresql", "timescaledb"][..] } else { &["postgresql"] };
    let folder = tempfile::tempdir().unwrap();
    for engine in engines {
        root.batch_execute(&format!("CREATE DATABASE {engine} OWNER plain")).await.unwrap();
        let url = |user: &str| format!("postgresql://{user}@127.0.0.1:{}/{engine}", server.port);
        let run = async |user: &str, args: &[&str]| crate::shell::run(&url(user), folder.path(), args, None).await;
        let config = server.config().with_database(engine);
        let first = run("plain", &["migrate", "--engine", engine]).await;
        assert_eq!(code(&first), 0, "{}", words(&first));
        let client = config.connect().await.unwrap();
        for user in ["He%22lper", "postgres"] {
            take_away(&client).await;
            let migrated = run(user, &["migrate", "--json"]).await;
            assert_eq!(
                (code(&migrated), document(&migrated)["applied"].clone()),
                (0, json!(["schema/172_quarantine_resolution"])),
                "{engine}: {user}: {}",
                words(&migrated)
            );
            assert_eq!(strayed(&client).await, Vec::<String>::new(), "{engine}: {user}");
        }
        // TimescaleDB's are closed by a superuser all the same, and the owner's doctor is content.
        let doctor = run("plain", &["doctor", "--json"]).await;
        assert_eq!(document(&doctor)["findings"], json!([]), "{engine}: {}", words(&doctor));
        // From before: what a superuser's migrate left is found, and given back by the next one's.
        let aggregate =
            if *engine == "timescaledb" { "ALTER MATERIALIZED VIEW hitherto.health_check_day_aggregate OWNER TO postgres" } else { "" };
        client
            .batch_execute(&format!(
                "ALTER TABLE hitherto.quarantine_resolution OWNER TO postgres; ALTER TABLE hitherto.module OWNER TO postgres; ALTER TABLE hitherto.signal OWNER TO postgres;
                 ALTER VIEW hitherto.module_silence OWNER TO postgres; ALTER FUNCTION hitherto.role_open() OWNER TO postgres; ALTER SEQUENCE hitherto.health_check_legacy_id OWNER TO postgres;
                 ALTER AGGREGATE hitherto.max_drawdown(numeric) OWNER TO postgres; ALTER SCHEMA legacy OWNER TO postgres; {aggregate}"
            ))
            .await
            .unwrap();
        let doctor = document(&run("postgres", &["doctor", "--json"]).await);
        let finding = doctor["findings"].to_string();
        let count = if *engine == "timescaledb" { 9 } else { 8 };
        assert!(
            finding.contains(&format!("{count} objects are not the schema's owner's; run hitherto migrate as a superuser")),
            "{engine}: {finding}"
        );
        let migrated = run("postgres", &["migrate", "--json"]).await;
        assert_eq!((code(&migrated), document(&migrated)["warnings"].clone()), (0, json!([])), "{engine}: {}", words(&migrated));
        assert_eq!(strayed(&client).await, Vec::<String>::new(), "{engine}");
        // Whoever is not in the owner changes nothing.
        assert_eq!(code(&run("stranger", &["migrate"]).await), 4);
    }
}

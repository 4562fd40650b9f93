//! What a writer might try in order to forge.

use super::{as_login, login};
use crate::harness;

const STORE: &str = "SELECT * FROM hitherto.order_event_store(ARRAY[now()], ARRAY['o'], ARRAY['e1'], ARRAY[1::bigint], ARRAY[NULL::text], ARRAY['fill'], ARRAY['A'], ARRAY['buy'],
    ARRAY['market'], ARRAY[NULL::numeric], ARRAY[NULL::numeric], ARRAY[5::numeric], ARRAY[2::numeric], ARRAY[0::numeric], ARRAY['b'], ARRAY['r'], ARRAY[NULL::text], ARRAY['{}'::jsonb], gen_random_uuid())";

#[tokio::test]
async fn settings_and_shadows_do_not_help_a_writer() {
    let mut dbs = vec![harness::native().await];
    dbs.extend(harness::native_timescaledb().await);
    dbs.extend(harness::named().await);
    for db in dbs {
        let owner = db.config.connect().await.unwrap();
        let user = login(&owner, "hitherto_writer").await;
        let client = as_login(&db, &user).unwrap().connect().await.unwrap();
        let refused = async |statement: &str, words: &str| {
            let error = client.batch_execute(statement).await.expect_err(statement);
            let text = error.as_db_error().map(|e| format!("{} {}", e.code().code(), e.message())).unwrap_or_default();
            assert!(text.contains(words), "{}: {statement}: {text}", db.name);
        };
        // An event by hand is claimed and folded, whatever the setting says when.
        let by_hand =
            "INSERT INTO hitherto.order_event (event_at, order_id, event_id, event_type, last_quantity, last_price, batch_id, recorded_at)";
        refused(
            &format!("SET hitherto.set_based = 'on'; {by_hand} VALUES (now(), 'o', 'h1', 'fill', 1, 1, gen_random_uuid(), now())"),
            "42501",
        )
        .await;
        client.batch_execute("RESET hitherto.set_based").await.unwrap();
        refused(
            &format!("{by_hand} SELECT now(), 'o', 'h' || n || set_config('hitherto.set_based', CASE n WHEN 2 THEN 'on' ELSE 'off' END, false), 'fill', 1, 1, gen_random_uuid(), now() FROM generate_series(1, 3) n"),
            "42501",
        )
        .await;
        client.batch_execute("RESET hitherto.set_based").await.unwrap();
        client
            .batch_execute(&format!("{by_hand} VALUES (now(), 'hand', 'h1', 'fill', 1, 1, gen_random_uuid(), '2000-01-01')"))
            .await
            .unwrap();
        let row = owner
            .query_one(
                "SELECT (SELECT filled_quantity::float8 FROM hitherto.execution_report WHERE order_id = 'hand'), (SELECT recorded_at > now() - INTERVAL '1 hour' FROM hitherto.order_event WHERE event_id = 'h1')",
                &[],
            )
            .await
            .unwrap();
        assert_eq!((row.get::<_, f64>(0), row.get::<_, bool>(1)), (1.0, true), "{}", db.name);
        // The functions see their own tables, operators and functions.
        client
            .batch_execute(
                "CREATE TEMP TABLE order_event_key (event_id text, event_at timestamptz, order_id text); CREATE TEMP TABLE order_event (x int); CREATE TEMP TABLE module (name text, module_id bigint);
                 CREATE FUNCTION pg_temp.has_table_privilege(text, text) RETURNS boolean LANGUAGE sql AS 'SELECT true';
                 CREATE FUNCTION pg_temp.sha256(bytea) RETURNS bytea LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'called as %', current_user; END $$;
                 SET search_path = pg_temp, hitherto, pg_catalog",
            )
            .await
            .unwrap();
        client.batch_execute(STORE).await.unwrap();
        client.batch_execute(&STORE.replace("'fill'", "'pending'").replace("_store(", "_conflicts(")).await.unwrap();
        client
            .batch_execute(
                "SELECT hitherto.module_ensure(ARRAY['m2']); SELECT hitherto.execution_report_fold(ARRAY['o']); RESET search_path",
            )
            .await
            .unwrap();
        let row = owner
            .query_one("SELECT (SELECT count(*) FROM hitherto.order_event_key), (SELECT count(*) FROM hitherto.module WHERE name = 'm2'), (SELECT filled_quantity::float8 FROM hitherto.execution_report WHERE order_id = 'o')", &[])
            .await
            .unwrap();
        assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1), row.get::<_, f64>(2)), (2, 1, 5.0), "{}", db.name);
        // A regime goes through its workflow, or nowhere.
        let regime = "INSERT INTO hitherto.regime_state (regime_id, regime, confidence, classified_by";
        refused(&format!("{regime}, legacy) VALUES ('x', 'crisis', 1, 'me', true)"), "42501").await;
        refused(&format!("{regime}, confirmed) VALUES ('x', 'crisis', 1, 'me', true)"), "42501").await;
        refused(&format!("SET hitherto.regime_step = 'on'; {regime}, status, effective_from, decided_at, decided_by) VALUES ('x', 'crisis', 1, 'me', 'active', now(), now(), 'me')"), "requires confirmation").await;
        client.batch_execute(&format!("{regime}) VALUES ('c', 'crisis', 1, 'me'), ('b', 'bull', 0.9, 'me')")).await.unwrap();
        for statement in [
            "UPDATE hitherto.regime_state SET status = 'active' WHERE regime_id = 'c'",
            "SELECT hitherto.regime_decide('c', true, 'me')",
            "SELECT hitherto.regime_put_in_force('c', 'me')",
        ] {
            refused(statement, "42501").await;
        }
        // The ledger's order is the server's, and what it holds stays.
        for statement in [
            "INSERT INTO hitherto.ingest_batch (batch_id, producer, table_name, row_count, digest, xid) VALUES (gen_random_uuid(), 'p', 't', 1, '', '3')",
            "INSERT INTO hitherto.ingest_batch (batch_id, producer, table_name, row_count, digest, committed_at) VALUES (gen_random_uuid(), 'p', 't', 1, '', now())",
            "INSERT INTO hitherto.quarantine (batch_id, producer, table_name, record, sqlstate, reason, quarantined_at) VALUES (gen_random_uuid(), 'p', 't', '', '', '', now())",
            "DELETE FROM hitherto.ingest_batch",
            "DELETE FROM hitherto.quarantine",
            "UPDATE hitherto.ingest_batch SET row_count = 0",
            "INSERT INTO hitherto.quarantine_resolution (quarantine_id, resolution, resolved_by, reason) VALUES (1, 'dropped', 'me', 'x')",
            "SELECT setval('hitherto.health_check_legacy_id', 1)",
            "SELECT hitherto.retention_set('health_check', NULL)",
            "SELECT hitherto.append_only_set('module')",
            "SELECT hitherto.order_event_record(NULL)",
            "SELECT hitherto.ledger_add(gen_random_uuid(), 'p', 't', '{}', NULL, NULL)",
            "CREATE TABLE pg_temp.mine (x int); CREATE TRIGGER t BEFORE INSERT ON pg_temp.mine FOR EACH ROW EXECUTE FUNCTION hitherto.order_event_claim()",
            "SET ROLE hitherto_owner",
        ] {
            refused(statement, "42501").await;
        }
        drop(client);
        owner.batch_execute(&format!("DROP OWNED BY {user}; DROP ROLE {user}")).await.unwrap();
    }
}

/// The owner's own code still takes whole steps.
#[tokio::test]
async fn the_settings_count_for_the_owner() {
    for db in harness::all().await {
        let client = db.store.client().await.unwrap();
        client
            .batch_execute(
                "SET hitherto.set_based = 'on';
                 INSERT INTO hitherto.order_event (event_at, order_id, event_id, event_type, batch_id) VALUES (now(), 'o', 'e', 'pending', gen_random_uuid());
                 RESET hitherto.set_based",
            )
            .await
            .unwrap();
        let claimed: i64 = client.query_one("SELECT count(*) FROM hitherto.order_event_key", &[]).await.unwrap().get(0);
        assert_eq!(claimed, 0, "{}: nothing but the row was written", db.name);
        // A function's own setting ends with it.
        client.batch_execute(&format!("BEGIN; {STORE}")).await.unwrap();
        let setting: Option<String> = client.query_one("SELECT current_setting('hitherto.set_based', true)", &[]).await.unwrap().get(0);
        assert_ne!(setting.as_deref(), Some("on"), "{}", db.name);
        client.batch_execute("ROLLBACK").await.unwrap();
    }
}

//! Making the roles, and putting logins into them.

use std::time::Duration;

use hitherto::migrate::Role;
use hitherto::{ErrorKind, Store};
use serde_json::json;

use super::login;
use crate::harness;
use crate::shell::{Shell, code, document, words};

#[tokio::test]
async fn the_command_grants_and_revokes() {
    let db = harness::native().await;
    let client = db.config.connect().await.unwrap();
    let shell = Shell::new(&db);
    let nobody = shell.run(&["grant", "writer", "no\"body'; DROP ROLE postgres; --"]).await;
    assert_eq!(code(&nobody), 1);
    assert!(words(&nobody).contains("knows no login 'no\"body'; DROP ROLE postgres; --'"), "{}", words(&nobody));
    let wrong = shell.run(&["grant", "reader", "postgres"]).await;
    assert_eq!(code(&wrong), 2);
    assert!(words(&wrong).contains("owner, writer, analyst, exporter"), "{}", words(&wrong));
    // Whatever a name holds, it is a name.
    for name in [
        format!("W4 \"odd\" {}", std::process::id()),
        format!("émile-💥'; {}", std::process::id()),
        format!("SELECT{}", std::process::id()),
    ] {
        let quoted = format!("\"{}\"", name.replace('"', "\"\""));
        client.batch_execute(&format!("CREATE ROLE {quoted} LOGIN")).await.unwrap();
        let granted = shell.run(&["grant", "analyst", &name, "--json"]).await;
        let expected = json!({"role": "analyst", "user": name, "roles": ["analyst"], "notes": []});
        assert_eq!((code(&granted), document(&granted)), (0, expected), "{}", words(&granted));
        let again = shell.run(&["grant", "hitherto_writer", &name]).await;
        assert!(String::from_utf8_lossy(&again.stdout).contains("may write records, and read none (hitherto_writer)"), "{again:?}");
        let revoked = shell.run(&["grant", "analyst", &name, "--revoke", "--json"]).await;
        assert_eq!(document(&revoked)["roles"], json!(["writer"]));
        // Taken twice it is gone as well.
        assert_eq!(code(&shell.run(&["grant", "analyst", &name, "--revoke"]).await), 0);
        client.batch_execute(&format!("DROP OWNED BY {quoted}; DROP ROLE {quoted}")).await.unwrap();
    }
    let postgres = document(&shell.run(&["grant", "exporter", "postgres", "--json"]).await);
    assert_eq!(postgres["notes"], json!(["is a superuser: no role holds it back"]));
    shell.run(&["grant", "exporter", "postgres", "--revoke"]).await;
    // The schema's owner is a superuser here, into which nobody is put.
    let user = login(&client, "hitherto_analyst").await;
    let owner = document(&shell.run(&["grant", "owner", &user, "--json"]).await);
    assert!(owner["notes"][0].as_str().unwrap().contains("postgres, which owns the schema: a superuser"), "{owner}");
    client.batch_execute(&format!("DROP OWNED BY {user}; DROP ROLE {user}")).await.unwrap();
}

/// A statement that the server took may have changed nothing.
#[tokio::test]
async fn what_did_not_take_effect_is_said() {
    for db in [harness::native().await, harness::embedded().await] {
        // The embedded engine has one connection: it goes back to the pool between questions.
        let run = async |sql: &str| db.store.client().await.unwrap().batch_execute(sql).await.unwrap();
        let by_grant = db.store.capabilities().server_version_num >= 160_000;
        let user = login(&db.store.client().await.unwrap(), "hitherto_analyst").await;
        let (admin, traders) = (format!("{user}_admin"), format!("{user}_traders"));
        run(&format!("ALTER ROLE {user} NOINHERIT; CREATE ROLE {traders}; CREATE ROLE {admin} CREATEROLE")).await;
        let refused = async |role: Role, revoke: bool| {
            let result = if revoke { db.store.role_revoke(role, &user).await } else { db.store.role_grant(role, &user).await };
            let error = result.expect_err("it did not take effect");
            assert_eq!(error.kind(), ErrorKind::Refused);
            error.to_string()
        };
        // A login that inherits nothing.
        let text = refused(Role::Writer, false).await;
        let mend =
            if by_grant { format!("GRANT hitherto_writer TO {user} WITH INHERIT TRUE") } else { format!("ALTER ROLE {user} INHERIT") };
        assert!(text.contains(&format!("{user} is in hitherto_writer, but does not inherit what it may do; run: {mend};")), "{text}");
        run(&mend).await;
        assert_eq!(db.store.role_grant(Role::Writer, &user).await.unwrap().roles, [Role::Writer, Role::Analyst]);
        run(&format!("ALTER ROLE {user} INHERIT")).await;
        // A role within a role.
        run(&format!("GRANT hitherto_writer TO {traders}; GRANT {traders} TO {user}")).await;
        let text = refused(Role::Writer, true).await;
        assert!(
            text.contains(&format!("{user} still has hitherto_writer, through other roles; run: REVOKE {traders} FROM {user}")),
            "{text}"
        );
        run(&format!("REVOKE {traders} FROM {user}")).await;
        assert!(!db.store.role_revoke(Role::Writer, &user).await.unwrap().roles.contains(&Role::Writer), "{}", db.name);
        // What somebody else granted is theirs to take back, since PostgreSQL 16.
        if by_grant {
            run(&format!(
                "GRANT hitherto_exporter TO {admin} WITH ADMIN OPTION; SET ROLE {admin}; GRANT hitherto_exporter TO {user}; RESET ROLE"
            ))
            .await;
            let text = refused(Role::Exporter, true).await;
            let mend = format!("REVOKE hitherto_exporter FROM {user} GRANTED BY {admin}");
            assert!(text.ends_with(&mend), "{text}");
            run(&mend).await;
            assert!(!db.store.role_revoke(Role::Exporter, &user).await.unwrap().roles.contains(&Role::Exporter));
        }
        run(&format!("DROP OWNED BY {user}, {admin}, {traders}; DROP ROLE {user}, {admin}, {traders}")).await;
    }
}

#[tokio::test]
async fn questions_of_roles_end() {
    let db = harness::native().await;
    let blocker = db.config.connect().await.unwrap();
    let user = login(&blocker, "hitherto_analyst").await;
    let mut config = db.config.clone();
    config.statement_timeout = Duration::from_millis(700);
    let store = Store::connect(config).await.unwrap();
    blocker
        .batch_execute("CREATE OR REPLACE FUNCTION hitherto.role_difference() RETURNS TABLE (statement text) LANGUAGE sql STABLE AS 'SELECT NULL::text FROM pg_sleep(5)'")
        .await
        .unwrap();
    let late = |result: hitherto::Result<()>| assert_eq!(result.unwrap_err().kind(), ErrorKind::Timeout);
    late(store.role_flaws().await.map(|_| ()));
    // Granting waits for those who keep the table of members.
    blocker.batch_execute("BEGIN; LOCK TABLE pg_auth_members IN SHARE MODE").await.unwrap();
    late(store.role_grant(Role::Writer, &user).await.map(|_| ()));
    late(store.role_revoke(Role::Analyst, &user).await.map(|_| ()));
    blocker.batch_execute(&format!("ROLLBACK; DROP OWNED BY {user}; DROP ROLE {user}")).await.unwrap();
}

/// On a server of its own, for roles are the server's.
#[tokio::test]
async fn who_may_make_no_roles_can_migrate_all_the_same() {
    let server = harness::Server::running();
    let root = server.config().connect().await.unwrap();
    root.batch_execute("CREATE ROLE plain LOGIN; CREATE ROLE helper LOGIN").await.unwrap();
    root.batch_execute("CREATE DATABASE plain OWNER plain").await.unwrap();
    let url = format!("postgresql://plain@127.0.0.1:{}/plain", server.port);
    let folder = tempfile::tempdir().unwrap();
    let run = async |args: &[&str]| crate::shell::run(&url, folder.path(), args, None).await;
    let migrated = run(&["migrate", "--engine", "postgresql", "--json"]).await;
    assert_eq!(code(&migrated), 0, "{}", words(&migrated));
    let warning = document(&migrated)["warnings"][0].as_str().unwrap().to_owned();
    assert!(
        warning.starts_with("4 roles are missing; run as somebody with CREATEROLE: CREATE ROLE hitherto_owner; CREATE ROLE"),
        "{warning}"
    );
    let doctor = run(&["doctor", "--json"]).await;
    assert_eq!((code(&doctor), document(&doctor)["findings"].clone()), (1, json!([warning])));
    let early = run(&["grant", "writer", "helper"]).await;
    assert_eq!(code(&early), 4);
    assert!(words(&early).contains("no role hitherto_writer on this server yet"), "{}", words(&early));
    // The store works without.
    assert_eq!(code(&run(&["regime", "propose", "bull", "--confidence", "0.9", "--by", "ann"]).await), 0);
    let statements = warning.split("CREATEROLE: ").nth(1).unwrap().split(" then:").next().unwrap();
    root.batch_execute(statements).await.unwrap();
    let ungranted = document(&run(&["doctor", "--json"]).await);
    assert!(ungranted["findings"][0].as_str().unwrap().contains("privileges are not as docs/roles.md says"), "{ungranted}");
    assert_eq!(document(&run(&["migrate", "--json"]).await)["warnings"], json!([]));
    let doctor = run(&["doctor", "--json"]).await;
    assert_eq!((code(&doctor), document(&doctor)["findings"].clone()), (0, json!([])));
    // Grants that somebody changed come back, and what else was given to the roles goes.
    let plain = hitherto::Config::from_url(&url).unwrap().connect().await.unwrap();
    plain
        .batch_execute(
            "GRANT SELECT ON hitherto.order_event TO hitherto_writer; GRANT UPDATE (name) ON hitherto.module TO hitherto_writer; REVOKE INSERT ON hitherto.signal FROM hitherto_writer;
             GRANT EXECUTE ON FUNCTION hitherto.append_only_set(text, text) TO PUBLIC; GRANT ALL ON SCHEMA hitherto TO hitherto_analyst; GRANT SELECT ON hitherto.signal TO helper",
        )
        .await
        .unwrap();
    let drifted = document(&run(&["doctor", "--json"]).await);
    assert!(drifted["findings"][0].as_str().unwrap().starts_with("5 privileges"), "{drifted}");
    assert_eq!(document(&run(&["migrate", "--json"]).await)["warnings"], json!([]));
    let kept: bool =
        root_in(&server).await.query_one("SELECT has_table_privilege('helper', 'hitherto.signal', 'SELECT')", &[]).await.unwrap().get(0);
    assert!(kept, "what others were granted is not touched");
    // Whoever is put into the owner is put into the schema's owner as well, where this session may do so.
    let root_url = format!("postgresql://postgres@127.0.0.1:{}/plain", server.port);
    let grant = crate::shell::run(&root_url, folder.path(), &["grant", "owner", "helper", "--json"], None).await;
    assert_eq!(document(&grant)["notes"], json!(["is in plain now, which owns the schema: may migrate, maintain and set retention"]));
    let helper_url = url.replace("plain@", "helper@");
    let helped = crate::shell::run(&helper_url, folder.path(), &["migrate"], None).await;
    assert_eq!(code(&helped), 0, "{}", words(&helped));
}

async fn root_in(server: &harness::Server) -> tokio_postgres::Client {
    server.config().with_database("plain").connect().await.unwrap()
}

#[tokio::test]
async fn migrators_of_many_databases_make_the_roles_once() {
    let server = harness::Server::running();
    let root = server.config().connect().await.unwrap();
    let mut migrators = Vec::new();
    for n in 0..4 {
        root.batch_execute(&format!("CREATE DATABASE many_{n}")).await.unwrap();
        migrators.push(server.config().with_database(&format!("many_{n}")));
    }
    let all = migrators.iter().map(|config| harness::migrated(config, Some(hitherto::Engine::Postgresql)));
    futures_util::future::join_all(all).await;
    let roles: i64 =
        root.query_one("SELECT count(*) FROM pg_roles WHERE rolname LIKE 'hitherto%' AND NOT rolcanlogin", &[]).await.unwrap().get(0);
    assert_eq!(roles, 4);
    for config in &migrators {
        let client = config.connect().await.unwrap();
        let differences: i64 = client.query_one("SELECT count(*) FROM hitherto.role_difference()", &[]).await.unwrap().get(0);
        assert_eq!(differences, 0);
    }
}

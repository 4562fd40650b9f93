//! The store: transactions, registry, connections.

use hitherto::records::{HealthCheck, Module, ModuleExecution, ModuleStatus};
use hitherto::writer::Batch;
use hitherto::{Config, Error, ErrorKind, Store};

use crate::harness;

async fn failing(store: &Store, sqlstate: &str, times: i64) -> (Result<i64, Error>, i64) {
    let client = store.client().await.unwrap();
    client
        .batch_execute(&format!(
            "DROP SEQUENCE IF EXISTS tries; CREATE SEQUENCE tries;
             CREATE OR REPLACE FUNCTION try() RETURNS bigint LANGUAGE plpgsql AS $$
             BEGIN IF nextval('tries') <= {times} THEN RAISE EXCEPTION 'not now' USING ERRCODE = '{sqlstate}'; END IF; RETURN 7; END $$"
        ))
        .await
        .unwrap();
    drop(client);
    let result = store
        .run_tx("try", |tx| {
            Box::pin(async move {
                let row = tx.query_one("SELECT try()", &[]).await.map_err(|e| Error::new(ErrorKind::Database, "trying").caused_by(e))?;
                Ok(row.get::<_, i64>(0))
            })
        })
        .await;
    let tries = store.client().await.unwrap().query_one("SELECT last_value FROM tries", &[]).await.unwrap().get(0);
    (result, tries)
}

#[tokio::test]
async fn a_transaction_is_tried_again_when_that_may_help_and_only_then() {
    for db in harness::all().await {
        let (result, tries) = failing(&db.store, "40001", 2).await;
        assert_eq!((result.unwrap(), tries), (7, 3), "{}: it passed at the third try", db.name);
        let (result, tries) = failing(&db.store, "40P01", 100).await;
        assert_eq!((result.unwrap_err().sqlstate(), tries), (Some("40P01"), 5), "{}: five tries are enough", db.name);
        let (result, tries) = failing(&db.store, "22003", 100).await;
        assert_eq!((result.unwrap_err().sqlstate(), tries), (Some("22003"), 1), "{}: data does not mend itself", db.name);
    }
}

#[tokio::test]
async fn a_transaction_that_hangs_ends_at_its_deadline_and_frees_its_place() {
    let db = harness::native().await;
    let mut config = db.config.clone();
    config.pool_size = 1;
    config.statement_timeout = std::time::Duration::from_millis(300);
    let store = Store::connect(config).await.unwrap();
    for _ in 0..3 {
        let error = store
            .run_tx("hang", |tx| {
                Box::pin(async move {
                    tx.execute("SELECT pg_sleep(60)", &[]).await.map_err(|e| Error::new(ErrorKind::Database, "").caused_by(e))
                })
            })
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    }
    let row = store
        .client()
        .await
        .unwrap()
        .query_one("SELECT count(*) FROM pg_stat_activity WHERE state = 'idle in transaction' AND datname = current_database()", &[])
        .await;
    assert_eq!(row.unwrap().get::<_, i64>(0), 0);
}

#[tokio::test]
async fn modules_are_registered_on_first_word_and_updated_when_they_register() {
    for db in harness::all().await {
        let store = &db.store;
        store
            .batch_store(&Batch::new("test", vec![ModuleExecution::new("m", 2.0), ModuleExecution::new("m", 4.0).failed("why")]).unwrap())
            .await
            .unwrap();
        store.batch_store(&Batch::new("test", vec![HealthCheck::new("m", "degraded")]).unwrap()).await.unwrap();
        let first = store.module_get("m").await.unwrap().unwrap();
        assert_eq!((first.version.as_str(), first.status.as_str()), ("unknown", "active"), "{}", db.name);
        let second = store.module_register(Module::new("m", "2.1")).await.unwrap();
        assert_eq!((second.module_id, second.version.as_str()), (first.module_id, "2.1"), "{}", db.name);
        store.module_set_status("m", ModuleStatus::Error, Some("out of ink")).await.unwrap();
        let error = store.module_set_status("unheard-of", ModuleStatus::Active, None).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        let stats = store.module_stats().await.unwrap();
        assert_eq!(stats.len(), 1, "{}", db.name);
        let m = &stats[0];
        assert_eq!((m.execution_count, m.success_rate, m.avg_execution_time_ms), (2, Some(0.5), Some(3.0)), "{}", db.name);
        assert_eq!(
            (m.status.as_str(), m.error_message.as_deref(), m.last_status.as_deref()),
            ("error", Some("out of ink"), Some("degraded")),
            "{}",
            db.name
        );
        assert_eq!(store.module_list().await.unwrap().len(), 1);
    }
}

#[tokio::test]
async fn a_password_is_in_no_message() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let config = Config::from_url(&format!("postgresql://ann:canary-7f3@127.0.0.1:{port}/x")).unwrap();
    let error = Store::connect(config.clone()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreachable);
    for text in [format!("{config} {config:?}"), format!("{error} {error:?}")] {
        assert!(!text.contains("canary-7f3"), "{text}");
    }
    Config::from_url("host=h user=ann dbname=x password=a://b").unwrap();
    for broken in [
        "postgresql://ann:canary-7f3@host:port/x",
        "postgresql+psycopg://ann:canary-7f3@host/x?sslmode=require",
        "ann:canary-7f3@host/x?y=z",
        "postgresql://ann:pass@canary-7f3@host/x",
        "host=h password=canary-7f3 nonsense=1",
    ] {
        let error = Config::from_url(broken).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(!format!("{error} {error:?}").contains("canary-7f3"), "{error}");
    }
}

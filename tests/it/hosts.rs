//! Several hosts: the one is found that the session is for, and the next one when it is gone.

use std::time::{Duration, Instant};

use hitherto::records::HealthCheck;
use hitherto::{Config, Engine, ErrorKind, Store, WriterConfig};

use crate::harness::{self, Server, free_port, run};

fn config(ports: &[u16], parameters: &str) -> Config {
    let hosts: Vec<String> = ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
    Config::from_url(&format!("postgresql://postgres@{}/postgres?{parameters}", hosts.join(","))).unwrap()
}

async fn port(config: &Config) -> i32 {
    let client = config.connect().await.unwrap();
    client.query_one("SELECT inet_server_port()", &[]).await.unwrap().get(0)
}

async fn count(store: &Store, query: &str) -> i64 {
    store.client().await.unwrap().query_one(query, &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn sessions_find_their_server_and_the_next_one_after_a_fail_over() {
    let primary = Server::new(free_port(), "-c fsync=off");
    primary.make_data(&primary.data(), &[]);
    primary.start().unwrap();
    let store = harness::migrated(&primary.config(), Some(Engine::Postgresql)).await;
    drop(store);
    let standby = Server::new(free_port(), "-c fsync=off");
    run(standby
        .command("pg_basebackup")
        .args(["-R", "-c", "fast", "--no-sync", "-U", "postgres", "-h", "127.0.0.1", "-p", &primary.port.to_string(), "-D"])
        .arg(standby.data()))
    .unwrap();
    standby.start().unwrap();

    let (first, second, nobody) = (i32::from(standby.port), i32::from(primary.port), free_port());
    let ports = [nobody, standby.port, primary.port];
    for (target, expected) in
        [("any", first), ("read-write", second), ("read-only", first), ("primary", second), ("standby", first), ("prefer-standby", first)]
    {
        assert_eq!(port(&config(&ports, &format!("target_session_attrs={target}"))).await, expected, "{target}");
    }
    assert_eq!(port(&config(&[primary.port], "target_session_attrs=prefer-standby")).await, second, "better than none");
    let shuffled = config(&[standby.port, primary.port], "load_balance_hosts=random");
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..64 {
        seen.insert(port(&shuffled).await);
    }
    assert_eq!(seen.len(), 2, "each is taken now and then");
    let error = config(&[nobody, standby.port], "target_session_attrs=read-write").connect().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreachable);
    for part in [format!("127.0.0.1:{nobody}: "), format!("127.0.0.1:{}: it takes no writes", standby.port)] {
        assert!(error.to_string().contains(&part), "{error}");
    }
    // As in libpq: a server that turns the login down has answered.
    let refused = config(&[primary.port, standby.port], "").with_database("nothing").connect().await.unwrap_err();
    assert!(refused.kind() == ErrorKind::Refused && refused.to_string().contains("3D000"), "{refused}");

    let config = config(&ports, "target_session_attrs=read-write");
    assert_eq!(config.to_string(), format!("postgres@127.0.0.1:{nobody},127.0.0.1:{},127.0.0.1:{}/postgres", standby.port, primary.port));
    let store = Store::connect(config).await.unwrap();
    let writer = store.writer(WriterConfig::new("test"));
    for n in 0..1_000 {
        writer.write(HealthCheck::new("m", "healthy").error_count(n)).await.unwrap();
    }
    writer.flush().await.unwrap();
    assert_eq!(count(&store, "SELECT inet_server_port()::bigint").await, i64::from(second));
    let replayed = async {
        let client = standby.config().connect().await.unwrap();
        let began = Instant::now();
        loop {
            let row = client
                .query_one("SELECT count(*) FROM hitherto.ingest_batch b, hitherto.health_check h WHERE h.batch_id = b.batch_id", &[]);
            if row.await.unwrap().get::<_, i64>(0) == 1_000 {
                return;
            }
            assert!(began.elapsed() < Duration::from_secs(60), "the standby does not catch up");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    replayed.await;
    primary.stop().unwrap();
    for n in 0..500 {
        writer.write(HealthCheck::new("m", "healthy").error_count(n)).await.unwrap();
    }
    run(standby.command("pg_ctl").args(["-w", "-s", "promote", "-D"]).arg(standby.data())).unwrap();
    tokio::time::timeout(Duration::from_secs(120), writer.close()).await.expect("the writer finds the new primary").unwrap();
    assert_eq!(count(&store, "SELECT inet_server_port()::bigint").await, i64::from(first));
    assert_eq!(count(&store, "SELECT count(*) FROM hitherto.health_check").await, 1_500);
    assert_eq!(count(&store, "SELECT sum(row_count)::bigint FROM hitherto.ingest_batch").await, 1_500);
}

//! Behind pgbouncer in transaction mode: every transaction may be another session's.

use std::process::Stdio;

use futures_util::future::join_all;
use hitherto::records::{EventType, HealthCheck, OrderEvent};
use hitherto::writer::Batch;
use hitherto::{Config, Pooler, Store, WriterConfig};
use tokio::process::{Child, Command};

use crate::harness::{self, Db, free_port};
use crate::shell::{check, code, run, words};

/// Sessions that the pooler keeps with the server, for all of its clients.
const SESSIONS: usize = 2;

pub(crate) struct Pgbouncer {
    port: u16,
    _folder: tempfile::TempDir,
    _process: Child,
}

impl Pgbouncer {
    pub(crate) async fn start() -> Self {
        let (port, server) = (free_port(), harness::server());
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pgbouncer.ini");
        let settings = format!(
            "[databases]\n* = host=127.0.0.1 port={} user=postgres\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n\
             auth_type = any\npool_mode = transaction\ndefault_pool_size = {SESSIONS}\nmax_client_conn = 200\n",
            server.port
        );
        std::fs::write(&file, settings).unwrap();
        server.own(folder.path()).unwrap();
        // It does not run as root, either.
        let program = ["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer", "/usr/local/bin/pgbouncer"]
            .into_iter()
            .find(|path| std::path::Path::new(path).exists());
        let command = server.command_of(program.expect("pgbouncer must be installed; run: make setup").as_ref());
        let mut command = Command::from(command);
        command.arg("-q").arg(&file).current_dir("/").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let process = command.kill_on_drop(true).spawn().unwrap();
        let began = std::time::Instant::now();
        while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            assert!(began.elapsed() < std::time::Duration::from_secs(20), "pgbouncer does not listen");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        Self { port, _folder: folder, _process: process }
    }

    pub(crate) fn url(&self, db: &Db) -> String {
        format!("postgresql://postgres@127.0.0.1:{}/{}", self.port, db.config.database().unwrap())
    }
}

async fn number(store: &Store, query: &str) -> i64 {
    store.client().await.unwrap().query_one(query, &[]).await.unwrap().get(0)
}

/// What the server's sessions were left with: settings of their own, prepared statements, locks.
async fn assert_nothing_is_left_behind(url: &str) {
    let config = Config::from_url(url).unwrap();
    let mut clients = Vec::new();
    for _ in 0..SESSIONS {
        let client = config.connect().await.unwrap();
        client.batch_execute("BEGIN").await.unwrap();
        clients.push(client);
    }
    for client in &clients {
        // What the pooler itself keeps track of, client by client.
        let settings = "SELECT coalesce(string_agg(name, ', '), '') FROM pg_settings WHERE source = 'session'
                        AND name NOT IN ('client_encoding', 'DateStyle', 'TimeZone', 'standard_conforming_strings', 'application_name', 'transaction_isolation', 'transaction_read_only', 'transaction_deferrable')";
        assert_eq!(client.query_one(settings, &[]).await.unwrap().get::<_, String>(0), "");
        let held = "SELECT (SELECT count(*) FROM pg_prepared_statements WHERE name <> ''), (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid())";
        let row = client.query_one(held, &[]).await.unwrap();
        assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1)), (0, 0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn writers_and_commands_share_two_sessions() {
    let (db, pgbouncer) = (harness::native().await, Pgbouncer::start().await);
    let url = pgbouncer.url(&db);
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();

    let embedded = harness::embedded().await;
    for direct in [&db, &embedded] {
        assert!(!direct.store.client().await.unwrap().is_pooled(), "{}: nothing stands before the server", direct.name);
    }
    drop(embedded);
    let config = Config::from_url(&url).unwrap();
    assert_eq!(config.pooler, Pooler::Auto);
    let store = Store::connect(config.clone()).await.unwrap();
    assert!(store.client().await.unwrap().is_pooled(), "the pooler is found out");
    let told = Store::connect(Config::from_url(&format!("{url}?pooler=transaction")).unwrap()).await.unwrap();
    assert!(told.client().await.unwrap().is_pooled());

    // Eight writers of two programs' making, and four programs of their own.
    let writers: Vec<_> = (0..8).map(|n| if n % 2 == 0 { &store } else { &told }.writer(WriterConfig::new(format!("w{n}")))).collect();
    let write = join_all(writers.iter().enumerate().map(async |(w, writer)| {
        for n in 0..3_000 {
            writer.write(HealthCheck::new(format!("m{w}"), "healthy").error_count(n)).await.unwrap();
            if n % 3 == 0 {
                writer.write(OrderEvent::new(format!("o{}", n % 50), EventType::Pending)).await.unwrap();
            }
            if n % 500 == 0 {
                writer.flush().await.unwrap();
            }
        }
        writer.close().await.unwrap()
    }));
    let lines = |program: i64| (0..500).map(|n| check(program * 1_000 + n)).collect::<Vec<_>>().join("\n");
    let programs = join_all((0..4).map(async |n| {
        run(&url, folder, &["ingest", "health-check", "--rejects", &format!("{n}.ndjson")], Some(lines(n).as_bytes())).await
    }));
    let batches = async {
        for _ in 0..20 {
            let batch = Batch::new("batches", (0..100).map(|_| HealthCheck::new("b", "healthy")).collect()).unwrap();
            assert_eq!(store.batch_store(&batch).await.unwrap().rows, 100);
            assert!(told.batch_store(&batch).await.unwrap().already);
        }
    };
    let (stats, outputs, ()) = tokio::join!(write, programs, batches);
    assert!(stats.iter().all(|s| (s.stored, s.quarantined) == (4_000, 0)), "{stats:?}");
    assert!(outputs.iter().all(|o| code(o) == 0), "{}", outputs.iter().map(words).collect::<String>());
    for (table, expected) in [("health_check", 8 * 3_000 + 4 * 500 + 20 * 100), ("order_event", 8 * 1_000)] {
        let ledger = format!("SELECT sum(row_count)::bigint FROM hitherto.ingest_batch WHERE table_name = '{table}'");
        assert_eq!(number(&db.store, &format!("SELECT count(*) FROM hitherto.{table}")).await, expected, "{table}");
        assert_eq!(number(&db.store, &ledger).await, expected, "{table}");
    }

    // A row that the database refuses is set apart, as it is without a pooler.
    let client = store.client().await.unwrap();
    client.batch_execute("ALTER TABLE hitherto.health_check ADD CONSTRAINT odd CHECK (error_count <> 777777)").await.unwrap();
    drop(client);
    let rows = (0..100).map(|n| HealthCheck::new("q", "healthy").error_count(if n == 50 { 777_777 } else { n })).collect();
    let stored = store.batch_store(&Batch::new("test", rows).unwrap()).await.unwrap();
    assert_eq!((stored.rows, stored.quarantined), (99, 1));

    for args in [
        vec!["migrate"],
        vec!["order", "o1"],
        vec!["export", "--lake", "lake"],
        vec!["maintain"],
        vec!["retention", "set", "health-check", "--keep", "30d"],
        vec!["maintain"],
        vec!["retention", "show"],
        vec!["audit", "seal"],
        vec!["audit", "verify"],
        vec!["regime", "show"],
    ] {
        let output = run(&url, folder, &args, None).await;
        assert_eq!(code(&output), 0, "{args:?}: {}", words(&output));
    }
    let doctor = run(&url, folder, &["doctor"], None).await;
    assert!(code(&doctor) == 1 && String::from_utf8_lossy(&doctor.stdout).contains("1 rows wait in quarantine"), "{}", words(&doctor));
    assert_nothing_is_left_behind(&url).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn migrators_take_turns_behind_a_pooler() {
    let pgbouncer = Pgbouncer::start().await;
    let config = harness::empty_database().await;
    let url = format!("postgresql://postgres@127.0.0.1:{}/{}", pgbouncer.port, config.database().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let outputs = join_all((0..4).map(async |_| run(&url, folder.path(), &["migrate", "--engine", "postgresql"], None).await)).await;
    assert!(outputs.iter().all(|o| code(o) == 0), "{}", outputs.iter().map(words).collect::<String>());
    Store::connect(Config::from_url(&url).unwrap()).await.unwrap();
    assert_nothing_is_left_behind(&url).await;
}

#[tokio::test]
async fn a_statement_whose_columns_changed_is_not_read_as_what_it_was() {
    let (db, pgbouncer) = (harness::native().await, Pgbouncer::start().await);
    let store = Store::connect(Config::from_url(&pgbouncer.url(&db)).unwrap()).await.unwrap();
    let client = store.client().await.unwrap();
    client.batch_execute("CREATE TABLE shape (n bigint); INSERT INTO shape VALUES (1)").await.unwrap();
    let statement = client.prepare("SELECT n FROM shape WHERE n < $1").await.unwrap();
    assert_eq!(client.query_one(&statement, &[&5i64]).await.unwrap().get::<_, i64>(0), 1);
    let failed = client.query_one("SELECT 1 / $1::bigint", &[&0i64]).await.unwrap_err();
    assert_eq!(failed.code().unwrap().code(), "22012", "an error is told as it is");
    assert_eq!(client.query_one(&statement, &[&5i64]).await.unwrap().get::<_, i64>(0), 1);
    db.store.client().await.unwrap().batch_execute("ALTER TABLE shape ALTER n TYPE double precision").await.unwrap();
    assert!(client.query_one(&statement, &[&5i64]).await.is_err(), "eight bytes of one are not eight bytes of the other");
    drop(client);
    assert_eq!(number(&store, "SELECT n::bigint FROM shape").await, 1, "the next connection is a new one");
}

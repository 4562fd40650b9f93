//! Exports that are told to stop.

use std::process::Output;
use std::time::{Duration, Instant};

use tokio::process::Child;

use super::*;
use crate::pgbouncer::Pgbouncer;
use crate::tls;

pub(super) fn start(url: &str, folder: &Path, args: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_hitherto"))
        .args(args)
        .env("DATABASE_URL", url)
        .current_dir(folder)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

pub(super) async fn until(what: &str, mut there: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !there().await {
        assert!(began.elapsed() < Duration::from_secs(60), "{what} did not come");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Waits until an export's session is at a statement like this.
pub(super) async fn working(db: &Db, like: &str) {
    let query = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'hitherto export' AND datname = current_database() AND query LIKE '{like}'"
    );
    until(like, async || shell::count(db, &query).await > 0).await;
}

const SESSIONS: &str = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'hitherto export' AND datname = current_database()";

/// The server has ended the export's sessions, and what they were at.
async fn gone(db: &Db) {
    let began = Instant::now();
    while shell::count(db, SESSIONS).await > 0 {
        assert!(began.elapsed() < Duration::from_secs(3), "the server is still at it");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub(super) async fn send(child: &Child, signal: &str) {
    let pid = child.id().unwrap().to_string();
    assert!(Command::new("kill").args([signal, &pid]).status().await.unwrap().success());
}

pub(super) async fn end(child: Child) -> Output {
    tokio::time::timeout(Duration::from_secs(30), child.wait_with_output()).await.expect("it ends").unwrap()
}

#[tokio::test]
async fn a_file_that_is_interrupted_leaves_nothing_here_or_on_the_server() {
    let db = harness::native().await;
    let shell = Shell::new(&db);
    shell.write("f", "before");
    for (signal, query) in [
        ("-INT", "SELECT pg_sleep(600)::text AS s"),
        ("-TERM", "SELECT pg_sleep(600)::text AS s"),
        // Rows without end, some of which are on disk.
        ("-INT", "SELECT n, md5(n::text) AS m FROM (SELECT generate_series(1, 1000000000) AS n) AS endless"),
    ] {
        let child = start(&shell.url, shell.folder.path(), &["export", "--select", query, "--file", "f", "--connections", "3", "--json"]);
        working(&db, "COPY (SELECT%").await;
        assert_eq!(shell::count(&db, SESSIONS).await, 3);
        if query.contains("md5") {
            until("rows on disk", async || tree(shell.folder.path()).iter().any(|f| f.ends_with("draft.parquet"))).await;
        }
        send(&child, signal).await;
        let output = end(child).await;
        gone(&db).await;
        assert_eq!(code(&output), 130, "{}", words(&output));
        assert!(words(&output).contains("interrupted"), "{}", words(&output));
        assert_eq!(document(&output)["error"]["kind"], "closed");
        assert_eq!(tree(shell.folder.path()), ["f"]);
        assert_eq!(std::fs::read(shell.path("f")).unwrap(), b"before");
    }
}

#[tokio::test]
async fn what_a_killed_export_leaves_beside_its_file_goes_with_the_next() {
    let db = harness::native().await;
    let shell = Shell::new(&db);
    let endless = "SELECT n, md5(n::text) AS m FROM (SELECT generate_series(1, 1000000000) AS n) AS endless";
    let child = start(&shell.url, shell.folder.path(), &["export", "--select", endless, "--file", "f"]);
    until("rows on disk", async || tree(shell.folder.path()).iter().any(|f| f.ends_with("draft.parquet"))).await;
    send(&child, "-KILL").await;
    end(child).await;
    assert!(tree(shell.folder.path()).iter().any(|f| f.ends_with("draft.parquet")), "what is killed removes nothing");
    let output = shell.run(&["export", "--select", "SELECT 1 AS a", "--file", "g"]).await;
    assert_eq!(code(&output), 0, "{}", words(&output));
    assert_eq!(tree(shell.folder.path()), ["g"]);
}

#[tokio::test]
async fn a_lake_that_is_interrupted_is_as_it_was() {
    let db = harness::native().await;
    let shell = Shell::new(&db);
    for days_ago in 1..=12 {
        health_checks(&shell, days_ago, 2_000).await;
    }
    std::fs::create_dir(shell.path("empty")).unwrap();
    assert_eq!(code(&shell.run(&["export", "--lake", "old"]).await), 0);
    let data = |lake: &str| tree(&shell.path(lake)).into_iter().filter(|f| f.ends_with(".parquet")).collect::<Vec<_>>();
    for (lake, before) in [("new", None), ("empty", Some(Vec::new())), ("old", Some(tree(&shell.path("old"))))] {
        let files = before.as_ref().map_or(0, |_| data(lake).len());
        let child = start(&shell.url, shell.folder.path(), &["export", "--lake", lake, "--full", "--connections", "1"]);
        until("a data file", async || shell.path(lake).exists() && data(lake).len() > files).await;
        send(&child, "-INT").await;
        let output = end(child).await;
        assert_eq!(code(&output), 130, "{lake}: {}", words(&output));
        gone(&db).await;
        let after: Option<Vec<String>> = shell.path(lake).exists().then(|| tree(&shell.path(lake)));
        assert_eq!(after, before, "{lake}");
    }
    // Before there is anything to write: waiting for a lock.
    let holder = db.config.connect().await.unwrap();
    holder.batch_execute("BEGIN; LOCK TABLE hitherto.signal").await.unwrap();
    let child = start(&shell.url, shell.folder.path(), &["export", "--lake", "new"]);
    working(&db, "LOCK TABLE%").await;
    send(&child, "-INT").await;
    assert_eq!(code(&end(child).await), 130);
    gone(&db).await;
    assert!(!shell.path("new").exists());
    holder.batch_execute("COMMIT").await.unwrap();
    assert_eq!(code(&shell.run(&["export", "--lake", "new"]).await), 0);
}

#[tokio::test]
async fn whoever_asks_twice_does_not_wait() {
    let db = harness::native().await;
    let shell = Shell::new(&db);
    let silent = Silent::start(harness::server().port).await;
    let url = shell.url.replace(&format!(":{}/", harness::server().port), &format!(":{}/", silent.port));
    let child =
        start(&url, shell.folder.path(), &["export", "--select", "SELECT pg_sleep(600)::text AS s", "--file", "f", "--connections", "1"]);
    working(&db, "COPY (SELECT pg_sleep%").await;
    // From now on the server is not heard of any more, as with a cable that was cut.
    silent.cut();
    send(&child, "-INT").await;
    until("the file's end", async || tree(shell.folder.path()).is_empty()).await;
    let again = Instant::now();
    send(&child, "-INT").await;
    let output = end(child).await;
    assert!(code(&output) == 130 && again.elapsed() < Duration::from_secs(2), "{:?}: {}", again.elapsed(), words(&output));
    let stop = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'hitherto export' AND datname = current_database()";
    shell::count(&db, stop).await;
}

#[tokio::test]
async fn the_server_is_told_to_stop_through_a_pooler_and_over_tls() {
    let (db, pgbouncer) = (harness::native().await, Pgbouncer::start().await);
    let place = tls::Place::new();
    let ours = tls::authority("ours");
    let root = place.file("ours.crt", &ours.pem());
    let certificate = tls::signed(&tls::params(&["localhost"], "localhost"), &ours);
    place.serve(Some(&certificate), "local all all trust\nhostssl all all all trust\n", "");
    let parameters = tls::root("verify-full", &root);
    let encrypted = format!("postgresql://postgres@localhost:{}/postgres?{parameters}", place.server.port);
    let config = place.config("localhost", &parameters);
    let migrated = shell::run(&encrypted, place.files.path(), &["migrate", "--engine", "postgresql"], None).await;
    assert_eq!(code(&migrated), 0, "{}", words(&migrated));
    let at_it = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND datname = current_database() AND query LIKE 'COPY (SELECT pg_sleep%'";
    for (url, config) in [(pgbouncer.url(&db), db.config.clone()), (encrypted, config)] {
        let folder = tempfile::tempdir().unwrap();
        let client = config.connect().await.unwrap();
        let sleeping = async || client.query_one(at_it, &[]).await.unwrap().get::<_, i64>(0);
        let query = "SELECT pg_sleep(600)::text AS s";
        let child = start(&url, folder.path(), &["export", "--select", query, "--file", "f", "--connections", "1"]);
        until("the query", async || sleeping().await == 1).await;
        send(&child, "-INT").await;
        let output = end(child).await;
        assert_eq!(code(&output), 130, "{}", words(&output));
        let began = Instant::now();
        while sleeping().await > 0 {
            assert!(began.elapsed() < Duration::from_secs(3), "{url}: the server is still at it");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(tree(folder.path()), [""; 0]);
    }
}

/// Stands before a server and hands on what both say, until it is cut.
struct Silent {
    port: u16,
    cut: tokio::sync::watch::Sender<bool>,
}

impl Silent {
    async fn start(server: u16) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (cut, is_cut) = tokio::sync::watch::channel(false);
        tokio::spawn(async move {
            let mut kept = Vec::new();
            while let Ok((mut client, _)) = listener.accept().await {
                let mut is_cut = is_cut.clone();
                if *is_cut.borrow() {
                    kept.push(client);
                    continue;
                }
                tokio::spawn(async move {
                    let mut server = tokio::net::TcpStream::connect(("127.0.0.1", server)).await.unwrap();
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut client, &mut server) => {}
                        () = async { drop(is_cut.wait_for(|cut| *cut).await) } => {}
                    }
                    // Both ends stay open, and nobody says anything any more.
                    std::future::pending::<()>().await;
                });
            }
        });
        Self { port, cut }
    }

    fn cut(&self) {
        self.cut.send_replace(true);
    }
}

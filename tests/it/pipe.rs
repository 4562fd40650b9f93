//! A running `hitherto ingest` with an open pipe, and a door before the database that can be shut.

use std::process::{Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::watch;

use crate::harness::{self, Db};
use crate::shell::{Shell, count};

/// The process and the way into it.
pub(crate) struct Pipe {
    child: Child,
    stdin: Option<ChildStdin>,
}

impl Pipe {
    pub(crate) fn open(shell: &Shell, url: &str, args: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_hitherto"))
            .arg("ingest")
            .args(args)
            .env("DATABASE_URL", url)
            .current_dir(shell.folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let stdin = child.stdin.take();
        Self { child, stdin }
    }

    /// Writes, unless the process has gone.
    pub(crate) async fn feed(&mut self, text: &str) {
        let stdin = self.stdin.as_mut().unwrap();
        let _ = stdin.write_all(text.as_bytes()).await;
        let _ = stdin.flush().await;
    }

    pub(crate) async fn signal(&self, name: &str) {
        let pid = self.child.id().expect("it runs").to_string();
        assert!(Command::new("kill").args([name, &pid]).status().await.unwrap().success());
    }

    pub(crate) fn close(&mut self) {
        self.stdin = None;
    }

    /// Waits for the end with the pipe as it is.
    pub(crate) async fn end(mut self) -> Output {
        let _open = self.stdin.take();
        tokio::time::timeout(Duration::from_secs(120), self.child.wait_with_output()).await.expect("it ends").unwrap()
    }

    /// It is still there.
    pub(crate) fn runs(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }
}

/// A way to the test server that can be shut: then connections break, and new ones come to nothing.
pub(crate) struct Door {
    port: u16,
    is_open: Arc<watch::Sender<bool>>,
}

impl Door {
    pub(crate) async fn new(is_open: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let is_open = Arc::new(watch::channel(is_open).0);
        let state = is_open.clone();
        let server = harness::server().port;
        tokio::spawn(async move {
            loop {
                let Ok((mut client, _)) = listener.accept().await else { continue };
                let mut state = state.subscribe();
                if !*state.borrow() {
                    continue;
                }
                tokio::spawn(async move {
                    let mut server = TcpStream::connect(("127.0.0.1", server)).await.unwrap();
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut client, &mut server) => {}
                        _ = state.wait_for(|is_open| !is_open) => {}
                    }
                });
            }
        });
        Self { port, is_open }
    }

    pub(crate) fn set(&self, is_open: bool) {
        self.is_open.send_replace(is_open);
    }

    pub(crate) fn url(&self, db: &Db) -> String {
        format!("postgresql://postgres@127.0.0.1:{}/{}", self.port, db.config.database().unwrap())
    }
}

/// Waits until a query counts so many.
pub(crate) async fn until(db: &Db, query: &str, expected: i64) {
    let began = Instant::now();
    loop {
        let now = count(db, query).await;
        if now == expected {
            return;
        }
        // What grows does not grow past it.
        assert!(expected == 0 || now < expected, "{query}: {now}, more than {expected}");
        assert!(began.elapsed() < Duration::from_secs(60), "{query}: {now}, not {expected}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The rows are lines `0..n` of a stream that counts in `error_count`, each once; gives n.
pub(crate) async fn prefix(db: &Db, what: &str) -> i64 {
    let rows = count(db, crate::shell::CHECKS).await;
    let distinct = count(db, "SELECT count(DISTINCT error_count) FROM hitherto.health_check").await;
    let last = count(db, "SELECT coalesce(max(error_count), -1)::bigint FROM hitherto.health_check").await;
    assert_eq!((distinct, last + 1), (rows, rows), "{what}: rows, distinct and last line");
    rows
}

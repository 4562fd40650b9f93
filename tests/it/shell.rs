//! The command's process, as a user starts it.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::harness::{self, Db};

pub(crate) struct Shell {
    pub(crate) url: String,
    pub(crate) folder: tempfile::TempDir,
}

impl Shell {
    pub(crate) fn new(db: &Db) -> Self {
        let url = format!("postgresql://postgres:canary-7f3@127.0.0.1:{}/{}", harness::server().port, db.config.database().unwrap());
        Self { url, folder: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        std::fs::write(self.path(name), bytes).unwrap();
        self.path(name)
    }

    pub(crate) async fn run(&self, args: &[&str]) -> Output {
        run(&self.url, self.folder.path(), args, None).await
    }
}

pub(crate) async fn run(url: &str, folder: &Path, args: &[&str], input: Option<&[u8]>) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_hitherto"))
        .args(args)
        .env("DATABASE_URL", url)
        .env_remove("PGHOST")
        .env_remove("PGDATABASE")
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.unwrap_or_default()).await.unwrap();
    drop(stdin);
    let output = child.wait_with_output().await.unwrap();
    for stream in [&output.stdout, &output.stderr] {
        assert!(!String::from_utf8_lossy(stream).contains("canary-7f3"), "the password is told");
    }
    output
}

pub(crate) fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

pub(crate) fn document(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&output.stdout)))
}

pub(crate) fn words(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

pub(crate) fn check(n: i64) -> String {
    let at = chrono::Utc::now() - chrono::TimeDelta::days(1) + chrono::TimeDelta::seconds(n % 3600);
    json!({"module": "m", "checked_at": at.format("%Y-%m-%dT%H:%M:%SZ").to_string(), "status": "healthy", "error_count": n}).to_string()
}

pub(crate) async fn count(db: &Db, query: &str) -> i64 {
    db.store.client().await.unwrap().query_one(query, &[]).await.unwrap().get(0)
}

pub(crate) const CHECKS: &str = "SELECT count(*) FROM hitherto.health_check";

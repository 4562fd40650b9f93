//! A bucket to put lakes into: a server of S3's language on a port of this machine.

use std::path::Path;
use std::process::{Output, Stdio};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use crate::harness::free_port;

/// What must not be told.
const SECRET: &str = "canary-secret-51c";

pub(crate) struct Bucket {
    pub(crate) port: u16,
    pub(crate) folder: tempfile::TempDir,
    _server: Child,
}

/// Python with what the tests need.
pub(crate) fn python() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(".venv/bin/python")
}

impl Bucket {
    pub(crate) async fn start() -> Self {
        let port = free_port();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/readers/s3.py");
        let server = Command::new(python())
            .arg(script)
            .arg(port.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("the tests' Python must be there; run: make setup");
        let began = std::time::Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            assert!(began.elapsed() < std::time::Duration::from_secs(60), "the bucket's server does not listen");
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        Self { port, folder: tempfile::tempdir().unwrap(), _server: server }
    }

    /// The variables that lead there.
    pub(crate) fn variables(&self) -> Vec<(&'static str, String)> {
        vec![
            ("AWS_ENDPOINT_URL", format!("http://127.0.0.1:{}", self.port)),
            ("AWS_ALLOW_HTTP", "true".to_owned()),
            ("AWS_REGION", "us-east-1".to_owned()),
            ("AWS_ACCESS_KEY_ID", "lake-key".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", SECRET.to_owned()),
        ]
    }

    /// The command, with other variables than the usual ones where they are given.
    pub(crate) fn command(&self, url: &str, args: &[&str], other: &[(&'static str, &str)]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hitherto"));
        command.args(args).env("DATABASE_URL", url).env_remove("PGHOST").env_remove("PGDATABASE").envs(self.variables());
        for (name, value) in other {
            match *value {
                "" => command.env_remove(name),
                value => command.env(name, value),
            };
        }
        // Data files that are to be sent lie here.
        std::fs::create_dir_all(self.folder.path().join("tmp")).unwrap();
        command.env("TMPDIR", self.folder.path().join("tmp")).current_dir(self.folder.path());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        command
    }

    pub(crate) async fn run_as(&self, url: &str, args: &[&str], other: &[(&'static str, &str)]) -> Output {
        let output = self.command(url, args, other).output().await.unwrap();
        for stream in [&output.stdout, &output.stderr] {
            let text = String::from_utf8_lossy(stream);
            for told in [SECRET, "lake-key", "nobodys-key", "reader-key", "Signature="] {
                assert!(!text.contains(told), "{told} is told: {text}");
            }
        }
        output
    }

    pub(crate) async fn run(&self, url: &str, args: &[&str]) -> Output {
        self.run_as(url, args, &[]).await
    }

    /// Lets the next `count` requests fail whose method and path are these, `after` they were done or before.
    pub(crate) async fn fault(&self, method: &str, path: &str, count: u32, status: u16, after: bool) {
        let fault = json!({"method": method, "match": path, "count": count, "status": status, "after": after});
        assert_eq!(self.request("POST", "/_fault", fault.to_string().as_bytes()).await.0, 204);
    }

    /// No request fails any more.
    pub(crate) async fn heal(&self) {
        assert_eq!(self.request("POST", "/_fault", b"null").await.0, 204);
    }

    pub(crate) async fn get(&self, name: &str) -> Option<String> {
        let (status, body) = self.request("GET", &format!("/lakes/{name}"), b"").await;
        (status == 200).then_some(body)
    }

    pub(crate) async fn put(&self, name: &str, text: &str) {
        assert_eq!(self.request("PUT", &format!("/lakes/{name}"), text.as_bytes()).await.0, 200);
    }

    pub(crate) async fn delete(&self, name: &str) {
        assert_eq!(self.request("DELETE", &format!("/lakes/{name}"), b"").await.0, 204);
    }

    /// The objects below a prefix.
    pub(crate) async fn list(&self, prefix: &str) -> Vec<String> {
        let (status, body) = self.request("GET", &format!("/lakes?list-type=2&prefix={prefix}"), b"").await;
        assert_eq!(status, 200, "{body}");
        body.split("<Key>").skip(1).map(|rest| rest.split("</Key>").next().unwrap().to_owned()).collect()
    }

    /// The data files that a table's log names.
    pub(crate) async fn live(&self, lake: &str, table: &str) -> Vec<String> {
        let mut live = std::collections::BTreeSet::new();
        let mut logs = self.list(&format!("{lake}/{table}/_delta_log/")).await;
        logs.retain(|log| log.ends_with(".json"));
        logs.sort();
        for log in logs {
            for line in self.get(&log).await.unwrap().lines() {
                let action: Value = serde_json::from_str(line).unwrap();
                live.extend(action["add"]["path"].as_str().map(|path| format!("{lake}/{table}/{path}")));
                if let Some(path) = action["remove"]["path"].as_str() {
                    live.remove(&format!("{lake}/{table}/{path}"));
                }
            }
        }
        live.into_iter().collect()
    }

    /// The data files that any commit of a table has named.
    pub(crate) async fn named(&self, lake: &str, table: &str) -> Vec<String> {
        let mut named = Vec::new();
        for log in self.list(&format!("{lake}/{table}/_delta_log/")).await.iter().filter(|log| log.ends_with(".json")) {
            for line in self.get(log).await.unwrap().lines() {
                let action: Value = serde_json::from_str(line).unwrap();
                named.extend(action["add"]["path"].as_str().map(|path| format!("{lake}/{table}/{path}")));
            }
        }
        named
    }

    async fn request(&self, method: &str, path: &str, body: &[u8]) -> (u16, String) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await.unwrap();
        let auth = "AWS4-HMAC-SHA256 Credential=lake-key/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0";
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nAuthorization: {auth}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
            self.port,
            body.len()
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(body).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }
}

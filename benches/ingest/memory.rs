//! Memory while the server takes nothing, in a process of its own.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use hitherto::{Config, Store, WriterConfig};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::harness::Db;
use crate::psql::Psql;
use crate::rows::{check, start};

/// The word that makes this program the writing child.
pub(crate) const CHILD: &str = "stalled-writer";

const QUEUE: usize = 16 << 20;

pub(crate) async fn run(db: &Db) {
    let psql = Psql::new(db);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let stalled = watch::Sender::new(false);
    let server = psql.address();
    let proxy = tokio::spawn({
        let stalled = stalled.clone();
        async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(forward(client, server.clone(), stalled.subscribe()));
            }
        }
    });
    let mut child = psql.command(std::env::current_exe().unwrap());
    let url = psql.url_at(port);
    let most = tokio::task::spawn_blocking(move || converse(child.arg(CHILD).arg(url), &stalled)).await.unwrap();
    proxy.abort();
    println!("  the server stops answering, a queue of {} MiB: the process takes {most:.0} MiB at most (aim 64)", QUEUE >> 20);
}

/// Lets the child start, stalls the server, and is told what memory it took.
fn converse(child: &mut Command, stalled: &watch::Sender<bool>) -> f64 {
    let mut child = child.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "started");
    stalled.send_replace(true);
    writeln!(child.stdin.take().unwrap(), "go").unwrap();
    let most = lines.next().unwrap().unwrap().parse().unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    most
}

/// Passes everything on until it is stalled; then it holds connections and passes nothing.
async fn forward(mut client: TcpStream, server: String, mut stalled: watch::Receiver<bool>) {
    let mut to = TcpStream::connect(server).await.unwrap();
    let stalled = async { drop(stalled.wait_for(|stalled| *stalled).await) };
    tokio::select! {
        _ = tokio::io::copy_bidirectional(&mut client, &mut to) => return,
        () = stalled => {}
    }
    std::future::pending().await
}

/// Writes until the queue is full, and then for so long that batches are sent again several times.
pub(crate) async fn child(words: &[String]) {
    let store = Store::connect(Config::from_url(&words[0]).unwrap()).await.unwrap();
    let mut config = WriterConfig::new("bench");
    (config.queue_bytes, config.deadline) = (QUEUE, Duration::from_secs(1));
    let writer = store.writer(config);
    let start = start();
    writer.write(check(0, start)).await.unwrap();
    writer.flush().await.unwrap();
    println!("started");
    std::io::stdin().read_line(&mut String::new()).unwrap();
    let began = Instant::now();
    let mut written = 0;
    while began.elapsed() < Duration::from_secs(12) {
        let record = check(written, start + chrono::TimeDelta::milliseconds(written as i64));
        if tokio::time::timeout(Duration::from_millis(100), writer.write(record)).await.is_ok() {
            written += 1;
        }
    }
    let stats = writer.stats();
    assert!(stats.queued_bytes as usize > QUEUE - 4096 && stats.retries > 1, "{stats:?}");
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let most: f64 = status.lines().find_map(|l| l.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.trim().parse().ok()).unwrap();
    println!("{}", most / 1024.0);
    std::future::pending().await
}

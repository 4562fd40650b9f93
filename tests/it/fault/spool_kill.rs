//! Writers with a spool that are killed, and spools on disks that fill up.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use hitherto::records::{EventType, HealthCheck, OrderEvent};
use hitherto::writer::Durability;
use hitherto::{Config, ErrorKind, Spool, SpoolConfig, Store, Writer, WriterConfig};
use rand::Rng;
use rand::seq::IndexedRandom;

use super::disk::Small;
use super::server::SETTINGS;
use super::tally::found;
use super::{Seed, long, say};
use crate::harness::{self, Server};

/// Folder, database and first number of the process that is to be killed.
const CHILD: &str = "HITHERTO_FAULT_CHILD";

fn open(folder: &str) -> Spool {
    let mut config = SpoolConfig::new(folder);
    // Many small segments, so that kills find them at their turn.
    config.segment_bytes = 64 << 10;
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        match Spool::open(config.clone()) {
            Ok(spool) => return spool,
            Err(error) => assert!(error.kind() == ErrorKind::Conflict && Instant::now() < end, "{error}"),
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn writer(database: Config, folder: &str) -> Writer {
    let mut config = WriterConfig::new("spool");
    (config.max_batch_rows, config.max_age, config.deadline) = (150, Duration::from_millis(5), Duration::from_secs(5));
    config.durability = Durability::Spool(open(folder));
    Writer::open(database, config).unwrap()
}

/// The process that is killed: it writes and tells what was acknowledged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "started, and killed, by the test below"]
async fn child() {
    let told = std::env::var(CHILD).expect("the test that starts it says where to write");
    let (folder, rest) = told.split_once(' ').unwrap();
    let (url, first) = rest.split_once(' ').unwrap();
    let (writer, first) = (writer(Config::from_url(url).unwrap(), folder), first.parse::<i32>().unwrap());
    let tasks: Vec<_> = (0..4)
        .map(|task| {
            let writer = writer.clone();
            tokio::spawn(async move {
                for n in (first + task..).step_by(4) {
                    let key = if task == 3 {
                        let mut event = OrderEvent::new(format!("o{}", n / 200), EventType::Fill).last_quantity(1).last_price(1);
                        event.event_id = format!("e{n}");
                        writer.write(event).await.unwrap();
                        format!("order_event o{} e{n}", n / 200)
                    } else {
                        writer.write(HealthCheck::new(format!("m{task}"), "healthy").error_count(n)).await.unwrap();
                        format!("health_check m{task} {n}")
                    };
                    // One write a line: a line that is cut off was not acknowledged.
                    std::io::stdout().write_all(format!("ack {key}\n").as_bytes()).unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
}

/// Lets a writer run for a while, kills it, and gives what it acknowledged.
fn run_and_kill(told: &str, life: Duration, meanwhile: impl FnOnce()) -> Vec<String> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["fault::spool_kill::child", "--exact", "--ignored", "--nocapture"])
        .env(CHILD, told)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    let (began, first) = std::sync::mpsc::channel();
    let reading = std::thread::spawn(move || {
        let mut acknowledged = Vec::new();
        for line in output.split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line).into_owned();
            // The harness's own words may stand before the first one.
            if let Some((_, key)) = line.split_once("ack ") {
                acknowledged.push(key.to_owned());
                let _ = began.send(());
            }
        }
        acknowledged
    });
    // Its life begins with the first record that it took.
    first.recv_timeout(Duration::from_secs(60)).expect("the writer takes records");
    meanwhile();
    std::thread::sleep(life);
    child.kill().unwrap();
    child.wait().unwrap();
    reading.join().unwrap()
}

async fn drained(database: Config, folder: &str) -> Store {
    let writer = writer(database.clone(), folder);
    let stats = writer.close_within(Duration::from_secs(120)).await.unwrap();
    assert_eq!((stats.spooled, stats.quarantined), (0, 0), "{stats:?}");
    Store::connect(database).await.unwrap()
}

/// Everything acknowledged is there, nothing is there twice, and the parts agree.
async fn check(store: &Store, acknowledged: &BTreeSet<String>, what: &str) {
    let found = found(store).await;
    let twice: Vec<_> = found.iter().filter(|(_, n)| **n > 1).take(10).collect();
    assert!(twice.is_empty(), "{what}: twice: {twice:?}");
    let found: BTreeSet<String> = found.into_keys().map(|(table, key)| format!("{table} {key}")).collect();
    let lost: Vec<_> = acknowledged.difference(&found).take(10).collect();
    assert!(lost.is_empty(), "{what}: lost: {lost:?}");
    let client = store.client().await.unwrap();
    for query in [
        "SELECT (SELECT coalesce(sum(row_count), 0)::bigint FROM hitherto.ingest_batch)
              - (SELECT count(*) FROM hitherto.health_check) - (SELECT count(*) FROM hitherto.order_event)",
        "SELECT (SELECT coalesce(sum(filled_quantity), 0)::bigint FROM hitherto.execution_report) - (SELECT count(*) FROM hitherto.order_event)",
    ] {
        assert_eq!(client.query_one(query, &[]).await.unwrap().get::<_, i64>(0), 0, "{what}: {query}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_writer_loses_nothing_that_it_acknowledged() {
    let seed = Seed::new("killed writers");
    let mut random = seed.random();
    let server = Server::lone(SETTINGS);
    let database = server.database().await;
    let url = format!("postgresql://postgres@127.0.0.1:{}/{}", server.port, database.database().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().to_str().unwrap();
    let mut acknowledged = BTreeSet::new();
    let lives = if long() { 60 } else { 6 };
    for life in 0..lives {
        let last = random.random_range(0..400);
        let told = format!("{folder} {url} {}", life * 10_000_000);
        let what = *["up", "dies", "comes", "restarts"].choose(&mut random).unwrap();
        if what == "comes" && server.runs() {
            server.kill();
        } else if what != "comes" && !server.runs() {
            server.start_again();
        }
        let taken = run_and_kill(&told, Duration::from_millis(last), || match what {
            "dies" => server.kill(),
            "comes" => server.start_again(),
            "restarts" => {
                server.kill();
                server.start_again();
            }
            _ => {}
        });
        acknowledged.extend(taken);
    }
    if !server.runs() {
        server.start_again();
    }
    let store = drained(database, folder).await;
    check(&store, &acknowledged, &format!("seed {}", seed.value)).await;
    if long() {
        say(&format!("seed {}: {lives} writers killed, {} rows acknowledged, lost 0, twice 0", seed.value, acknowledged.len()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_under_the_spool_is_told_before_anything_is_acknowledged() {
    let Some(small) = Small::new("disk full under the spool", 4) else { return };
    let db = harness::native().await;
    let folder = small.folder.join("spool");
    let folder = folder.to_str().unwrap();
    let mut acknowledged = BTreeSet::new();
    let away = Config::from_url("postgresql://postgres@127.0.0.1:1/nowhere").unwrap();
    let first = writer(away, folder);
    let write = async |writer: &Writer, n: i32| {
        let written = writer.write(HealthCheck::new("m", "healthy").error_count(n)).await;
        written.map(|()| format!("health_check m {n}"))
    };
    let mut n = 0;
    for left in [300 << 10, 100 << 10, 0] {
        acknowledged.insert(write(&first, n).await.unwrap());
        n += 1;
        small.fill(left);
        let error = loop {
            n += 1;
            match write(&first, n).await {
                Ok(key) => drop(acknowledged.insert(key)),
                Err(error) => break error,
            }
            assert!(n < 200_000, "there is no end of room");
        };
        assert!(error.to_string().contains("No space left"), "{error}");
        small.make_room();
    }
    acknowledged.insert(write(&first, n + 1).await.unwrap());
    first.close_within(Duration::from_millis(50)).await.unwrap();
    drop(first);
    let store = drained(db.config.clone(), folder).await;
    check(&store, &acknowledged, "a full disk").await;
    assert!(acknowledged.len() > 100, "{} were acknowledged", acknowledged.len());
}

//! Lines from a pipe without end.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::Value;

use crate::harness::{self, Db};
use crate::pipe::{Door, Pipe, prefix, until};
use crate::shell::{CHECKS, Shell, check, code, count, document, words};

/// A stream of checks, told apart by their count of errors.
pub(crate) fn stream(lines: i64) -> Vec<String> {
    (0..lines).map(|n| check(n) + "\n").collect()
}

/// Feeds lines in pieces of random size at random times, for so long; gives how many.
pub(crate) async fn feed_for(pipe: &mut Pipe, lines: &[String], random: &mut StdRng, time: Duration) -> usize {
    let until = tokio::time::Instant::now() + time;
    let mut at = 0;
    while at < lines.len() && tokio::time::Instant::now() < until {
        let to = lines.len().min(at + random.random_range(1..2000));
        let text = lines[at..to].concat();
        // A line may come in two halves.
        let (half, rest) = text.split_at(random.random_range(0..text.len()));
        if tokio::time::timeout_at(until, pipe.feed(half)).await.is_err() || tokio::time::timeout_at(until, pipe.feed(rest)).await.is_err()
        {
            break;
        }
        at = to;
        tokio::time::sleep(Duration::from_millis(random.random_range(0..40))).await;
    }
    at
}

#[tokio::test]
async fn lines_become_visible_while_the_pipe_stays_open() {
    for db in [harness::native().await, harness::embedded().await] {
        let shell = Shell::new(&db);
        let url = db.url().unwrap();
        let lines = stream(30);
        let mut pipe = Pipe::open(&shell, &url, &["health-check", "--json"]);
        if db.name == "embedded" {
            // It takes one connection at a time: the pipe's.
            pipe.feed(&lines.concat()).await;
            tokio::time::sleep(Duration::from_secs(3)).await;
            assert!(pipe.runs());
        } else {
            for part in lines.chunks(10) {
                let so_far = count(&db, CHECKS).await;
                pipe.feed(&part.concat()).await;
                until(&db, CHECKS, so_far + 10).await;
            }
            let batches = count(&db, "SELECT count(*) FROM hitherto.ingest_batch").await;
            assert!((3..=30).contains(&batches), "{batches}");
        }
        pipe.close();
        let output = pipe.end().await;
        assert_eq!((code(&output), document(&output)["stored"].as_i64()), (0, Some(30)), "{}: {}", db.name, words(&output));
        assert_eq!(prefix(&db, db.name).await, 30);
    }
}

#[tokio::test]
async fn a_stream_that_is_stopped_anywhere_and_sent_again_is_stored_once() {
    for seed in [1, 2, 3] {
        let db = harness::native().await;
        let shell = Shell::new(&db);
        let lines = stream(23_000);
        let mut random = StdRng::seed_from_u64(seed);
        let mut before = 0;
        for round in 0..7 {
            let what = format!("seed {seed}, round {round}");
            let mut pipe = Pipe::open(&shell, &shell.url, &["health-check", "--json", "--max-age", "30ms"]);
            let time = Duration::from_millis(random.random_range(100..900));
            feed_for(&mut pipe, &lines, &mut random, time).await;
            let kill = random.random_bool(0.3);
            pipe.signal(if kill { "-KILL" } else { "-TERM" }).await;
            let output = pipe.end().await;
            // A process that has hardly begun does not listen yet.
            let kill = kill || output.status.code().is_none();
            if kill {
                // A COMMIT may be under way.
                let idle = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() AND state <> 'idle'";
                until(&db, idle, 0).await;
            }
            let stored = prefix(&db, &what).await;
            assert!(stored >= before, "{what}");
            if !kill {
                let summary = document(&output);
                let number = |name: &str| summary[name].as_i64().unwrap();
                assert_eq!(number("lines"), number("stored") + number("already") + number("held"), "{what}: {summary}");
                assert_eq!(stored, before + number("stored"), "{what}: {summary}");
                assert_eq!(code(&output), i32::from(number("held") > 0), "{what}: {}", words(&output));
                if number("lines") > before {
                    assert_eq!((number("lines"), number("held")), (stored, 0), "{what}: whole lines read are stored; {summary}");
                }
            }
            before = stored;
        }
        let mut pipe = Pipe::open(&shell, &shell.url, &["health-check", "--json"]);
        pipe.feed(&lines.concat()).await;
        pipe.close();
        let output = pipe.end().await;
        assert_eq!(code(&output), 0, "{}", words(&output));
        assert_eq!(prefix(&db, "the end").await, 23_000);
        assert_eq!(count(&db, "SELECT sum(row_count)::bigint FROM hitherto.ingest_batch").await, 23_000);
    }
}

#[tokio::test]
async fn a_file_and_a_pipe_of_the_same_lines_are_one_stream() {
    let db = harness::native().await;
    let shell = Shell::new(&db);
    let lines = stream(14_000);
    let ingest = async |lines: &[String]| {
        let path = shell.write("same.ndjson", lines.concat());
        let output = shell.run(&["ingest", "health-check", path.to_str().unwrap(), "--json"]).await;
        (code(&output), document(&output)["stored"].as_i64().unwrap())
    };
    assert_eq!(ingest(&lines[..11_000]).await, (0, 11_000));
    let mut pipe = Pipe::open(&shell, &shell.url, &["health-check", "--json", "--max-age", "20ms"]);
    for part in lines[..12_500].chunks(700) {
        pipe.feed(&part.concat()).await;
        tokio::time::sleep(Duration::from_millis(60)).await;
    }
    until(&db, CHECKS, 12_500).await;
    pipe.signal("-TERM").await;
    let output = pipe.end().await;
    assert_eq!((code(&output), document(&output)["already"].as_i64()), (0, Some(11_000)), "{}", words(&output));
    assert_eq!(ingest(&lines).await, (0, 1500));
    assert_eq!(prefix(&db, "all").await, 14_000);
    // Of a stream that is known to be longer, a part adds nothing and is told.
    let output =
        crate::shell::run(&shell.url, shell.folder.path(), &["ingest", "health-check", "--json"], Some(lines[..50].concat().as_bytes()))
            .await;
    assert_eq!((code(&output), document(&output)["held"].as_i64(), count(&db, CHECKS).await), (1, Some(50), 14_000), "{}", words(&output));
}

#[tokio::test]
async fn two_runs_over_one_stream_store_it_once() {
    let db = harness::native().await;
    let shell = Shell::new(&db);
    let lines = stream(15_000);
    let run = async |seed| {
        let mut random = StdRng::seed_from_u64(seed);
        let mut pipe = Pipe::open(&shell, &shell.url, &["health-check", "--json", "--max-age", "10ms", "--rejects", "/dev/null"]);
        feed_for(&mut pipe, &lines, &mut random, Duration::from_secs(60)).await;
        pipe.close();
        pipe.end().await
    };
    let (one, other) = tokio::join!(run(5), run(6));
    assert_eq!((code(&one), code(&other)), (0, 0), "{} {}", words(&one), words(&other));
    assert_eq!(prefix(&db, "both").await, 15_000);
    let stored = |output| document(output)["stored"].as_i64().unwrap();
    assert_eq!(stored(&one) + stored(&other), 15_000);
}

#[tokio::test]
async fn a_pipe_waits_for_a_database_that_is_away() {
    let (db, door) = (harness::native().await, Door::new(true).await);
    let shell = Shell::new(&db);
    let lines = stream(300);
    let mut pipe = Pipe::open(&shell, &door.url(&db), &["health-check", "--json", "--max-age", "50ms", "--stop-within", "1s"]);
    pipe.feed(&lines[..100].concat()).await;
    until(&db, CHECKS, 100).await;
    door.set(false);
    pipe.feed(&lines[100..200].concat()).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(pipe.runs());
    door.set(true);
    until(&db, CHECKS, 200).await;
    door.set(false);
    pipe.feed(&lines[200..].concat()).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    pipe.signal("-TERM").await;
    let output = pipe.end().await;
    assert_eq!(code(&output), 3, "{}", words(&output));
    assert!(words(&output).contains("100 lines that were read are not stored"), "{}", words(&output));
    assert!(document(&output)["error"]["message"].as_str().unwrap().contains("send the stream again from its start"));
    assert_eq!(prefix(&db, "away").await, 200);
}

#[tokio::test]
async fn a_part_of_a_file_is_not_said_to_be_all() {
    let db = harness::native().await;
    let shell = Shell::new(&db);
    let path = shell.write("long.ndjson", stream(120_000).concat());
    let pipe = Pipe::open(&shell, &shell.url, &["health-check", path.to_str().unwrap(), "--json"]);
    let began = std::time::Instant::now();
    while count(&db, CHECKS).await == 0 {
        assert!(began.elapsed() < Duration::from_secs(60));
    }
    pipe.signal("-TERM").await;
    let output = pipe.end().await;
    let summary = document(&output);
    assert_eq!((code(&output), &summary["stopped"]), (130, &Value::Bool(true)), "{}", words(&output));
    assert_eq!(Some(prefix(&db, "part").await), summary["stored"].as_i64());
    let output = shell.run(&["ingest", "health-check", path.to_str().unwrap()]).await;
    assert_eq!((code(&output), prefix(&db, "all").await), (0, 120_000), "{}", words(&output));
}

#[tokio::test]
async fn a_second_interrupt_ends_it_at_once() {
    let (db, door) = (harness::native().await, Door::new(true).await);
    let shell = Shell::new(&db);
    let mut pipe = Pipe::open(&shell, &door.url(&db), &["health-check", "--stop-within", "60s"]);
    pipe.feed(&stream(10).concat()).await;
    until(&db, CHECKS, 10).await;
    door.set(false);
    pipe.feed("{\"module\":\"m\",\"checked_at\":\"2026-10-01T00:00:00Z\",\"status\":\"healthy\"}\n").await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    pipe.signal("-INT").await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(pipe.runs(), "it waits for the database");
    let began = std::time::Instant::now();
    pipe.signal("-INT").await;
    let output = pipe.end().await;
    assert!(code(&output) == 130 && began.elapsed() < Duration::from_secs(20), "{}", words(&output));
}

#[tokio::test]
async fn progress_is_told_once_a_second_to_those_who_ask() {
    let db = harness::native().await;
    let shell = Shell::new(&db);
    for json in [false, true] {
        let mut args = vec!["health-check", "--watch"];
        args.extend(json.then_some("--json"));
        let mut pipe = Pipe::open(&shell, &shell.url, &args);
        pipe.feed(&format!("{}half a line", stream(20).concat())).await;
        tokio::time::sleep(Duration::from_millis(3500)).await;
        pipe.signal("-TERM").await;
        let output = pipe.end().await;
        assert_eq!(code(&output), 0, "half a line is neither stored nor refused: {}", words(&output));
        let told = words(&output);
        if json {
            let glances: Vec<Value> = told.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
            assert!((2..=5).contains(&glances.len()), "{told}");
            assert!(glances.iter().any(|g| g["lines"] == 20 && g["waiting"] == 0 && g["database"] == "up"), "{told}");
            assert_eq!(document(&output)["lines"], 20);
        } else {
            assert!(told.contains("health_check: 20 lines, 0 lines/s, 20 rows stored, 0 waiting, database up"), "{told}");
        }
        reset(&db).await;
    }
}

async fn reset(db: &Db) {
    let sql = "SET session_replication_role = replica; DELETE FROM hitherto.health_check; DELETE FROM hitherto.ingest_batch; RESET session_replication_role";
    db.store.client().await.unwrap().batch_execute(sql).await.unwrap();
}

//! Lines that wait on disk while the database is away.

use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::harness;
use crate::ingest_pipe::{feed_for, stream};
use crate::pipe::{Door, Pipe, prefix, until};
use crate::shell::{CHECKS, Shell, code, count, document, run, words};

const SPOOL: [&str; 4] = ["health-check", "--json", "--spool", "spool"];

#[tokio::test]
async fn what_was_read_while_the_database_was_away_is_stored_by_the_next_run() {
    let (db, door) = (harness::native().await, Door::new(false).await);
    let shell = Shell::new(&db);
    let lines = stream(100);
    let mut pipe = Pipe::open(&shell, &door.url(&db), &[&SPOOL[..], &["--max-age", "50ms", "--stop-within", "500ms"]].concat());
    pipe.feed(&lines.concat()).await;
    pipe.feed("nonsense\nhalf a li").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    pipe.signal("-TERM").await;
    let output = pipe.end().await;
    let summary = document(&output);
    assert_eq!((code(&output), summary["waiting"].as_i64(), summary["rejected"].as_i64()), (1, Some(100), Some(1)), "{}", words(&output));
    assert_eq!(count(&db, CHECKS).await, 0);
    // Another stream: what waits goes first.
    let input = stream(150)[100..].concat();
    let output = run(&shell.url, shell.folder.path(), &[&["ingest"], &SPOOL[..]].concat(), Some(input.as_bytes())).await;
    let summary = document(&output);
    assert_eq!((code(&output), summary["stored"].as_i64(), summary["waiting"].as_i64()), (0, Some(150), Some(0)), "{}", words(&output));
    assert_eq!(prefix(&db, "both").await, 150);
    assert_eq!(count(&db, "SELECT count(*) FROM hitherto.ingest_batch WHERE producer = 'hitherto ingest'").await, 2);
}

#[tokio::test]
async fn what_is_in_the_spool_survives_a_kill() {
    let (db, door) = (harness::native().await, Door::new(false).await);
    let shell = Shell::new(&db);
    let mut pipe = Pipe::open(&shell, &door.url(&db), &[&SPOOL[..], &["--max-age", "20ms"]].concat());
    let lines = stream(500).concat();
    pipe.feed(&lines).await;
    let began = Instant::now();
    let segments = || -> Vec<u8> {
        let files = std::fs::read_dir(shell.path("spool/health_check")).into_iter().flatten().flatten();
        files.flat_map(|file| std::fs::read(file.path()).unwrap_or_default()).collect()
    };
    while !String::from_utf8_lossy(&segments()).contains("\"error_count\":499") {
        assert!(began.elapsed() < Duration::from_secs(30), "the lines get to no segment");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // Written is not yet synced; by now it is.
    tokio::time::sleep(Duration::from_secs(1)).await;
    pipe.signal("-KILL").await;
    pipe.end().await;
    let output = run(&shell.url, shell.folder.path(), &[&["ingest"], &SPOOL[..]].concat(), None).await;
    assert_eq!((code(&output), document(&output)["stored"].as_i64()), (0, Some(500)), "{}", words(&output));
    assert_eq!(prefix(&db, "after the kill").await, 500);
    let again = run(&shell.url, shell.folder.path(), &[&["ingest"], &SPOOL[..]].concat(), Some(lines.as_bytes())).await;
    assert_eq!((code(&again), prefix(&db, "again").await), (0, 500), "{}", words(&again));
}

#[tokio::test]
async fn a_stream_through_a_spool_is_stored_once_whatever_is_killed_and_whenever_the_database_is_away() {
    for seed in [11, 12, 13] {
        let (db, door) = (harness::native().await, Door::new(true).await);
        let shell = Shell::new(&db);
        let lines = stream(21_000);
        let mut random = StdRng::seed_from_u64(seed);
        for round in 0..8 {
            let what = format!("seed {seed}, round {round}");
            door.set(random.random_bool(0.5));
            let mut pipe = Pipe::open(&shell, &door.url(&db), &[&SPOOL[..], &["--max-age", "30ms", "--stop-within", "300ms"]].concat());
            feed_for(&mut pipe, &lines, &mut random, Duration::from_millis(random_ms(round))).await;
            door.set(random.random_bool(0.5));
            tokio::time::sleep(Duration::from_millis(random.random_range(0..400))).await;
            let kill = random.random_bool(0.5);
            pipe.signal(if kill { "-KILL" } else { "-TERM" }).await;
            let output = pipe.end().await;
            let killed = kill || output.status.code().is_none();
            assert!(killed || [Some(0), Some(1)].contains(&output.status.code()), "{what}: {}", words(&output));
            prefix(&db, &what).await;
        }
        door.set(true);
        let mut pipe = Pipe::open(&shell, &door.url(&db), &SPOOL);
        pipe.feed(&lines.concat()).await;
        pipe.close();
        let output = pipe.end().await;
        assert_eq!(document(&output)["waiting"], 0, "seed {seed}: {}", words(&output));
        assert_eq!(prefix(&db, &format!("seed {seed}, the end")).await, 21_000);
        assert_eq!(count(&db, "SELECT sum(row_count)::bigint FROM hitherto.ingest_batch").await, 21_000);
    }
}

/// Longer and longer, so that later rounds get past what earlier ones have read.
fn random_ms(round: u64) -> u64 {
    200 + round * 100
}

#[tokio::test]
async fn a_full_spool_makes_the_pipe_wait() {
    let (db, door) = (harness::native().await, Door::new(false).await);
    let shell = Shell::new(&db);
    let lines = stream(220_000);
    let mut pipe = Pipe::open(&shell, &door.url(&db), &[&SPOOL[..], &["--spool-bytes", "8388608"]].concat());
    let text = lines.concat();
    assert!(text.len() > 18_000_000);
    let fed = tokio::time::timeout(Duration::from_secs(10), pipe.feed(&text)).await;
    assert!(fed.is_err(), "all of it was read");
    assert!(pipe.runs());
    pipe.signal("-KILL").await;
    pipe.end().await;
    door.set(true);
    let mut pipe = Pipe::open(&shell, &door.url(&db), &[&SPOOL[..], &["--spool-bytes", "8388608"]].concat());
    pipe.feed(&text).await;
    pipe.close();
    let output = pipe.end().await;
    assert_eq!((code(&output), prefix(&db, "all").await), (0, 220_000), "{}", words(&output));
}

#[tokio::test]
async fn a_spool_is_for_one_program_at_a_time() {
    let db = harness::native().await;
    let shell = Shell::new(&db);
    let mut pipe = Pipe::open(&shell, &shell.url, &SPOOL);
    pipe.feed(&stream(1).concat()).await;
    until(&db, CHECKS, 1).await;
    let other = [&["ingest"], &SPOOL[..], &["--rejects", "other.ndjson"]].concat();
    let output = run(&shell.url, shell.folder.path(), &other, None).await;
    assert_eq!(code(&output), 4, "{}", words(&output));
    assert!(words(&output).contains("the spool spool is in use"), "{}", words(&output));
    assert!(pipe.runs());
    pipe.close();
    assert_eq!(code(&pipe.end().await), 0);
}

#[tokio::test]
async fn replay_puts_lines_in_without_reading_any() {
    let (db, door) = (harness::native().await, Door::new(false).await);
    let shell = Shell::new(&db);
    let lines = stream(300);
    let mut pipe = Pipe::open(&shell, &door.url(&db), &[&SPOOL[..], &["--max-age", "50ms", "--stop-within", "100ms"]].concat());
    pipe.feed(&lines.concat()).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    pipe.signal("-TERM").await;
    assert_eq!(document(&pipe.end().await)["waiting"], 300);
    let listed = shell.run(&["spool", "list", "--dir", "spool", "--json"]).await;
    assert_eq!(document(&listed)["tables"][0]["records"], 300, "{}", words(&listed));
    let replayed = shell.run(&["spool", "replay", "--dir", "spool", "--json"]).await;
    assert_eq!((code(&replayed), document(&replayed)["stored"].as_i64()), (0, Some(300)), "{}", words(&replayed));
    assert_eq!(prefix(&db, "replayed").await, 300);
    let again = run(&shell.url, shell.folder.path(), &[&["ingest"], &SPOOL[..]].concat(), Some(lines.concat().as_bytes())).await;
    assert_eq!((code(&again), prefix(&db, "sent again").await), (0, 300), "{}", words(&again));
}

//! `hitherto spool`

use std::path::Path;

use hitherto::{ErrorKind, Writer};
use serde_json::json;

use super::{away, check, config, copy, leave, spool};
use crate::harness;
use crate::shell::{self, CHECKS, Shell, code, count, document, words};

const AWAY: &str = "postgresql://postgres@127.0.0.1:1/nowhere";

#[tokio::test]
async fn a_spool_has_one_user() {
    let db = harness::native().await;
    let shell = Shell::new(&db);
    let folder = shell.path("spool");
    let spool = spool(&folder);
    let first = db.store.writer(config(spool.clone()));
    first.write(check(1)).await.unwrap();
    let second = db.store.writer(config(spool.clone()));
    let error = second.write(check(2)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.to_string().contains("another writer of this process"), "{error}");
    assert_eq!(Writer::open(away(), config(spool.clone())).unwrap_err().kind(), ErrorKind::Conflict);

    let replay = shell.run(&["spool", "replay", "--dir", folder.to_str().unwrap()]).await;
    assert_eq!(code(&replay), 4, "{}", words(&replay));
    assert!(words(&replay).contains(&format!("process id {}", std::process::id())), "{}", words(&replay));
    // Looking harms nobody.
    for what in ["list", "verify"] {
        let output = shell.run(&["spool", what, "--dir", folder.to_str().unwrap(), "--json"]).await;
        assert_eq!(code(&output), 0, "{}", words(&output));
        assert_eq!(document(&output)["in_use"], true);
    }

    first.close().await.unwrap();
    let third = db.store.writer(config(spool));
    third.write(check(3)).await.unwrap();
    third.close().await.unwrap();
    assert_eq!(count(&db, CHECKS).await, 2);
}

#[tokio::test]
async fn the_command_shows_what_waits_and_sends_it_once() {
    let db = harness::native().await;
    let shell = Shell::new(&db);
    let folder = shell.path("spool");
    let dir = folder.to_str().unwrap();
    let output = shell.run(&["spool", "list", "--dir", dir]).await;
    assert_eq!(code(&output), 1, "there is none");
    assert!(!folder.exists(), "looking makes none");

    assert_eq!(leave(&folder, (0..1000).map(check)).await, 1000);
    let copied = shell.path("copied");
    copy(&folder, &copied);
    let listed = document(&shell.run(&["spool", "list", "--dir", dir, "--json"]).await);
    let line = &listed["tables"][0];
    assert_eq!((line["table"].as_str(), line["records"].as_u64(), line["damaged"].as_u64()), (Some("health_check"), Some(1000), Some(0)));
    assert!(line["oldest_age_seconds"].as_f64().is_some_and(|age| age < 600.0), "{line}");
    let text = shell.run(&["spool", "list", "--dir", dir]).await;
    assert!(String::from_utf8_lossy(&text.stdout).contains("health_check"));
    let verified = shell.run(&["spool", "verify", "--dir", dir]).await;
    assert_eq!(code(&verified), 0);
    assert!(String::from_utf8_lossy(&verified.stdout).starts_with("1000 records in"), "{}", String::from_utf8_lossy(&verified.stdout));

    let away = crate::shell::run(AWAY, shell.folder.path(), &["spool", "replay", "--dir", dir], None).await;
    assert_eq!(code(&away), 3, "{}", words(&away));
    for (dir, sent) in [(dir, 1000), (dir, 0), (copied.to_str().unwrap(), 1000)] {
        let replayed = shell.run(&["spool", "replay", "--dir", dir, "--json"]).await;
        assert_eq!(code(&replayed), 0, "{}", words(&replayed));
        let replayed = document(&replayed);
        assert_eq!((replayed["stored"].as_u64(), replayed["left"].as_u64()), (Some(sent), Some(0)), "{replayed}");
        // A copy of the spool is the same batches: the ledger has them.
        assert_eq!(count(&db, CHECKS).await, 1000);
    }
    let text = shell.run(&["spool", "list", "--dir", dir]).await;
    assert_eq!(String::from_utf8_lossy(&text.stdout), "nothing waits\n");
    let producers = "SELECT count(*) FROM hitherto.ingest_batch WHERE producer = 'hitherto spool replay'";
    assert!(count(&db, producers).await > 0);
}

/// Leaves lines that never saw the database.
async fn leave_lines(shell: &Shell, folder: &str, lines: std::ops::Range<i64>) {
    let lines: String = lines.map(|n| shell::check(n) + "\n").collect();
    let args = ["ingest", "health-check", "--spool", folder, "--stop-within", "500ms", "--json"];
    let output = shell::run(AWAY, shell.folder.path(), &args, Some(lines.as_bytes())).await;
    assert!(document(&output)["waiting"].as_u64() > Some(0), "{}", words(&output));
}

/// Puts the frames of one spool behind those of another, as one program that wrote both kinds would have left them.
fn graft(from: &Path, to: &Path) {
    let read = |folder: &Path| {
        let bytes = std::fs::read(folder.join("health_check/000000000001.seg")).unwrap();
        let (mut frames, mut at) = (Vec::new(), 112);
        loop {
            let length = bytes.get(at..at + 4).map_or(0, |b| u32::from_le_bytes(b.try_into().unwrap())) as usize;
            if length == 0 {
                return (bytes[..at].to_vec(), frames);
            }
            let end = (at + 48 + length).next_multiple_of(8);
            frames.push(bytes[at..end].to_vec());
            at = end;
        }
    };
    let (mut whole, _) = read(to);
    for mut frame in read(from).1 {
        let at = whole.len() as u64;
        frame[40..48].copy_from_slice(&at.to_le_bytes());
        let length = u32::from_le_bytes(frame[..4].try_into().unwrap()) as usize;
        let covered = [&1u64.to_le_bytes()[..], &at.to_le_bytes(), &frame[..4], &frame[8..48 + length]].concat();
        frame[4..8].copy_from_slice(&crc32c::crc32c(&covered).to_le_bytes());
        whole.extend(frame);
    }
    std::fs::write(to.join("health_check/000000000001.seg"), whole).unwrap();
}

#[tokio::test]
async fn records_and_lines_of_a_table_do_not_mix_and_replay_sends_what_is_mixed() {
    let db = harness::native().await;
    let shell = Shell::new(&db);
    let folder = shell.path("records");
    let dir = folder.to_str().unwrap();
    leave(&folder, (0..10).map(check)).await;
    leave_lines(&shell, "lines", 10..20).await;

    // Neither goes behind the other.
    let refused = shell::run(AWAY, shell.folder.path(), &["ingest", "health-check", "--spool", "records"], Some(b"{}\n")).await;
    assert_eq!(code(&refused), 4, "{}", words(&refused));
    assert!(words(&refused).contains("a writer's records wait in the spool of health_check in records"), "{}", words(&refused));
    let lines = spool(&shell.path("lines"));
    let writer = Writer::open(away(), config(lines)).unwrap();
    let error = writer.write(check(1)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    for words in ["lines of hitherto ingest wait", shell.path("lines").to_str().unwrap(), "hitherto spool replay"] {
        assert!(error.to_string().contains(words), "{error}");
    }
    writer.close().await.unwrap();
    drop(writer);
    drop(spool(&shell.path("lines")));

    // What an older program mixed.
    leave(&shell.path("more records"), (20..30).map(check)).await;
    leave_lines(&shell, "more lines", 30..40).await;
    for name in ["lines", "more records", "more lines"] {
        drop(spool(&shell.path(name)));
        graft(&shell.path(name), &folder);
    }
    let writer = Writer::open(away(), config(spool(&folder))).unwrap();
    assert_eq!(writer.write(check(1)).await.unwrap_err().kind(), ErrorKind::Conflict, "it has both");
    writer.close_within(std::time::Duration::from_millis(50)).await.unwrap();
    drop(writer);
    drop(spool(&folder));
    let copied = shell.path("copied");
    copy(&folder, &copied);
    for (dir, stored) in [(dir, 40), (copied.to_str().unwrap(), 20)] {
        let replayed = shell.run(&["spool", "replay", "--dir", dir, "--json"]).await;
        assert_eq!(code(&replayed), 0, "{}", words(&replayed));
        let replayed = document(&replayed);
        // Of records that the ledger has it says how many they are, of lines none.
        assert_eq!((&replayed["stored"], &replayed["left"]), (&json!(stored), &json!(0)), "{replayed}");
        assert_eq!(count(&db, "SELECT count(DISTINCT error_count) FROM hitherto.health_check").await, 40);
        assert_eq!(count(&db, CHECKS).await, 40, "each once");
    }
}

//! Segments that are not as they were written, or not by this program.

use std::path::{Path, PathBuf};
use std::time::Duration;

use hitherto::ErrorKind;
use hitherto::records::Signal;

use super::{check, config, copy, leave, spool};
use crate::harness;
use crate::shell::{CHECKS, Shell, code, count, document, words};

fn segment(folder: &Path) -> PathBuf {
    folder.join("health_check/000000000001.seg")
}

fn flip(file: &Path, needle: &[u8]) {
    let mut bytes = std::fs::read(file).unwrap();
    let at = bytes.windows(needle.len()).position(|w| w == needle).unwrap();
    bytes[at] ^= 1;
    std::fs::write(file, bytes).unwrap();
}

#[tokio::test]
async fn a_damaged_segment_is_told_and_kept_and_the_rest_is_stored() {
    let db = harness::native().await;
    let shell = Shell::new(&db);
    let folder = shell.path("spool");
    let dir = folder.to_str().unwrap();
    leave(&folder, (0..300).map(check)).await;
    let whole = std::fs::read(segment(&folder)).unwrap();
    flip(&segment(&folder), br#""error_count":100"#);
    let damaged = std::fs::read(segment(&folder)).unwrap();
    assert_ne!(whole, damaged);

    let verified = shell.run(&["spool", "verify", "--dir", dir, "--json"]).await;
    assert_eq!(code(&verified), 1);
    let verified = document(&verified);
    assert_eq!(verified["findings"][0]["finding"], "damaged", "{verified}");
    assert_eq!(verified["tables"][0]["records"], 299, "{verified}");
    assert_eq!(std::fs::read(segment(&folder)).unwrap(), damaged, "looking changes nothing");

    let replayed = shell.run(&["spool", "replay", "--dir", dir]).await;
    assert_eq!(code(&replayed), 1, "somebody should look at it");
    assert!(words(&replayed).contains("segment 1 is damaged"), "{}", words(&replayed));
    assert_eq!(count(&db, CHECKS).await, 299);
    assert_eq!(count(&db, "SELECT count(*) FROM hitherto.health_check WHERE error_count = 100").await, 0);
    assert_eq!(std::fs::read(folder.join("health_check/000000000001.damaged")).unwrap(), damaged);
    let verified = document(&shell.run(&["spool", "verify", "--dir", dir, "--json"]).await);
    assert_eq!(verified["findings"][0]["finding"], "kept", "{verified}");
}

#[tokio::test]
async fn a_batch_that_stands_with_other_content_is_kept_aside_and_holds_up_nobody() {
    let db = harness::native().await;
    let shell = Shell::new(&db);
    let (folder, copied) = (shell.path("spool"), shell.path("copied"));
    leave(&folder, (0..3).map(check)).await;
    copy(&folder, &copied);
    let replay = async |folder: &Path| shell.run(&["spool", "replay", "--dir", folder.to_str().unwrap(), "--json"]).await;
    assert_eq!(code(&replay(&folder).await), 0);
    // The disk loses a part of a batch that was sent before the machine went down.
    flip(&segment(&copied), br#""error_count":1"#);
    leave(&copied, [check(7)]).await;
    let replayed = replay(&copied).await;
    assert_eq!(code(&replayed), 1, "{}", words(&replayed));
    assert_eq!(count(&db, CHECKS).await, 4, "nothing twice, and what came behind it is there");
    let aside: Vec<PathBuf> = std::fs::read_dir(copied.join("health_check"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_str().unwrap().ends_with(".aside.ndjson"))
        .collect();
    assert_eq!(aside.len(), 1);
    assert_eq!(std::fs::read_to_string(&aside[0]).unwrap().lines().count(), 2);
    let verified = document(&shell.run(&["spool", "verify", "--dir", copied.to_str().unwrap(), "--json"]).await);
    assert!(verified["findings"].as_array().unwrap().iter().any(|f| f["finding"] == "aside"), "{verified}");
}

#[tokio::test]
async fn records_of_a_newer_program_wait_for_it() {
    let db = harness::native().await;
    let temp = tempfile::tempdir().unwrap();
    leave(temp.path(), [check(1)]).await;
    // As a newer program would have written it: version 3, and the frame's checksum made anew.
    let mut bytes = std::fs::read(segment(temp.path())).unwrap();
    let frame = 112;
    bytes[frame + 24] = 3;
    let length = u32::from_le_bytes(bytes[frame..frame + 4].try_into().unwrap()) as usize;
    let mut covered = 1u64.to_le_bytes().to_vec();
    covered.extend_from_slice(&(frame as u64).to_le_bytes());
    covered.extend_from_slice(&bytes[frame..frame + 4]);
    covered.extend_from_slice(&bytes[frame + 8..frame + 48 + length]);
    bytes[frame + 4..frame + 8].copy_from_slice(&crc32c::crc32c(&covered).to_le_bytes());
    std::fs::write(segment(temp.path()), bytes).unwrap();

    let writer = db.store.writer(config(spool(temp.path())));
    let error = tokio::time::timeout(Duration::from_secs(60), writer.flush()).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(error.to_string().contains("record version 3"), "{error}");
    let stats = writer.close().await.unwrap();
    assert_eq!((stats.spooled, stats.stored), (1, 0));
}

#[tokio::test]
async fn what_kept_a_batch_that_is_aside_now_is_not_told_any_more() {
    let db = harness::native().await;
    let temp = tempfile::tempdir().unwrap();
    let (folder, copied) = (temp.path().join("spool"), temp.path().join("copied"));
    leave(&folder, (0..3).map(check)).await;
    copy(&folder, &copied);
    db.store.writer(config(spool(&folder))).close().await.unwrap();
    flip(&segment(&copied), br#""error_count":1"#);
    let change = async |sql: &str| db.config.connect().await.unwrap().batch_execute(sql).await.unwrap();
    change("ALTER FUNCTION hitherto.batch_find RENAME TO batch_find_gone").await;
    let writer = db.store.writer(config(spool(&copied)));
    let told = async || tokio::time::timeout(Duration::from_secs(60), writer.flush()).await.unwrap();
    let error = told().await.unwrap_err();
    assert!(error.to_string().contains("batch_find"), "{error}");
    change("ALTER FUNCTION hitherto.batch_find_gone RENAME TO batch_find").await;
    while told().await.is_err() {}
    assert_eq!((writer.stats().spooled, count(&db, CHECKS).await), (0, 3), "it is aside");
    change("ALTER TABLE hitherto.signal RENAME TO signal_gone").await;
    writer.write(Signal::new("m", "trend")).await.unwrap();
    let error = told().await.unwrap_err();
    assert!(error.to_string().contains("signal") && !error.to_string().contains("batch_find"), "{error}");
}

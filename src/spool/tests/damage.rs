//! Bytes that a disk spoils.

use super::*;
use crate::spool::format::SEGMENT_HEADER;
use crate::spool::log::segment_name;

/// Batches of three frames each over several segments; the payloads are their numbers.
fn filled() -> (Model, Log) {
    let model = Model::default();
    let (mut log, _) = open(&model).unwrap();
    for n in 0..30u128 {
        assert!(log.append(&[frame(n / 3 + 1, &format!("{n} {}", "y".repeat(20)))]).remove(0).is_ok());
    }
    log.seal();
    (model, log)
}

fn numbers(database: &Database) -> Vec<u32> {
    let mut numbers: Vec<u32> = database.values().flatten().map(|row| row.split(' ').next().unwrap().parse().unwrap()).collect();
    numbers.sort_unstable();
    numbers
}

#[test]
fn damage_is_kept_aside_and_told_and_costs_the_frames_that_it_hit() {
    let (whole, log) = filled();
    drop(log);
    let segments = whole.names().iter().filter(|name| name.ends_with(".seg")).count() as u64;
    assert!(segments > 4, "{segments}");
    for segment in 1..=segments {
        let path = folder().join(segment_name(segment));
        let length = whole.length_of(&path);
        for at in (0..length).step_by(13) {
            let model = whole.after_crash(1, None);
            model.spoil(&path, at, 1);
            let doing = format!("segment {segment}, byte {at}");
            let (mut log, findings) = open(&model).unwrap_or_else(|e| panic!("{doing}: {e}"));
            let mut database = Database::new();
            drain_all(&mut log, &mut database).unwrap();
            let lost = 30 - numbers(&database).len();
            let kept = model.names().iter().filter(|name| name.ends_with(".damaged")).count();
            let damaged = findings.iter().any(|f| matches!(f, SpoolFinding::Damaged { .. }));
            let torn = findings.iter().any(|f| matches!(f, SpoolFinding::Torn { .. }));
            assert!(lost <= 1, "{doing}: {lost} lost");
            assert_eq!(kept, usize::from(damaged), "{doing}: {findings:?}");
            // What was the very last write can't be told from one that was never finished.
            assert!(lost == 0 || damaged || torn && segment == segments, "{doing}: {findings:?}");
            if segment < segments && lost > 0 {
                assert!(damaged, "{doing}: {findings:?}");
            }
            drop(log);
            let (log, findings) = open(&model).unwrap();
            assert!(findings.is_empty(), "{doing}: told once: {findings:?}");
            drop(log);
        }
    }
}

#[test]
fn damage_that_comes_up_while_reading_is_mended_in_place() {
    for at in [SEGMENT_HEADER as usize + 3, SEGMENT_HEADER as usize + 60, 250] {
        let (model, mut log) = filled();
        model.spoil(&folder().join(segment_name(2)), at, 4);
        let mut database = Database::new();
        drain_all(&mut log, &mut database).unwrap();
        assert_eq!(numbers(&database).len(), 29, "byte {at}");
        assert!(model.names().contains(&"000000000002.damaged".to_owned()));
        assert_eq!((log.waiting().rows, log.waiting().bytes), (0, 0), "what is lost waits no more");
    }
}

#[test]
fn lost_records_are_no_longer_counted_once_they_are_found_to_be_lost() {
    // Of the segment that is being drained, of one behind it, and of the one that is being written.
    for (segment, drained) in [(1, 0), (1, 1), (2, 1), (3, 2), (6, 2)] {
        let (model, mut log) = filled();
        let (mut database, mut reading) = (Database::new(), Reading::from(log.read_again()));
        for _ in 0..drained {
            drain_one(&mut log, &mut reading, &mut database).unwrap();
        }
        let before = log.waiting().rows;
        assert_eq!(before, 30 - 3 * drained);
        // Its last frame.
        model.spoil(&folder().join(segment_name(segment)), SEGMENT_HEADER as usize + 4 * 72 + 50, 4);
        log.mend(segment).unwrap();
        assert_eq!(log.waiting().rows, before - 1, "segment {segment}");
        assert!(log.append(&[frame(99, "one more")]).remove(0).is_ok());
        log.seal();
        drain_all(&mut log, &mut database).unwrap();
        assert_eq!(database.values().map(Vec::len).sum::<usize>() as u64, 30, "segment {segment}");
        assert_eq!((log.waiting().rows, log.waiting().bytes), (0, 0), "segment {segment}");
    }
}

#[test]
fn a_segment_that_is_missing_or_misplaced_is_told() {
    let (model, log) = filled();
    drop(log);
    let files: &dyn crate::spool::files::Files = &model;
    files.unlink(&folder().join(segment_name(3))).unwrap();
    let (log, findings) = open(&model).unwrap();
    assert_eq!(findings, [SpoolFinding::Missing { table: "health_check".into(), segment: 3 }]);
    drop(log);
    files.rename(&folder().join(segment_name(4)), &folder().join(segment_name(3))).unwrap();
    let Err(error) = open(&model) else { panic!("it is refused") };
    assert!(error.to_string().contains("says that it is segment 4"), "{error}");
}

#[test]
fn a_cursor_that_is_lost_sends_everything_again() {
    let (model, mut log) = filled();
    let mut database = Database::new();
    let mut reading = Reading::from(log.read_again());
    for _ in 0..5 {
        drain_one(&mut log, &mut reading, &mut database).unwrap();
    }
    drop(log);
    model.spoil(&folder().join("cursor"), 0, 8192);
    let (mut log, findings) = open(&model).unwrap();
    assert_eq!(findings, [SpoolFinding::Cursor { table: "health_check".into() }]);
    drain_all(&mut log, &mut database).unwrap();
    assert_eq!(numbers(&database), (0..30).collect::<Vec<u32>>());
}

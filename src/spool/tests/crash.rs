//! Every crash point of a short run, with everything that a crash may leave of what was not synced.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::spool::model::Trouble;

/// What a run was told.
#[derive(Clone, Default)]
struct Book {
    /// Payloads that are on disk, as was said, by batch.
    acknowledged: Vec<(u128, String)>,
    /// Payloads that could not be written, as was said.
    failed: Vec<(u128, String)>,
    database: Database,
    last_batch: u128,
    last_payload: usize,
}

impl Book {
    /// Everything acknowledged is in the database once, under its batch; nothing else is, but for what was
    /// written when the machine went down.
    fn check(&self, unknown: &[(u128, String)], doing: &str) {
        let mut there: BTreeMap<(u128, &str), usize> = BTreeMap::new();
        for (batch, rows) in &self.database {
            for row in rows {
                *there.entry((*batch, row)).or_default() += 1;
            }
        }
        assert!(there.values().all(|count| *count == 1), "{doing}: twice in a batch: {there:?}");
        for (batch, payload) in &self.acknowledged {
            assert!(there.remove(&(*batch, payload.as_str())).is_some(), "{doing}: {payload} of batch {batch} is lost");
        }
        for (batch, payload) in unknown {
            there.remove(&(*batch, payload.as_str()));
        }
        assert!(there.is_empty(), "{doing}: came from nowhere: {there:?}");
    }
}

/// A short life of a log: appends, seals, drains, all as the seed says. Ends with the first crash, and
/// gives what was being written then.
fn run(log: &mut Log, book: &mut Book, seed: u64, length: usize) -> Vec<(u128, String)> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut reading = Reading::from(log.read_again());
    book.last_batch += 1;
    for _ in 0..length {
        match random.random_range(0..10) {
            0..5 => {
                let mut group = Vec::new();
                for _ in 0..random.random_range(1..4) {
                    book.last_payload += 1;
                    let payload = format!("{}{}", book.last_payload, "x".repeat(random.random_range(0..60)));
                    book.last_batch += u128::from(random.random_bool(0.2));
                    group.push((book.last_batch, payload));
                }
                let frames: Vec<NewFrame> = group.iter().map(|(batch, payload)| frame(*batch, payload)).collect();
                let answers = log.append(&frames);
                assert_eq!(answers.len(), group.len());
                let mut lost = Vec::new();
                for (answer, what) in answers.into_iter().zip(group) {
                    match answer {
                        Ok(()) => book.acknowledged.push(what),
                        Err(_) => lost.push(what),
                    }
                }
                if !lost.is_empty() && is_down(log) {
                    return lost;
                }
                book.failed.extend(lost);
            }
            5..7 => {
                log.seal();
                book.last_batch += 1;
            }
            _ => match drain_one(log, &mut reading, &mut book.database) {
                Ok(_) if !is_down(log) => {}
                Ok(_) => return Vec::new(),
                Err(_) if is_down(log) => return Vec::new(),
                Err(error) => panic!("{error}"),
            },
        }
    }
    Vec::new()
}

fn is_down(log: &Log) -> bool {
    log.files.list(folder()).is_err()
}

/// Opens what a crash left and drains it; says what was found.
fn recover(left: &Model, book: &mut Book, doing: &str) -> Log {
    let (mut log, findings) = open(left).unwrap_or_else(|e| panic!("{doing}: {e}"));
    assert!(findings.iter().all(SpoolFinding::is_harmless), "{doing}: {findings:?}");
    drain_all(&mut log, &mut book.database).unwrap_or_else(|e| panic!("{doing}: {e}"));
    log
}

#[test]
fn no_crash_point_loses_or_doubles_a_record() {
    let mut opened = 0;
    for seed in 0..6u64 {
        let dry = Model::default();
        let (mut log, _) = open(&dry).unwrap();
        run(&mut log, &mut Book::default(), seed, 30);
        drop(log);
        for step in 0..=dry.steps() {
            let model = Model::default();
            model.trouble_at(step, Trouble::Crash);
            let mut book = Book::default();
            let mut unknown = Vec::new();
            if let Ok((mut log, _)) = open(&model) {
                unknown = run(&mut log, &mut book, seed, 30);
            }
            // Torn in every length; that takes its time, so not for every seed.
            let lengths = if seed == 0 { model.loose_bytes() } else { 0 };
            let torn: Vec<Option<usize>> = std::iter::repeat_n(None, 9).chain((0..lengths).map(Some)).collect();
            for (variant, torn) in torn.into_iter().enumerate() {
                let doing = format!("seed {seed}, crash at step {step}, variant {variant}, torn {torn:?}");
                let left = model.after_crash(variant as u64, torn);
                let mut book = book.clone();
                let mut log = recover(&left, &mut book, &doing);
                book.check(&unknown, &doing);
                opened += 1;
                if variant % 16 != 0 {
                    continue;
                }
                // Life goes on, and ends once more.
                run(&mut log, &mut book, seed + 100, 10);
                drop(log);
                recover(&left, &mut book, &doing);
                book.check(&unknown, &doing);
            }
        }
    }
    assert!(opened > 5_000, "only {opened}");
}

#[test]
fn a_crash_while_a_crash_is_cleaned_up_after_harms_nothing() {
    for seed in 0..4u64 {
        for step in (20..120).step_by(7) {
            let model = Model::default();
            model.trouble_at(step, Trouble::Crash);
            let mut book = Book::default();
            let Ok((mut log, _)) = open(&model) else { continue };
            let unknown = run(&mut log, &mut book, seed, 30);
            drop(log);
            for variant in 0..4 {
                let left = model.after_crash(variant, Some(model.loose_bytes() / 2));
                for second in 0.. {
                    let left = left.after_crash(1, None);
                    left.trouble_at(second, Trouble::Crash);
                    let mut book = book.clone();
                    let finished = open(&left).is_ok_and(|(mut log, _)| drain_all(&mut log, &mut book.database).is_ok() && !is_down(&log));
                    let doing = format!("seed {seed}, crash at {step}, variant {variant}, again at {second}");
                    recover(&left.after_crash(second as u64, None), &mut book, &doing);
                    book.check(&unknown, &doing);
                    if finished {
                        break;
                    }
                }
            }
        }
    }
}

#[test]
fn after_a_sync_that_failed_nothing_is_believed_that_was_not_synced_before() {
    for seed in 0..12u64 {
        let dry = Model::default();
        let (mut log, _) = open(&dry).unwrap();
        run(&mut log, &mut Book::default(), seed, 30);
        let steps = dry.steps();
        let mut told = 0;
        for step in 0..steps {
            let model = Model::default();
            model.trouble_at(step, Trouble::SyncFails);
            let mut book = Book::default();
            let Ok((mut log, _)) = open(&model) else { continue };
            run(&mut log, &mut book, seed, 30);
            told += book.failed.len();
            // The pages that could not be synced are gone after a crash.
            for variant in 0..3 {
                let mut book = book.clone();
                let doing = format!("seed {seed}, sync fails at step {step}, then a crash, variant {variant}");
                recover(&model.after_crash(variant, None), &mut book, &doing);
                book.check(&[], &doing);
            }
            log.seal();
            drain_all(&mut log, &mut book.database).unwrap();
            book.check(&[], &format!("seed {seed}, sync fails at step {step}"));
        }
        assert!(told > 0, "seed {seed}: some append is told that it failed");
    }
}

#[test]
fn a_full_disk_is_an_error_before_the_acknowledgement_and_drains() {
    for seed in 0..12u64 {
        let dry = Model::default();
        let (mut log, _) = open(&dry).unwrap();
        run(&mut log, &mut Book::default(), seed, 30);
        for step in 2..dry.steps() {
            let model = Model::default();
            let mut book = Book::default();
            let (mut log, _) = open(&model).unwrap();
            model.trouble_at(step.max(model.steps()), Trouble::Full);
            run(&mut log, &mut book, seed, 30);
            let doing = format!("seed {seed}, full at step {step}");
            // Draining makes room, and needs none.
            drain_all(&mut log, &mut book.database).unwrap();
            model.room_is_back();
            book.last_batch += 1;
            let failed = book.failed.len();
            run(&mut log, &mut book, seed + 1, 20);
            assert_eq!(book.failed.len(), failed, "{doing}: writes work again");
            log.seal();
            drain_all(&mut log, &mut book.database).unwrap();
            book.check(&[], &doing);
            assert!(log.waiting().bytes == 0 && log.waiting().rows == 0, "{doing}: {:?}", log.waiting());
            assert!(model.names().iter().filter(|name| name.ends_with(".seg")).count() <= 1, "{doing}: drained segments are gone");
        }
    }
}

//! What an incremental export writes, against a model.

use std::collections::{BTreeMap, BTreeSet};

use chrono::NaiveDate;
use hitherto_export::{Dataset, ExportErrorKind, Mode, Why, plan_lake};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use uuid::Uuid;

use crate::export::{files, live_files, read};
use crate::lab::{Lab, dataset, day, noon, shown, stored};

#[tokio::test]
async fn only_days_with_new_rows_are_written_and_nothing_is_when_there_are_none() {
    let mut lab = Lab::new().await;
    lab.store(&[noon(0), noon(1), noon(2)]).await;
    lab.store(&[noon(2)]).await;
    let first = lab.export().await.unwrap();
    assert_eq!((first.mode, first.rows, first.days, first.version), (Mode::Full, 4, 3, Some(0)));
    let before = files(lab.folder.path());
    let second = lab.export().await.unwrap();
    assert_eq!((second.mode, second.rows, second.version), (Mode::Unchanged, 0, Some(0)), "{}", second.reason);
    assert_eq!(files(lab.folder.path()), before);
    // One late row among today's: the days between stay as they are.
    lab.store(&[noon(0), noon(30), noon(30)]).await;
    let planned = plan_lake(&mut lab.client, lab.folder.path().to_str().unwrap(), &[dataset()], &lab.options).await.unwrap().remove(0);
    let days: Vec<_> = planned.days.iter().map(|d| (d.day, d.rows, d.held, d.why)).collect();
    assert_eq!(days, [(day(0), (2, 2), 1, Why::Late), (day(30), (2, 2), 0, Why::New)], "exact, though an old batch spans days 0 to 2");
    assert_eq!((planned.mode, planned.rows, planned.version), (Mode::Incremental, Some(4), Some(0)));
    assert_eq!(files(lab.folder.path()), before, "a plan writes nothing");
    let third = lab.export().await.unwrap();
    assert_eq!((third.mode, third.rows, third.days, third.version), (Mode::Incremental, 4, 2, Some(1)));
    // A batch with rows in the midst of its range.
    lab.store(&[noon(1), noon(10), noon(12), noon(30)]).await;
    let fourth = lab.export().await.unwrap();
    assert_eq!((fourth.rows, fourth.days), (7, 4), "days 1, 10, 12 and 30");
    assert_eq!(shown(&lab.table()), stored(&lab.client).await);
}

#[tokio::test]
async fn rows_of_transactions_that_were_open_are_not_missed() {
    let mut lab = Lab::new().await;
    lab.store(&[noon(0)]).await;
    lab.export().await.unwrap();
    lab.at_once = true;
    let numbers = lab.numbers(1);
    let mut other = lab.config.connect().await.unwrap();
    let open = other.transaction().await.unwrap();
    let query = "INSERT INTO ledger (batch, rows, first, last) VALUES ('00000000-0000-0000-0000-000000000001', 1, $1, $1)";
    open.execute(query, &[&noon(5)]).await.unwrap();
    open.execute("INSERT INTO r VALUES ($1, $2, '00000000-0000-0000-0000-000000000001')", &[&noon(5), &numbers[0]]).await.unwrap();
    // Later transactions commit, and are exported, before it does.
    lab.store(&[noon(1)]).await;
    assert_eq!(lab.export().await.unwrap().rows, 1);
    lab.store(&[noon(2)]).await;
    let again = lab.export().await.unwrap();
    assert_eq!((again.days, again.rows), (2, 2), "day 1 is written again: its transaction is later than the one that is open");
    open.commit().await.unwrap();
    lab.at_once = false;
    lab.export().await.unwrap();
    assert_eq!(shown(&lab.table()), stored(&lab.client).await);
    assert!(shown(&lab.table()).contains_key(&day(5)));
    assert_eq!(lab.export().await.unwrap().mode, Mode::Unchanged);
}

#[tokio::test]
async fn a_lake_ends_as_the_model_says_whatever_comes_and_goes_between_exports() {
    for seed in 0..8 {
        let mut lab = Lab::new().await;
        let mut random = StdRng::seed_from_u64(seed);
        let mut model = BTreeMap::<NaiveDate, BTreeSet<i32>>::new();
        let mut horizon = day(0);
        for step in 0..24 {
            match random.random_range(0..10) {
                0..5 => {
                    let spread = if random.random_bool(0.3) { 12 } else { 1 };
                    let from = random.random_range(0..12);
                    let times: Vec<_> = (0..random.random_range(1..6)).map(|_| noon(from + random.random_range(0..spread))).collect();
                    lab.store(&times).await;
                }
                5 => {
                    horizon = horizon.max(day(random.random_range(0..10)));
                    lab.drop_before(horizon).await;
                }
                other => {
                    let exported = if other == 9 { lab.full().await } else { lab.export().await };
                    exported.unwrap_or_else(|e| panic!("seed {seed}, step {step}: {e}"));
                    let now = stored(&lab.client).await;
                    // Days that nothing was dropped of are as the database has them; to the others rows come.
                    model.retain(|day, _| *day < horizon || now.contains_key(day));
                    for (day, numbers) in now {
                        let held = model.entry(day).or_default();
                        if day >= horizon {
                            held.clear();
                        }
                        held.extend(numbers);
                    }
                    let expected: BTreeMap<NaiveDate, Vec<i32>> = model.iter().map(|(d, n)| (*d, n.iter().copied().collect())).collect();
                    assert_eq!(shown(&lab.table()), expected, "seed {seed}, step {step}");
                }
            }
        }
    }
}

#[tokio::test]
async fn late_rows_of_days_that_were_dropped_come_to_what_the_lake_has_once() {
    let mut lab = Lab::new().await;
    let old = lab.store(&[noon(0), noon(0), noon(1)]).await;
    lab.store(&[noon(5)]).await;
    lab.export().await.unwrap();
    lab.drop_before(day(3)).await;
    let late = lab.store(&[noon(0), noon(2), noon(5)]).await;
    let exported = lab.export().await.unwrap();
    assert_eq!((exported.days, exported.rows), (3, 4), "one row for day 0, one for day 2, day 5 whole");
    let expected = vec![old[0], old[1], late[0]];
    for twice in 0..2 {
        assert_eq!(shown(&lab.table())[&day(0)], expected, "round {twice}");
        assert_eq!(shown(&lab.table())[&day(1)], [old[2]]);
        lab.full().await.unwrap();
        assert_eq!(lab.export().await.unwrap().mode, Mode::Unchanged);
    }
    let later = lab.store(&[noon(0)]).await;
    let planned = plan_lake(&mut lab.client, lab.folder.path().to_str().unwrap(), &[dataset()], &lab.options).await.unwrap().remove(0);
    assert_eq!(planned.days.iter().map(|d| (d.day, d.why)).collect::<Vec<_>>(), [(day(0), Why::Added)]);
    lab.export().await.unwrap();
    assert_eq!(shown(&lab.table())[&day(0)], [expected, later].concat());
}

#[tokio::test]
async fn another_server_or_one_that_went_back_is_exported_in_full_and_its_own_watermark_is_found_again() {
    let mut lab = Lab::new().await;
    lab.store(&[noon(0), noon(1)]).await;
    lab.export().await.unwrap();
    lab.options.identity = Some("SELECT 'there'".to_owned());
    let other = lab.export().await.unwrap();
    assert_eq!((other.mode, other.rows), (Mode::Full, 2));
    assert!(other.reason.contains("another server"), "{}", other.reason);
    assert_eq!(lab.export().await.unwrap().mode, Mode::Unchanged);
    // Back again: its old watermark says nothing of what the other has written since.
    lab.options.identity = Some("SELECT 'here'".to_owned());
    assert_eq!(lab.export().await.unwrap().mode, Mode::Full);
    // As if the server's files had been put back: the lake's watermark is ahead of it.
    let log = lab.table().join("_delta_log/00000000000000000002.json");
    let text = std::fs::read_to_string(&log).unwrap();
    let ahead: Vec<String> = text
        .lines()
        .map(|line| {
            let mut action: serde_json::Value = serde_json::from_str(line).unwrap();
            if action["txn"]["appId"] == "hitherto-export:here" {
                action["txn"]["version"] = (1_i64 << 40).into();
            }
            action.to_string()
        })
        .collect();
    std::fs::write(&log, ahead.join("\n")).unwrap();
    let back = lab.export().await.unwrap();
    assert_eq!(back.mode, Mode::Full);
    assert!(back.reason.contains("gone back"), "{}", back.reason);
    // They were put back, and have gone on from there past the watermark.
    lab.store(&[noon(2)]).await;
    lab.export().await.unwrap();
    lab.client.batch_execute("DELETE FROM r WHERE n = 2; DELETE FROM ledger WHERE last > '2026-03-03'").await.unwrap();
    lab.store(&[noon(4)]).await;
    let exchanged = lab.export().await.unwrap();
    assert!(exchanged.mode == Mode::Full && exchanged.reason.contains("were exchanged"), "{}", exchanged.reason);
    assert_eq!(shown(&lab.table()), stored(&lab.client).await);
}

#[tokio::test]
async fn a_range_leaves_the_watermark_where_it_was() {
    let mut lab = Lab::new().await;
    lab.store(&[noon(0), noon(1)]).await;
    lab.export().await.unwrap();
    lab.store(&[noon(0), noon(1), noon(2)]).await;
    lab.options.from = Some(noon(1));
    lab.options.to = Some(noon(1));
    let ranged = lab.export().await.unwrap();
    assert_eq!((ranged.mode, ranged.days, ranged.rows), (Mode::Range, 1, 2));
    (lab.options.from, lab.options.to) = (None, None);
    let rest = lab.export().await.unwrap();
    assert_eq!((rest.mode, rest.days), (Mode::Incremental, 3));
    assert_eq!(shown(&lab.table()), stored(&lab.client).await);
    // A lake that begins with a range has no watermark: the rest comes in full.
    lab.folder = tempfile::tempdir().unwrap();
    lab.options.from = Some(noon(2));
    lab.export().await.unwrap();
    lab.options.from = None;
    let all = lab.export().await.unwrap();
    assert_eq!((all.mode, all.days), (Mode::Full, 3), "{}", all.reason);
    assert_eq!(shown(&lab.table()), stored(&lab.client).await);
}

#[tokio::test]
async fn rows_that_the_ledger_does_not_tell_of_and_rows_that_are_gone_keep_an_export_from_being_published() {
    let mut lab = Lab::new().await;
    for n in [0, 1, 1, 3] {
        lab.store(&[noon(n)]).await;
    }
    lab.export().await.unwrap();
    let before = files(lab.folder.path());
    // A row by hand, of a day that the ledger doesn't know at all.
    let stray = format!("INSERT INTO r VALUES ('{}', 99, '{}')", noon(7), Uuid::from_u128(7));
    lab.client.batch_execute(&stray).await.unwrap();
    let error = lab.full().await.unwrap_err();
    assert_eq!(error.kind(), ExportErrorKind::Surplus, "{error}");
    assert!(
        error.to_string().contains("5 rows were read, but the ledger tells of 4") && error.to_string().contains("audit verify"),
        "{error}"
    );
    assert_eq!(files(lab.folder.path()), before);
    lab.options.unverified = true;
    assert_eq!(lab.full().await.unwrap().rows, 5);
    lab.options.unverified = false;
    lab.client.batch_execute("DELETE FROM r WHERE n = 99").await.unwrap();
    lab.full().await.unwrap();
    assert!(!shown(&lab.table()).contains_key(&day(7)), "a day that has no rows any more goes");
    // One by hand, one lost, in days that are written anew.
    for (harm, mend, told) in [
        ("INSERT INTO r SELECT at, 99, batch FROM r WHERE n = 1", "DELETE FROM r WHERE n = 99", "the ledger tells of"),
        ("UPDATE r SET at = at + INTERVAL '1 day' WHERE n = 2", "UPDATE r SET at = at - INTERVAL '1 day' WHERE n = 2", "must be there"),
    ] {
        lab.store(&[noon(1)]).await;
        lab.client.batch_execute(harm).await.unwrap();
        let error = lab.export().await.unwrap_err();
        assert!(
            error.to_string().contains(told) && error.to_string().contains(&day(1).to_string())
                || error.to_string().contains("dataset rows:"),
            "{error}"
        );
        lab.client.batch_execute(mend).await.unwrap();
        lab.export().await.unwrap();
        assert_eq!(shown(&lab.table()), stored(&lab.client).await);
    }
}

/// The fingerprint that the command's datasets use.
fn plain() -> Dataset {
    Dataset {
        name: "rows".to_owned(),
        query: "SELECT id, words FROM p".to_owned(),
        tables: vec!["p".to_owned()],
        fingerprint: Some(
            "SELECT hashint8extended(count(*), coalesce(bit_xor(hashtidextended(ctid, xmin::text::bigint)), 0)) & 9223372036854775807 FROM p".to_owned(),
        ),
        ..Dataset::default()
    }
}

#[tokio::test]
async fn a_plain_table_is_written_when_it_has_changed() {
    let mut lab = Lab::new().await;
    lab.client
        .batch_execute(
            "CREATE TABLE p (id int PRIMARY KEY, words text); INSERT INTO p SELECT n, repeat('x', 5000) FROM generate_series(1, 50) AS n",
        )
        .await
        .unwrap();
    lab.export_as(&plain()).await.unwrap();
    for (change, written) in [
        ("SELECT 1", false),
        ("UPDATE p SET words = 'y' WHERE id = 7", true),
        ("UPDATE p SET words = words WHERE id = 7", true),
        ("BEGIN; UPDATE p SET words = 'z'; ROLLBACK", false),
        ("BEGIN; INSERT INTO p VALUES (99, 'a'); SAVEPOINT s; DELETE FROM p WHERE id = 99; COMMIT", false),
        ("BEGIN; DELETE FROM p WHERE id = 3; INSERT INTO p VALUES (3, 'b'); COMMIT", true),
        ("VACUUM p", false),
        ("VACUUM FREEZE p", false),
        ("DELETE FROM p WHERE id = 50", true),
        ("VACUUM p", false),
        // Into the place that has become free.
        ("INSERT INTO p VALUES (50, 'c')", true),
        // What moves rows shows as a change: one export too many, never one too few.
        ("VACUUM FULL p", true),
        ("TRUNCATE p", true),
        ("SELECT 1", false),
    ] {
        for statement in change.split("; ") {
            lab.client.batch_execute(statement).await.unwrap();
        }
        let exported = lab.export_as(&plain()).await.unwrap();
        assert_eq!(exported.mode != Mode::Unchanged, written, "{change}: {}", exported.reason);
        let total: usize = live_files(&lab.table()).iter().map(|f| read(&lab.table().join(f)).num_rows()).sum();
        let rows: i64 = lab.client.query_one("SELECT count(*) FROM p", &[]).await.unwrap().get(0);
        assert_eq!(total as i64, rows, "{change}");
    }
    // Another server's rows may lie in the same places.
    lab.options.identity = Some("SELECT 'there'".to_owned());
    assert_eq!(lab.export_as(&plain()).await.unwrap().mode, Mode::Full);
}

#[tokio::test]
async fn a_dataset_is_written_anew_when_a_name_that_its_rows_carry_has_changed() {
    let mut lab = Lab::new().await;
    lab.client
        .batch_execute("CREATE TABLE name (id bigint PRIMARY KEY, name text); INSERT INTO name VALUES (1, 'a'), (2, 'b')")
        .await
        .unwrap();
    let joined = Dataset {
        query: "SELECT r.at, r.n, r.batch, name.name FROM r LEFT JOIN name ON name.id = r.n % 2 + 1".to_owned(),
        joined: Some(
            "SELECT max(id), bit_xor(hashtextextended(name, id)), coalesce(bit_xor(hashtextextended(name, id)) FILTER (WHERE id <= $1::bigint), 0) FROM name"
                .to_owned(),
        ),
        ..dataset()
    };
    lab.store(&[noon(0), noon(1)]).await;
    lab.export_as(&joined).await.unwrap();
    for (change, mode) in [
        ("SELECT 1", Mode::Unchanged),
        ("INSERT INTO name VALUES (3, 'c')", Mode::Unchanged),
        ("UPDATE name SET name = 'A' WHERE id = 1", Mode::Full),
        ("SELECT 1", Mode::Unchanged),
        ("UPDATE name SET name = 'C' WHERE id = 3", Mode::Full),
    ] {
        lab.client.batch_execute(change).await.unwrap();
        let exported = lab.export_as(&joined).await.unwrap();
        assert_eq!(exported.mode, mode, "{change}: {}", exported.reason);
    }
}

#[tokio::test]
async fn a_batch_across_days_must_have_all_its_rows() {
    let mut lab = Lab::new().await;
    lab.store(&[noon(0)]).await;
    lab.export().await.unwrap();
    for (times, change, told) in [
        (vec![noon(1), noon(5), noon(5)], "DELETE FROM r WHERE n = $1", "2 rows were read, but 3 must be there"),
        (vec![noon(2), noon(6)], "INSERT INTO r SELECT at, n, batch FROM r WHERE n = $1", "3 rows were read, but the ledger tells of 2"),
    ] {
        let numbers = lab.store(&times).await;
        lab.client.execute(change, &[numbers.last().unwrap()]).await.unwrap();
        let before = files(lab.folder.path());
        let error = lab.export().await.unwrap_err();
        assert!(error.to_string().contains("batch ") && error.to_string().contains(told), "{error}");
        assert_eq!(files(lab.folder.path()), before, "nothing was published");
        lab.options.unverified = true;
        lab.export().await.unwrap();
        lab.options.unverified = false;
        assert_eq!(shown(&lab.table()), stored(&lab.client).await);
    }
}

//! History, verify, vacuum and compact of a lake in a folder.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::{SortOptions, concat_batches, lexsort_to_indices, take_record_batch};
use arrow::datatypes::Int32Type;
use hitherto_export::fault::Fault;
use hitherto_export::{
    CompactOptions, ExportErrorKind, Finding, History, VacuumOptions, Verified, VerifyOptions, compact_lake, lake_history, vacuum_lake,
    verify_lake,
};
use serde_json::Value;

use crate::export::{files, live_files, read};
use crate::lab::{Lab, dataset, day, noon, shown, stored};

async fn verify(lab: &Lab, deep: bool) -> Verified {
    let options = VerifyOptions { deep, ..VerifyOptions::default() };
    verify_lake(&lab.lake(), &[], &options, &mut |_| ()).await.unwrap()
}

async fn history(lab: &Lab) -> History {
    lake_history(&lab.lake(), &[]).await.unwrap().remove(0)
}

async fn vacuum(lab: &Lab, keep: u64, dry_run: bool) -> hitherto_export::Vacuumed {
    let options = VacuumOptions { datasets: Vec::new(), keep: Duration::from_secs(keep), dry_run };
    vacuum_lake(&lab.lake(), &options).await.unwrap().remove(0)
}

async fn compact(lab: &Lab) -> hitherto_export::Compacted {
    compact_lake(&lab.lake(), &[], &CompactOptions::default(), &mut |_| ()).await.unwrap().remove(0)
}

/// Days that the database drops get their late rows in files of their own.
async fn of_many_files() -> Lab {
    let mut lab = Lab::new().await;
    lab.store(&[noon(0), noon(0), noon(1), noon(20)]).await;
    lab.export().await.unwrap();
    lab.drop_before(day(10)).await;
    for _ in 0..3 {
        lab.store(&[noon(0), noon(0) + chrono::TimeDelta::hours(3), noon(2)]).await;
        lab.export().await.unwrap();
    }
    lab
}

fn data_files(lab: &Lab) -> Vec<PathBuf> {
    live_files(&lab.table()).iter().map(|file| lab.table().join(file)).collect()
}

/// All rows of a table, in an order that doesn't depend on the files.
fn rows(table: &Path) -> RecordBatch {
    let batches: Vec<RecordBatch> = live_files(table).iter().map(|file| read(&table.join(file))).collect();
    let all = concat_batches(&batches[0].schema(), &batches).unwrap();
    let n = all.column_by_name("n").unwrap().clone();
    let order = lexsort_to_indices(&[arrow::compute::SortColumn { values: n, options: Some(SortOptions::default()) }], None).unwrap();
    take_record_batch(&all, &order).unwrap()
}

#[tokio::test]
async fn history_tells_what_each_version_did() {
    let mut lab = Lab::new().await;
    lab.store(&[noon(0), noon(1), noon(1)]).await;
    lab.export().await.unwrap();
    lab.store(&[noon(1), noon(2)]).await;
    lab.export().await.unwrap();
    let history = history(&lab).await;
    assert_eq!(history.dataset, "rows");
    let [second, first] = &history.versions[..] else { panic!("{history:?}") };
    assert_eq!((first.version, first.files_added, first.files_removed), (0, 2, 0));
    assert_eq!((first.rows_added, first.rows_removed), (Some(3), Some(0)));
    assert_eq!((second.version, second.files_added, second.files_removed), (1, 2, 1));
    assert_eq!((second.rows_added, second.rows_removed), (Some(4), Some(2)), "day 1 was written anew");
    assert!(second.watermark > first.watermark && first.watermark.is_some());
    assert_eq!(second.server.as_deref(), Some("here"));
    assert!(second.instant.is_some() && first.instant.is_none(), "the last export's instant shows the newest version");
    assert!(second.at >= first.at && first.at.is_some());
    let none = lake_history(lab.folder.path().join("nowhere").to_str().unwrap(), &[]).await.unwrap_err();
    assert_eq!(none.kind(), ExportErrorKind::Config, "{none}");
    assert!(!lab.folder.path().join("nowhere").exists());
    let unknown = lake_history(&lab.lake(), &["row".to_owned()]).await.unwrap_err();
    assert!(unknown.to_string().contains("no dataset row; it has: rows"), "{unknown}");
}

#[tokio::test]
async fn verify_finds_what_is_wrong_and_nothing_where_nothing_is() {
    let mut lab = Lab::new().await;
    lab.store(&[noon(0), noon(1), noon(2), noon(3), noon(4)]).await;
    lab.export().await.unwrap();
    for deep in [false, true] {
        let verified = verify(&lab, deep).await;
        assert_eq!(verified.findings, []);
        let table = &verified.datasets[0];
        assert_eq!((table.version, table.files, table.days, table.rows), (0, 5, 5, 5));
    }
    let files = data_files(&lab);
    let found = |verified: &Verified, file: &Path| -> String {
        let of = |f: &&Finding| f.file.as_ref().is_some_and(|name| file.ends_with(name));
        verified.findings.iter().find(of).map(|f| f.what.clone()).unwrap_or_default()
    };
    // Gone; cut short; no Parquet; another day's rows; other rows than the log says.
    let kept: Vec<Vec<u8>> = files.iter().map(|file| fs::read(file).unwrap()).collect();
    fs::remove_file(&files[0]).unwrap();
    fs::write(&files[1], &kept[1][..kept[1].len() - 1]).unwrap();
    fs::write(&files[2], vec![7; kept[2].len()]).unwrap();
    let verified = verify(&lab, false).await;
    assert_eq!(verified.findings.len(), 3, "{verified:?}");
    assert!(found(&verified, &files[0]).contains("missing"));
    assert!(found(&verified, &files[1]).contains("bytes"));
    assert!(found(&verified, &files[2]).contains("Parquet"), "{verified:?}");
    for (file, bytes) in files.iter().zip(&kept) {
        fs::write(file, bytes).unwrap();
    }
    edit_log(&lab, 0, |log| {
        log.replacen(r#"\"numRecords\":1"#, r#"\"numRecords\":2"#, 1)
            .replace("2026-03-05", "2026-03-09")
            .replace(r#"\"n\":3}"#, r#"\"n\":4}"#)
    });
    fs::rename(lab.table().join("day=2026-03-05"), lab.table().join("day=2026-03-09")).unwrap();
    let verified = verify(&lab, false).await;
    let all: Vec<&str> = verified.findings.iter().map(|f| f.what.as_str()).collect();
    assert!(all.iter().any(|what| what.contains("has 1 rows, the log says 2")), "{all:?}");
    assert!(all.iter().any(|what| what.contains("filed under the day 2026-03-09")), "{all:?}");
    assert!(all.iter().any(|what| what.contains("column n") && what.contains("the log says 4")), "{all:?}");
}

/// Changes what a commit says.
fn edit_log(lab: &Lab, version: u64, change: impl Fn(&str) -> String) {
    let path = lab.table().join(format!("_delta_log/{version:020}.json"));
    let before = fs::read_to_string(&path).unwrap();
    let after = change(&before);
    assert_ne!(before, after);
    fs::write(path, after).unwrap();
}

#[tokio::test]
async fn only_a_deep_look_finds_damaged_values() {
    let mut lab = Lab::new().await;
    let times: Vec<_> = (0..2_000).map(|second| noon(0) + chrono::TimeDelta::seconds(second)).collect();
    lab.store(&times).await;
    lab.export().await.unwrap();
    let file = data_files(&lab).remove(0);
    let mut bytes = fs::read(&file).unwrap();
    // Amid the pages; the footer is whole.
    for byte in &mut bytes[200..260] {
        *byte ^= 0x5a;
    }
    fs::write(&file, bytes).unwrap();
    assert_eq!(verify(&lab, false).await.findings, []);
    assert_eq!(verify(&lab, true).await.findings.len(), 1);
}

#[tokio::test]
async fn an_earlier_version_is_verified_by_its_own_log() {
    let mut lab = Lab::new().await;
    lab.store(&[noon(0)]).await;
    lab.export().await.unwrap();
    let first = data_files(&lab);
    lab.store(&[noon(0)]).await;
    lab.export().await.unwrap();
    fs::remove_file(&first[0]).unwrap();
    assert_eq!(verify(&lab, true).await.findings, [], "the newest version doesn't name it");
    let options = VerifyOptions { datasets: vec!["rows".to_owned()], version: Some(0), deep: false };
    let verified = verify_lake(&lab.lake(), &[], &options, &mut |_| ()).await.unwrap();
    assert_eq!((verified.findings.len(), verified.datasets[0].version, verified.datasets[0].rows), (1, 0, 1));
    let options = VerifyOptions { version: Some(7), ..options };
    assert!(verify_lake(&lab.lake(), &[], &options, &mut |_| ()).await.is_err());
}

#[tokio::test]
async fn compact_leaves_the_same_rows_in_one_sorted_file_a_day() {
    let mut lab = of_many_files().await;
    let before = rows(&lab.table());
    let numbers = shown(&lab.table());
    assert_eq!(live_files(&lab.table()).len(), 9, "days 0 to 2 and 20; 0 and 2 have files of late rows");
    let asked = CompactOptions { dry_run: true, ..CompactOptions::default() };
    let planned = compact_lake(&lab.lake(), &[], &asked, &mut |_| ()).await.unwrap().remove(0);
    let at = files(lab.folder.path());
    assert_eq!((planned.days, planned.files_before, planned.files_after, planned.rows, planned.version), (2, 7, 2, 11, 3));
    let compacted = compact(&lab).await;
    assert_eq!((compacted.days, compacted.files_before, compacted.files_after, compacted.rows, compacted.version), (2, 7, 2, 11, 4));
    assert!(compacted.bytes_after > 0 && compacted.bytes_after < compacted.bytes_before);
    assert_eq!(live_files(&lab.table()).len(), 4);
    assert_eq!(shown(&lab.table()), numbers);
    assert_eq!(rows(&lab.table()), before);
    assert!(at.iter().all(|file| Path::new(file).exists()), "earlier versions can still be read");
    for file in data_files(&lab) {
        let n = read(&file).column_by_name("n").unwrap().as_primitive::<Int32Type>().values().to_vec();
        assert!(n.is_sorted(), "{}: {n:?}", file.display());
    }
    let log = fs::read_to_string(lab.table().join(format!("_delta_log/{:020}.json", 4))).unwrap();
    let actions: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let changes = actions.iter().filter_map(|a| a["add"]["dataChange"].as_bool().or(a["remove"]["dataChange"].as_bool()));
    assert_eq!(changes.collect::<Vec<_>>(), [false; 9]);
    assert_eq!(verify(&lab, true).await.findings, [], "with its statistics");
    let told = &history(&lab).await.versions[0];
    assert_eq!((told.operation.as_str(), told.rows_added, told.rows_removed), ("OPTIMIZE", Some(11), Some(11)));
    assert!(told.instant.is_some(), "_snapshot.json names the version that shows the same");
    // Once more there is nothing to do, and exports go on where they were.
    assert_eq!((compact(&lab).await.days, history(&lab).await.versions.len()), (0, 5));
    assert_eq!(lab.export().await.unwrap().mode, hitherto_export::Mode::Unchanged);
    let more = lab.store(&[noon(0), noon(20)]).await;
    lab.export().await.unwrap();
    let mut expected = numbers;
    expected.get_mut(&day(0)).unwrap().push(more[0]);
    expected.get_mut(&day(20)).unwrap().push(more[1]);
    assert_eq!(shown(&lab.table()), expected);
    assert_eq!(stored(&lab.client).await[&day(20)].len(), 2);
}

#[tokio::test]
async fn compact_merges_what_sorts_between_and_columns_that_came_later() {
    let mut lab = Lab::new().await;
    lab.client.batch_execute("ALTER TABLE r ADD word text, ADD d numeric(38,18), ADD f float8").await.unwrap();
    let wide = |columns: &str| hitherto_export::Dataset {
        query: format!("SELECT at, n, batch{columns} FROM r"),
        dictionary: vec!["word".to_owned()],
        ..dataset()
    };
    let mut expected = BTreeMap::new();
    let times: Vec<_> = (0..5_000).map(|i| noon(0) + chrono::TimeDelta::milliseconds(i)).collect();
    lab.store(&times).await;
    lab.client.batch_execute("UPDATE r SET word = CASE WHEN n % 3 = 0 THEN 'w' || n % 7 END, n = n * 2").await.unwrap();
    lab.export_as(&wide(", word")).await.unwrap();
    lab.drop_before(day(5)).await;
    let late = lab.store(&times).await;
    lab.client
        .execute(
            "UPDATE r SET n = (n - $1) * 2 + 1, d = n * 0.000000000000000001, f = CASE n % 5 WHEN 0 THEN 'NaN'::float8 ELSE n END WHERE n >= $1",
            &[&late[0]],
        )
        .await
        .unwrap();
    lab.export_as(&wide(", word, d, f")).await.unwrap();
    for file in live_files(&lab.table()) {
        let batch = read(&lab.table().join(file));
        for row in 0..batch.num_rows() {
            let d = batch
                .column_by_name("d")
                .filter(|d| d.is_valid(row))
                .map(|d| d.as_primitive::<arrow::datatypes::Decimal128Type>().value(row));
            let word = arrow::compute::cast(batch.column_by_name("word").unwrap(), &arrow::datatypes::DataType::Utf8).unwrap();
            let word = word.is_valid(row).then(|| word.as_string::<i32>().value(row).to_owned());
            expected.insert(batch.column_by_name("n").unwrap().as_primitive::<Int32Type>().value(row), (word, d));
        }
    }
    assert_eq!(expected.len(), 10_000);
    assert_eq!((compact(&lab).await.rows, live_files(&lab.table()).len()), (10_000, 1));
    let batch = read(&data_files(&lab)[0]);
    let n = batch.column_by_name("n").unwrap().as_primitive::<Int32Type>().values().to_vec();
    assert_eq!(n, (0..10_000).collect::<Vec<_>>(), "every second row is of the other file");
    let d = batch.column_by_name("d").unwrap().as_primitive::<arrow::datatypes::Decimal128Type>().clone();
    let word = arrow::compute::cast(batch.column_by_name("word").unwrap(), &arrow::datatypes::DataType::Utf8).unwrap();
    let word = word.as_string::<i32>();
    for (row, n) in n.iter().enumerate() {
        let found = (word.is_valid(row).then(|| word.value(row).to_owned()), d.is_valid(row).then(|| d.value(row)));
        assert_eq!(found, expected[n]);
    }
    assert_eq!(verify(&lab, true).await.findings, [], "NaN has no bound");
}

#[tokio::test]
async fn vacuum_takes_what_nobody_reads_and_leaves_the_rest() {
    let mut lab = of_many_files().await;
    compact(&lab).await;
    let stray = lab.table().join("day=2026-03-01/part-left.parquet");
    fs::write(&stray, "left by somebody").unwrap();
    fs::write(lab.table().join("notes.txt"), "mine").unwrap();
    let all = files(lab.folder.path());
    assert_eq!((vacuum(&lab, 3_600, false).await.files, files(lab.folder.path())), (0, all.clone()), "nothing is that old");
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    let planned = vacuum(&lab, 0, true).await;
    assert_eq!((planned.files, planned.leftovers), (8, 1));
    assert_eq!(files(lab.folder.path()), all, "a dry run removes nothing");
    let live = live_files(&lab.table());
    let before = rows(&lab.table());
    let vacuumed = vacuum(&lab, 0, false).await;
    assert_eq!((vacuumed.files, vacuumed.leftovers, vacuumed.removed.len()), (8, 1, 8));
    assert!(!stray.exists() && lab.table().join("notes.txt").exists());
    assert_eq!((live_files(&lab.table()), rows(&lab.table())), (live, before));
    assert_eq!(verify(&lab, true).await.findings, []);
    lab.store(&[noon(0), noon(20)]).await;
    lab.export().await.unwrap();
    assert_eq!(verify(&lab, true).await.findings, []);
}

#[tokio::test]
async fn vacuum_keeps_the_version_that_the_snapshot_names() {
    let mut lab = Lab::new().await;
    lab.store(&[noon(0)]).await;
    lab.export().await.unwrap();
    let named = fs::read_to_string(lab.folder.path().join("_snapshot.json")).unwrap();
    let kept = data_files(&lab);
    lab.store(&[noon(0)]).await;
    lab.export().await.unwrap();
    fs::write(lab.folder.path().join("_snapshot.json"), named).unwrap();
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    assert_eq!(vacuum(&lab, 0, false).await.files, 0);
    assert!(kept[0].exists());
}

#[tokio::test]
async fn neither_vacuum_nor_compact_gets_in_an_exports_way() {
    let mut lab = Lab::new().await;
    lab.store(&[noon(0)]).await;
    lab.export().await.unwrap();
    let marker = fs::File::open(lab.folder.path().join("_lake.json")).unwrap();
    marker.lock().unwrap();
    let vacuumed =
        vacuum_lake(&lab.lake(), &VacuumOptions { datasets: Vec::new(), keep: Duration::ZERO, dry_run: false }).await.unwrap_err();
    let compacted = compact_lake(&lab.lake(), &[], &CompactOptions::default(), &mut |_| ()).await.unwrap_err();
    assert_eq!((vacuumed.kind(), compacted.kind()), (ExportErrorKind::Conflict, ExportErrorKind::Conflict));
    assert_eq!(verify(&lab, true).await.findings, [], "reading is always possible");
}

#[tokio::test]
async fn a_compact_that_is_killed_anywhere_changes_no_row_and_the_next_one_does_it() {
    let mut at = 0;
    loop {
        let lab = of_many_files().await;
        let before = rows(&lab.table());
        let fault = Fault::new(lab.folder.path(), at, true);
        let ended = compact_lake(&lab.lake(), &[], &CompactOptions::default(), &mut |_| ()).await;
        let done = fault.taken() <= at;
        drop(fault);
        assert_eq!(rows(&lab.table()), before, "step {at}");
        assert_eq!(verify(&lab, true).await.findings, [], "step {at}");
        if done {
            ended.unwrap();
            break;
        }
        compact(&lab).await;
        assert_eq!((rows(&lab.table()), live_files(&lab.table()).len()), (before, 4), "step {at}");
        at += 3;
    }
    assert!(at > 6, "{at} steps are too few to be all");
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compact_that_is_told_to_stop_at_any_moment_leaves_every_row() {
    let lab = of_many_files().await;
    let before = rows(&lab.table());
    let (mut stopped, mut late) = (0, 0);
    for time in (0..).map(|n| Duration::from_micros(250 * n)) {
        let folder = tempfile::tempdir().unwrap();
        copy(lab.folder.path(), folder.path());
        let lake = folder.path().to_str().unwrap();
        let ended = tokio::time::timeout(time, compact_lake(lake, &[], &CompactOptions::default(), &mut |_| ())).await;
        hitherto_export::publishing_ended().await;
        let options = VerifyOptions { deep: true, ..VerifyOptions::default() };
        let verified = verify_lake(lake, &[], &options, &mut |_| ()).await.unwrap();
        assert_eq!(verified.findings, [], "stopped after {time:?}");
        let table = folder.path().join("rows");
        assert_eq!(rows(&table), before, "stopped after {time:?}");
        match ended {
            Ok(done) => {
                assert_eq!(done.unwrap()[0].files_after, 2);
                break;
            }
            Err(_) => stopped += 1,
        }
        late += u32::from(live_files(&table).len() == 4);
    }
    assert!(stopped > 3 && late > 0, "stopped {stopped} times, {late} of them while it was publishing");
}

//! What a lake says of its columns and values, and which lakes are left alone.

use std::path::Path;

use hitherto_export::{Dataset, ExportErrorKind, Mode, check_lake, export_lake};
use serde_json::{Value, json};

use crate::export::{files, live_files, read};
use crate::lab::{Lab, dataset, noon};

/// The last action of a kind in a table's log.
fn action(table: &Path, kind: &str) -> Value {
    actions(table, kind).pop().unwrap_or_default()
}

fn actions(table: &Path, kind: &str) -> Vec<Value> {
    let mut logs: Vec<_> = std::fs::read_dir(table.join("_delta_log")).unwrap().map(|e| e.unwrap().path()).collect();
    logs.retain(|path| path.extension().is_some_and(|e| e == "json"));
    logs.sort();
    let lines = logs.iter().flat_map(|log| std::fs::read_to_string(log).unwrap().lines().map(str::to_owned).collect::<Vec<_>>());
    lines
        .map(|line| serde_json::from_str::<Value>(&line).unwrap())
        .filter(|action| !action[kind].is_null())
        .map(|a| a[kind].clone())
        .collect()
}

fn with_columns(columns: &str) -> Dataset {
    Dataset { query: format!("SELECT at, n, batch{columns} FROM r"), ..dataset() }
}

#[tokio::test]
async fn a_new_column_is_null_in_old_files_and_one_that_goes_or_changes_is_told() {
    let mut lab = Lab::new().await;
    lab.store(&[noon(0), noon(1)]).await;
    lab.export().await.unwrap();
    let old = live_files(&lab.table());
    // A column alone, and with new rows.
    let wider = with_columns(", n::bigint * 2 AS twice");
    let added = lab.export_as(&wider).await.unwrap();
    assert_eq!((added.mode, added.rows, live_files(&lab.table())), (Mode::Incremental, 0, old.clone()), "{}", added.reason);
    let fields = |table: &Path| -> Vec<String> {
        let schema: Value = serde_json::from_str(action(table, "metaData")["schemaString"].as_str().unwrap()).unwrap();
        schema["fields"].as_array().unwrap().iter().map(|f| f["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(fields(&lab.table()), ["at", "n", "batch", "twice", "day"]);
    lab.store(&[noon(1)]).await;
    let widest = with_columns(", n::bigint * 2 AS twice, 'w'::text AS word");
    lab.export_as(&widest).await.unwrap();
    assert_eq!(fields(&lab.table()), ["at", "n", "batch", "twice", "word", "day"]);
    let kept = live_files(&lab.table());
    assert_eq!(kept.iter().filter(|f| old.contains(f)).count(), 1, "the day without new rows stays");
    let ids: Vec<Value> = actions(&lab.table(), "metaData").iter().map(|m| m["id"].clone()).collect();
    assert!(ids.len() == 3 && ids.iter().all(|id| *id == ids[0]), "it stays one table: {ids:?}");

    for (columns, told) in [
        (", n AS twice, 'w'::text AS word", "column twice was long, and is integer"),
        (", 'w'::text AS word", "column twice is no longer there"),
    ] {
        let narrower = with_columns(columns);
        let before = files(lab.folder.path());
        let error = lab.export_as(&narrower).await.unwrap_err();
        assert_eq!(error.kind(), ExportErrorKind::Lake);
        assert!(error.to_string().contains(told) && error.to_string().contains("--full"), "{error}");
        assert_eq!(files(lab.folder.path()), before);
        lab.options.full = true;
        lab.export_as(&narrower).await.unwrap();
        lab.options.full = false;
        assert_eq!(lab.export_as(&narrower).await.unwrap().mode, Mode::Unchanged);
    }
    // Days that the database has dropped can't be written anew.
    lab.client
        .batch_execute(&format!("INSERT INTO horizon VALUES ('{}'); DELETE FROM r WHERE at < '{0}'", noon(1).date_naive()))
        .await
        .unwrap();
    lab.options.full = true;
    let error = lab.export_as(&with_columns(", n AS word")).await.unwrap_err();
    assert!(error.to_string().contains("days that retention has dropped"), "{error}");
}

#[tokio::test]
async fn the_log_tells_bounds_of_every_column_that_enclose_its_values() {
    let mut lab = Lab::new().await;
    lab.client.batch_execute("CREATE TYPE mood AS ENUM ('low', 'high')").await.unwrap();
    let query = "SELECT TIMESTAMPTZ '2026-03-01 00:00:00.000001+00' + i * INTERVAL '1 hour' AS at, i::smallint AS small, i AS plain, i::bigint AS big,
                        i / 2.0::real AS real, CASE WHEN i = 3 THEN 'NaN' ELSE i::float8 END AS nan, ((i - 2) * 10000000000000000000.000000000000000001)::numeric(38,18) AS exact,
                        DATE '2026-03-01' + i AS date, repeat('ab', i * 20) AS text, CASE i WHEN 0 THEN 'low'::mood ELSE 'high' END AS mood,
                        NULL::int AS nothing, i > 2 AS flag, '\\x00'::bytea AS bytes, NULLIF(i, 0) AS some,
                        CASE WHEN i = 0 THEN DATE '0044-03-15 BC' ELSE DATE '2026-01-01' END AS ancient
                 FROM generate_series(0, 5) AS i";
    let dataset = Dataset { name: "rows".to_owned(), query: query.to_owned(), time_column: Some("at".to_owned()), ..Dataset::default() };
    lab.export_as(&dataset).await.unwrap();
    let add = action(&lab.table(), "add");
    let stats: Value = serde_json::from_str(add["stats"].as_str().unwrap()).unwrap();
    assert_eq!((&stats["numRecords"], &stats["nullCount"]["nothing"], &stats["nullCount"]["some"]), (&json!(6), &json!(6), &json!(1)));
    for (column, least, most) in [
        ("at", json!("2026-03-01T00:00:00.000Z"), json!("2026-03-01T05:00:00.001Z")),
        ("small", json!(0), json!(5)),
        ("plain", json!(0), json!(5)),
        ("big", json!(0), json!(5)),
        ("real", json!(0.0), json!(2.5)),
        // NaN is larger than every number.
        ("nan", json!(0.0), json!(null)),
        ("date", json!("2026-03-01"), json!("2026-03-06")),
        ("text", json!(""), json!(format!("{}\u{10ffff}", "ab".repeat(16)))),
        ("mood", json!("high"), json!("low")),
        ("nothing", json!(null), json!(null)),
        ("flag", json!(null), json!(null)),
        ("bytes", json!(null), json!(null)),
        ("some", json!(1), json!(5)),
        ("ancient", json!(null), json!("2026-01-01")),
    ] {
        assert_eq!((&stats["minValues"][column], &stats["maxValues"][column]), (&least, &most), "{column}");
    }
    let text = add["stats"].as_str().unwrap();
    assert!(text.contains(r#""exact":-20000000000000000000.000000000000000002"#), "every digit: {text}");
    assert!(text.contains(r#""exact":30000000000000000000.000000000000000003"#), "every digit: {text}");
    // The library reads them back.
    assert_eq!(lab.export_as(&dataset).await.unwrap().version, Some(1));
}

#[tokio::test]
async fn a_checkpoint_comes_now_and_then_and_the_watermark_outlives_it() {
    let mut lab = Lab::new().await;
    for n in 0..25 {
        lab.store(&[noon(n % 3)]).await;
        assert_eq!(lab.export().await.unwrap().version, Some(n), "one commit each");
    }
    let logs = files(&lab.table().join("_delta_log"));
    assert!(logs.iter().any(|f| f.contains("00000000000000000019.checkpoint") && f.ends_with(".parquet")), "{logs:?}");
    assert!(logs.iter().any(|f| f.ends_with("_last_checkpoint")) && !logs.iter().any(|f| f.contains('#')), "{logs:?}");
    for n in 0..19 {
        std::fs::remove_file(lab.table().join(format!("_delta_log/{n:020}.json"))).unwrap();
    }
    assert_eq!(lab.export().await.unwrap().mode, Mode::Unchanged);
    lab.store(&[noon(1)]).await;
    let next = lab.export().await.unwrap();
    assert_eq!((next.mode, next.days, next.version), (Mode::Incremental, 1, Some(25)));
}

#[tokio::test]
async fn lakes_of_a_newer_program_and_lakes_that_are_being_written_are_left_alone() {
    let mut lab = Lab::new().await;
    lab.store(&[noon(0)]).await;
    lab.export().await.unwrap();
    let lake = lab.lake();
    let marker = lab.folder.path().join("_lake.json");
    let lock = std::fs::File::open(&marker).unwrap();
    lock.lock().unwrap();
    let error = lab.export().await.unwrap_err();
    assert!(error.kind() == ExportErrorKind::Conflict && error.to_string().contains("another export"), "{error}");
    drop(lock);

    let old = std::fs::read_to_string(&marker).unwrap();
    std::fs::write(&marker, old.replace("\"format\":1", "\"format\":2")).unwrap();
    for error in [lab.export().await.unwrap_err(), check_lake(&lake, "x").unwrap_err()] {
        assert!(
            error.kind() == ExportErrorKind::Lake && error.to_string().contains("newer version") && error.to_string().contains(&lake),
            "{error}"
        );
    }
    std::fs::write(&marker, old).unwrap();

    // What a later Delta protocol asks for.
    let log = lab.table().join("_delta_log/00000000000000000001.json");
    for (protocol, told) in [
        (
            json!({"minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": ["deletionVectors"], "writerFeatures": ["deletionVectors"]}),
            "deletionVectors",
        ),
        (
            json!({"minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": ["fromTheFuture"], "writerFeatures": ["fromTheFuture"]}),
            "fromTheFuture",
        ),
        (json!({"minReaderVersion": 9, "minWriterVersion": 9}), "upgrade this program"),
    ] {
        std::fs::write(&log, json!({ "protocol": protocol }).to_string()).unwrap();
        lab.store(&[noon(0)]).await;
        let before = files(lab.folder.path());
        let error = lab.export().await.unwrap_err();
        assert!(error.to_string().contains(told) && error.to_string().contains("upgrade this program"), "{error}");
        assert_eq!(files(lab.folder.path()), before);
    }
    std::fs::remove_file(&log).unwrap();
    // Somebody else's commit between the plan and its own.
    let datasets = [dataset()];
    let (folder, options) = (lab.folder.path().to_owned(), lab.options.clone());
    let first = std::fs::read_to_string(lab.table().join("_delta_log/00000000000000000000.json")).unwrap();
    let info = first.lines().find(|line| line.contains("commitInfo")).unwrap().to_owned();
    let mut meddle =
        |_: hitherto_export::Progress<'_>| std::fs::write(folder.join("rows/_delta_log/00000000000000000001.json"), &info).unwrap();
    let error = export_lake(&mut lab.client, &lake, &datasets, &options, &mut meddle).await.unwrap_err();
    assert!(error.kind() == ExportErrorKind::Conflict && error.to_string().contains("run the export again"), "{error}");
    lab.export().await.unwrap();
    let table = lab.table();
    assert_eq!(live_files(&table).iter().map(|f| read(&table.join(f)).num_rows()).sum::<usize>(), 4);
}

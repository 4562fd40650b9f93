//! The lake and flat files.

use std::path::Path;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Decimal128Type, Int32Type, TimestampMicrosecondType};
use hitherto_export::{Dataset, ExportErrorKind, Options, export_file, export_lake};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::harness;

pub(crate) fn read(path: &Path) -> RecordBatch {
    let builder = ParquetRecordBatchReaderBuilder::try_new(std::fs::File::open(path).unwrap()).unwrap();
    let schema = builder.schema().clone();
    let batches: Vec<RecordBatch> = builder.build().unwrap().map(Result::unwrap).collect();
    arrow::compute::concat_batches(&schema, &batches).unwrap()
}

fn dataset(query: &str) -> Dataset {
    Dataset { name: "thing".to_owned(), query: query.to_owned(), ..Dataset::default() }
}

/// Paths that the newest version of a Delta table is made of, by its log.
pub(crate) fn live_files(table: &Path) -> Vec<String> {
    let mut live = std::collections::BTreeSet::new();
    let mut logs: Vec<_> = std::fs::read_dir(table.join("_delta_log"))
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.extension().is_some_and(|e| e == "json"))
        .collect();
    logs.sort();
    for log in logs {
        for line in std::fs::read_to_string(log).unwrap().lines() {
            let action: serde_json::Value = serde_json::from_str(line).unwrap();
            if let Some(path) = action["add"]["path"].as_str() {
                live.insert(path.to_owned());
            }
            if let Some(path) = action["remove"]["path"].as_str() {
                live.remove(path);
            }
        }
    }
    live.into_iter().collect()
}

#[tokio::test]
async fn every_type_comes_out_exact_extremes_and_nulls_included() {
    let config = harness::empty_database().await;
    let mut client = config.connect().await.unwrap();
    client
        .batch_execute(
            "CREATE TYPE colour AS ENUM ('red', 'green');
             CREATE TABLE t (n int, b bool, i2 int2, i4 int4, i8 int8, f4 float4, f8 float8, d numeric(38,18), m numeric(10,2), t text, v varchar(9), c char(3),
                             y bytea, z timestamptz, s timestamp, a date, u uuid, j json, k jsonb, e colour, x text[]);
             INSERT INTO t (n) VALUES (0);
             INSERT INTO t VALUES (1, true, 32767, -2147483648, 9223372036854775807, 'NaN', 'Infinity', 99999999999999999999.999999999999999999, -12345678.90,
                 E'\\u00fc\\n', '', 'ab', '\\x00ff', '0001-01-01 00:00:00+00', '9999-12-31 23:59:59.999999', '0001-01-01',
                 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '{\"a\" : 1e2}', '{\"b\": 0.12345678901234567890123}', 'green', ARRAY['p', NULL, '']);",
        )
        .await
        .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("t.parquet");
    let mut things = dataset("SELECT * FROM t");
    things.sort = vec!["n".to_owned()];
    let exported = export_file(&mut client, &things, &file, &Options::default(), &mut |_| ()).await.unwrap();
    assert_eq!(exported.rows, 2);
    let batch = read(&file);
    for (at, field) in batch.schema().fields().iter().enumerate().skip(1) {
        assert!(batch.column(at).is_null(0), "{} of the first row is NULL", field.name());
    }
    let column = |name: &str| batch.column_by_name(name).unwrap().clone();
    assert_eq!(column("d").data_type(), &DataType::Decimal128(38, 18));
    assert_eq!(column("d").as_primitive::<Decimal128Type>().value(1), 10i128.pow(38) - 1);
    assert_eq!(column("m").as_primitive::<Decimal128Type>().value(1), -1_234_567_890);
    assert_eq!(column("z").as_primitive::<TimestampMicrosecondType>().value(1), -62_135_596_800_000_000);
    assert_eq!(column("s").as_primitive::<TimestampMicrosecondType>().value(1), 253_402_300_799_999_999);
    assert_eq!(column("u").as_string::<i32>().value(1), "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11");
    assert_eq!(column("k").as_string::<i32>().value(1), r#"{"b": 0.12345678901234567890123}"#);
    assert_eq!(column("c").as_string::<i32>().value(1), "ab ");
    let colours = column("e");
    let colours = colours.as_dictionary::<Int32Type>();
    assert_eq!(colours.values().as_string::<i32>().value(colours.key(1).unwrap()), "green");
    let list = column("x").as_list::<i32>().value(1);
    assert_eq!((list.len(), list.is_null(1), list.as_string::<i32>().value(0)), (3, true, "p"));
}

#[tokio::test]
async fn what_has_no_exact_place_is_refused_by_name() {
    let config = harness::empty_database().await;
    let mut client = config.connect().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    for (query, words) in [
        ("SELECT 1::numeric AS n", "thing.n: numeric without precision"),
        ("SELECT 'infinity'::timestamptz AS t", "thing.t, row 1: an infinite time"),
        ("SELECT 1::money AS m", "thing.m: type money"),
        ("SELECT 1 AS a, 2 AS a", "two columns named a"),
    ] {
        let error =
            export_file(&mut client, &dataset(query), &folder.path().join("f"), &Options::default(), &mut |_| ()).await.unwrap_err();
        assert!(error.to_string().contains(words), "{query}: {error}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "{query} left something behind");
    }
}

async fn days(client: &tokio_postgres::Client) {
    client
        .batch_execute(
            "CREATE TABLE r (at timestamptz NOT NULL, n int NOT NULL);
             INSERT INTO r SELECT '2026-03-01 12:00+00'::timestamptz + i * INTERVAL '6 hours', i FROM generate_series(0, 11) AS i",
        )
        .await
        .unwrap();
}

fn rows() -> Dataset {
    Dataset {
        name: "rows".to_owned(),
        query: "SELECT * FROM r".to_owned(),
        time_column: Some("at".to_owned()),
        tables: vec!["r".to_owned()],
        ..Dataset::default()
    }
}

#[tokio::test]
async fn an_export_replaces_what_the_one_before_showed() {
    let config = harness::empty_database().await;
    let mut client = config.connect().await.unwrap();
    days(&client).await;
    let folder = tempfile::tempdir().unwrap();
    // A path that a URL must escape.
    let lake = folder.path().join("a lake ü");
    let lake = lake.to_str().unwrap();
    let table = Path::new(lake).join("rows");
    let total = || live_files(&table).iter().map(|f| read(&table.join(f)).num_rows()).sum::<usize>();

    let first = export_lake(&mut client, lake, &[rows()], &Options::default(), &mut |_| ()).await.unwrap();
    assert_eq!((first[0].rows, first[0].days, first[0].version), (12, 4, Some(0)));
    assert_eq!(
        live_files(&table).iter().map(|f| f.split('/').next().unwrap()).collect::<Vec<_>>(),
        ["day=2026-03-01", "day=2026-03-02", "day=2026-03-03", "day=2026-03-04"]
    );
    client.batch_execute("INSERT INTO r VALUES ('2026-03-02 00:00+00', 100), ('2026-03-09', 101)").await.unwrap();
    let second = export_lake(&mut client, lake, &[rows()], &Options::default(), &mut |_| ()).await.unwrap();
    assert_eq!((second[0].rows, second[0].version, total()), (14, Some(1), 14));

    let percent = format!("{lake}%20");
    let error = export_lake(&mut client, &percent, &[rows()], &Options::default(), &mut |_| ()).await.unwrap_err();
    assert!(error.to_string().contains("holds a %"), "{error}");

    // One day alone: the others are as they were.
    let before = live_files(&table);
    client.batch_execute("INSERT INTO r VALUES ('2026-03-02 23:59:59.999999+00', 102), ('2026-03-03 01:00+00', 103)").await.unwrap();
    let options = Options {
        from: Some("2026-03-02T05:00:00Z".parse().unwrap()),
        to: Some("2026-03-03T00:00:00Z".parse().unwrap()),
        ..Options::default()
    };
    let third = export_lake(&mut client, lake, &[rows()], &options, &mut |_| ()).await.unwrap();
    assert_eq!((third[0].days, third[0].rows, total()), (1, 6, 15));
    let kept = live_files(&table).iter().filter(|f| before.contains(f)).count();
    assert_eq!(kept, before.len() - 1);

    // Another column: the whole table is written anew under the new schema.
    client.batch_execute("ALTER TABLE r ADD COLUMN extra text DEFAULT 'x'").await.unwrap();
    export_lake(&mut client, lake, &[rows()], &Options::default(), &mut |_| ()).await.unwrap();
    assert_eq!(total(), 16);
    client.batch_execute("TRUNCATE r").await.unwrap();
    export_lake(&mut client, lake, &[rows()], &Options::default(), &mut |_| ()).await.unwrap();
    assert_eq!(total(), 0, "an empty dataset is a valid table");
}

#[tokio::test]
async fn an_export_that_fails_publishes_nothing_and_leaves_nothing() {
    let config = harness::empty_database().await;
    let mut client = config.connect().await.unwrap();
    days(&client).await;
    let folder = tempfile::tempdir().unwrap();
    let lake = folder.path().to_str().unwrap();
    export_lake(&mut client, lake, &[rows()], &Options::default(), &mut |_| ()).await.unwrap();
    let before = files(folder.path());
    let mut bad = rows();
    bad.name = "bad".to_owned();
    bad.query = "SELECT at, n, 1 / (n - 7) AS q FROM r".to_owned();
    let error = export_lake(&mut client, lake, &[rows(), bad], &Options::default(), &mut |_| ()).await.unwrap_err();
    assert_eq!(error.kind(), ExportErrorKind::Database, "{error}");
    assert_eq!(files(folder.path()), before);

    let mut short = rows();
    short.expected_rows = Some("SELECT 13::bigint WHERE $1::timestamptz IS NULL AND $2::timestamptz IS NULL".to_owned());
    let error = export_lake(&mut client, lake, std::slice::from_ref(&short), &Options::default(), &mut |_| ()).await.unwrap_err();
    assert_eq!(error.kind(), ExportErrorKind::Incomplete, "{error}");
    assert_eq!(files(folder.path()), before);
    let unverified = Options { unverified: true, ..Options::default() };
    export_lake(&mut client, lake, &[short], &unverified, &mut |_| ()).await.unwrap();
}

#[tokio::test]
async fn an_export_that_is_dropped_midway_leaves_the_old_state() {
    let config = harness::empty_database().await;
    let mut client = config.connect().await.unwrap();
    days(&client).await;
    let folder = tempfile::tempdir().unwrap();
    let lake = folder.path().to_str().unwrap();
    export_lake(&mut client, lake, &[rows()], &Options::default(), &mut |_| ()).await.unwrap();
    let live = live_files(&folder.path().join("rows"));
    for millis in [1, 5, 10, 20, 40] {
        let mut client = config.connect().await.unwrap();
        let (datasets, options) = ([rows()], Options::default());
        let mut quiet = |_: hitherto_export::Progress<'_>| ();
        let export = export_lake(&mut client, lake, &datasets, &options, &mut quiet);
        let _ = tokio::time::timeout(std::time::Duration::from_millis(millis), export).await;
        let now = live_files(&folder.path().join("rows"));
        assert!(now == live || now.len() == live.len(), "whole states alone: {now:?}");
        for file in now {
            read(&folder.path().join("rows").join(file));
        }
    }
}

#[tokio::test]
async fn an_export_that_is_dropped_amid_its_commits_publishes_the_rest() {
    let config = harness::empty_database().await;
    let mut client = config.connect().await.unwrap();
    days(&client).await;
    let folder = tempfile::tempdir().unwrap();
    let lake = folder.path().to_str().unwrap();
    let datasets: Vec<Dataset> = (0..6).map(|n| Dataset { name: format!("rows_{n}"), ..rows() }).collect();
    let options = Options::default();
    let mut quiet = |_: hitherto_export::Progress<'_>| ();
    let first = folder.path().join("rows_0/_delta_log/00000000000000000000.json");
    tokio::select! {
        biased;
        () = async { while !first.exists() { tokio::time::sleep(std::time::Duration::from_millis(1)).await; } } => {}
        exported = export_lake(&mut client, lake, &datasets, &options, &mut quiet) => { exported.unwrap(); }
    }
    hitherto_export::publishing_ended().await;
    for n in 0..6 {
        let table = folder.path().join(format!("rows_{n}"));
        assert_eq!(live_files(&table).iter().map(|f| read(&table.join(f)).num_rows()).sum::<usize>(), 12, "rows_{n}");
    }
    let snapshot: serde_json::Value = serde_json::from_slice(&std::fs::read(folder.path().join("_snapshot.json")).unwrap()).unwrap();
    assert_eq!(snapshot["versions"]["rows_5"]["version"], 0, "{snapshot}");
    assert_eq!(snapshot["versions"]["rows_0"]["exported_at"], snapshot["versions"]["rows_5"]["exported_at"]);
}

#[tokio::test]
async fn a_table_that_cannot_be_written_keeps_all_of_them_as_they_were() {
    let config = harness::empty_database().await;
    let mut client = config.connect().await.unwrap();
    days(&client).await;
    let folder = tempfile::tempdir().unwrap();
    let lake = folder.path().to_str().unwrap();
    let datasets: Vec<Dataset> = ["a", "b"].map(|name| Dataset { name: name.to_owned(), ..rows() }).into();
    export_lake(&mut client, lake, &datasets, &Options::default(), &mut |_| ()).await.unwrap();
    let before = files(&folder.path().join("a"));
    // As root, permissions stop nobody: a file in the folder's place does.
    std::fs::rename(folder.path().join("b/_delta_log"), folder.path().join("b/elsewhere")).unwrap();
    std::fs::write(folder.path().join("b/_delta_log"), "").unwrap();
    export_lake(&mut client, lake, &datasets, &Options::default(), &mut |_| ()).await.unwrap_err();
    assert_eq!(files(&folder.path().join("a")), before);
}

#[tokio::test]
async fn a_lake_takes_nothing_from_another_source() {
    let config = harness::empty_database().await;
    let mut client = config.connect().await.unwrap();
    days(&client).await;
    let folder = tempfile::tempdir().unwrap();
    let lake = folder.path().to_str().unwrap();
    let from = |source: &str| Options { source: Some(source.to_owned()), ..Options::default() };
    export_lake(&mut client, lake, &[rows()], &from("here"), &mut |_| ()).await.unwrap();
    let error = export_lake(&mut client, lake, &[rows()], &from("there"), &mut |_| ()).await.unwrap_err();
    assert_eq!(error.kind(), ExportErrorKind::Conflict);
    assert!(error.to_string().contains("was made from here, this is there"), "{error}");
    export_lake(&mut client, lake, &[rows()], &from("here"), &mut |_| ()).await.unwrap();
}

#[tokio::test]
async fn days_that_the_database_has_dropped_stay_in_the_lake() {
    let config = harness::empty_database().await;
    let mut client = config.connect().await.unwrap();
    days(&client).await;
    let folder = tempfile::tempdir().unwrap();
    let lake = folder.path().to_str().unwrap();
    let mut dataset = rows();
    dataset.dropped_before = Some("SELECT max(t) FROM horizon".to_owned());
    client.batch_execute("CREATE TABLE horizon (t timestamptz)").await.unwrap();
    export_lake(&mut client, lake, std::slice::from_ref(&dataset), &Options::default(), &mut |_| ()).await.unwrap();
    client
        .batch_execute(
            "DELETE FROM r WHERE at < '2026-03-03'; INSERT INTO horizon VALUES ('2026-03-03');
             -- Late rows: of a day that the lake has whole, of one that nobody had, and of one that is whole.
             INSERT INTO r VALUES ('2026-03-02 01:00+00', 200), ('2026-02-01 00:00+00', 201), ('2026-03-03 02:00+00', 202)",
        )
        .await
        .unwrap();
    let exported = export_lake(&mut client, lake, std::slice::from_ref(&dataset), &Options::default(), &mut |_| ()).await.unwrap();
    let table = folder.path().join("rows");
    let mut by_day = std::collections::BTreeMap::new();
    for file in live_files(&table) {
        *by_day.entry(file.split('/').next().unwrap().to_owned()).or_insert(0) += read(&table.join(&file)).num_rows();
    }
    let expected = [("day=2026-02-01", 1), ("day=2026-03-01", 2), ("day=2026-03-02", 4), ("day=2026-03-03", 5), ("day=2026-03-04", 2)];
    assert_eq!(by_day.into_iter().collect::<Vec<_>>(), expected.map(|(d, n)| (d.to_owned(), n)));
    assert_eq!((exported[0].days, exported[0].rows), (3, 8), "what was written now");
    // The day has come whole again, and more: then the database is right.
    client.batch_execute("INSERT INTO r SELECT '2026-03-02 03:00+00', n FROM generate_series(300, 305) AS n").await.unwrap();
    export_lake(&mut client, lake, std::slice::from_ref(&dataset), &Options::default(), &mut |_| ()).await.unwrap();
    let day = |f: &String| f.starts_with("day=2026-03-02");
    assert_eq!(live_files(&table).iter().filter(|f| day(f)).map(|f| read(&table.join(f)).num_rows()).sum::<usize>(), 7);
    let on_disk = files(&table).iter().filter(|f| f.contains("day=2026-03-02") && f.ends_with(".parquet")).count();
    assert_eq!(on_disk, 2, "the first and the last; the one that no commit showed is removed");
}

pub(crate) fn files(folder: &Path) -> Vec<String> {
    let mut all = Vec::new();
    let mut todo = vec![folder.to_owned()];
    while let Some(next) = todo.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { todo.push(path) } else { all.push(path.display().to_string()) }
        }
    }
    all.sort();
    all
}

//! An export shows one instant, over however many connections and whatever happens meanwhile.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant};

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{Int64Type, TimestampMicrosecondType};
use hitherto::Config;
use hitherto_export::{Connector, Dataset, Options, export_file, export_lake};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::reader::{FileReader, SerializedFileReader};

use crate::harness;

/// Rows of a batch, spread over these days from 2026-03-01 on.
const ROWS: i64 = 20;
const DAYS: i64 = 6;
const DAY: i64 = 86_400_000_000;
/// 2026-03-01, microseconds since 1970.
const START: i64 = 1_772_323_200_000_000;
const MIN_EXPORTS: usize = 4;
const TIME: Duration = Duration::from_secs(6);

/// Numbers that a seed decides.
struct Random(u64);

impl Random {
    fn new(seed: i64) -> Self {
        Self((seed as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15))
    }

    fn below(&mut self, limit: i64) -> i64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 1) as i64 % limit
    }
}

/// The times of a batch's rows: the same in either table, and whenever they are asked for.
fn times(batch: i64) -> Vec<i64> {
    let mut random = Random::new(batch);
    (0..ROWS).map(|_| START + random.below(DAYS * DAY)).collect()
}

fn options(config: &Config, connections: usize) -> Options {
    let config = config.clone();
    let connect = Connector::new(move || {
        let config = config.clone();
        async move { config.connect().await }
    });
    Options { connections: Some(connections), connect: Some(connect), ..Options::default() }
}

fn dataset(name: &str, time: bool) -> Dataset {
    Dataset {
        name: name.to_owned(),
        query: format!("SELECT * FROM {name}"),
        time_column: time.then(|| "at".to_owned()),
        sort: if time { vec!["batch".to_owned()] } else { Vec::new() },
        tables: vec![name.to_owned()],
        ..Dataset::default()
    }
}

/// Parquet files in a folder and in its days' folders.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for path in std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()) {
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|e| e == "parquet") {
            found.push(path);
        }
    }
    found
}

fn read(file: &Path) -> Vec<RecordBatch> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(std::fs::File::open(file).unwrap()).unwrap();
    builder.build().unwrap().map(Result::unwrap).collect()
}

/// A table's rows as batch and time.
fn rows(table: &Path) -> Vec<(i64, i64)> {
    let mut rows = Vec::new();
    for batch in files(table).iter().flat_map(|f| read(f)) {
        let at = batch.column_by_name("at").unwrap().as_primitive::<TimestampMicrosecondType>().clone();
        let number = batch.column_by_name("batch").unwrap().as_primitive::<Int64Type>();
        rows.extend(number.values().iter().copied().zip(at.values().iter().copied()));
    }
    rows
}

/// Writers, and on TimescaleDB chunks that are compressed, decompressed and dropped, while lakes are exported.
async fn one_instant(config: &Config, timescaledb: bool) {
    let client = config.connect().await.unwrap();
    client
        .batch_execute(
            "CREATE TABLE a (at timestamptz NOT NULL, batch bigint NOT NULL);
             CREATE TABLE b (at timestamptz NOT NULL, batch bigint NOT NULL);
             CREATE TABLE ledger (batch bigint NOT NULL, at timestamptz);
             CREATE TABLE horizon (batch bigint NOT NULL, at timestamptz NOT NULL);
             INSERT INTO horizon VALUES (0, '2026-03-01 00:00+00')",
        )
        .await
        .unwrap();
    if timescaledb {
        for table in ["a", "b"] {
            client
                .batch_execute(&format!(
                    "SELECT create_hypertable('{table}', by_range('at', INTERVAL '1 day'));
                     ALTER TABLE {table} SET (timescaledb.enable_columnstore, timescaledb.segmentby = 'batch', timescaledb.orderby = 'at')"
                ))
                .await
                .unwrap();
        }
    }
    let (next, over) = (AtomicI64::new(1), AtomicBool::new(false));
    let (next, over) = (&next, &over);
    let (changed, dropped) = (&[AtomicI64::new(0), AtomicI64::new(0)], &AtomicI64::new(0));
    let writer = || async move {
        let client = config.connect().await.unwrap();
        while !over.load(Ordering::Relaxed) {
            let batch = next.fetch_add(1, Ordering::Relaxed);
            let times: Vec<String> =
                times(batch).iter().map(|at| format!("(to_timestamp({at} / 1000000) + {at} % 1000000 * INTERVAL '1 us')")).collect();
            let times = times.join(", ");
            let written = client
                .batch_execute(&format!(
                    "BEGIN; INSERT INTO a SELECT unnest(ARRAY[{times}]), {batch}; INSERT INTO ledger VALUES ({batch});
                     INSERT INTO b SELECT unnest(ARRAY[{times}]), {batch}; COMMIT"
                ))
                .await;
            // Chunks that go may win; then there is no such batch.
            if written.is_err() {
                client.batch_execute("ROLLBACK").await.unwrap();
            }
        }
    };
    // Old days go, with a note of it in the same transaction.
    let retention = async {
        let client = config.connect().await.unwrap();
        for day in 1..DAYS - 1 {
            tokio::time::sleep(TIME / DAYS as u32).await;
            let horizon = format!("TIMESTAMPTZ '2026-03-01 00:00+00' + INTERVAL '{day} days'");
            let drop = |table: &str| match timescaledb {
                true => format!("SELECT drop_chunks('{table}', older_than => {horizon})"),
                false => format!("DELETE FROM {table} WHERE at < {horizon}"),
            };
            let sql = format!("BEGIN; {}; {}; UPDATE horizon SET at = {horizon}; COMMIT", drop("a"), drop("b"));
            // Whoever writes into a chunk that goes may win.
            if client.batch_execute(&sql).await.is_err() {
                client.batch_execute("ROLLBACK").await.unwrap();
                continue;
            }
            dropped.fetch_add(1, Ordering::Relaxed);
        }
    };
    let columnstore = async {
        if !timescaledb {
            return;
        }
        let client = config.connect().await.unwrap();
        client.batch_execute("SET lock_timeout = '300ms'").await.unwrap();
        let mut random = Random::new(7);
        while !over.load(Ordering::Relaxed) {
            let table = ["a", "b"][random.below(2) as usize];
            let which = random.below(2) as usize;
            let call = ["compress_chunk(c, true)", "decompress_chunk(c, true)"][which];
            let day = random.below(DAYS);
            let sql = format!(
                "SELECT {call} FROM show_chunks('{table}') c
                 OFFSET {day} LIMIT 1"
            );
            // Refused while an export or a writer has the chunk.
            if client.query(&sql, &[]).await.is_ok_and(|chunks| !chunks.is_empty()) {
                changed[which].fetch_add(1, Ordering::Relaxed);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let exports = async {
        let mut client = config.connect().await.unwrap();
        let datasets = [dataset("a", true), dataset("ledger", false), dataset("horizon", false), dataset("b", true)];
        while next.load(Ordering::Relaxed) < 4 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let (began, mut exports, mut checked) = (Instant::now(), 0, 0);
        while exports < MIN_EXPORTS || began.elapsed() < TIME {
            let folder = tempfile::tempdir().unwrap();
            let lake = folder.path().join("lake");
            let done = export_lake(&mut client, lake.to_str().unwrap(), &datasets, &options(config, 3), &mut |_| ()).await;
            done.unwrap();
            let horizon = rows(&lake.join("horizon"))[0].1;
            let ledger: Vec<i64> = read(&files(&lake.join("ledger"))[0])
                .iter()
                .flat_map(|b| b.column_by_name("batch").unwrap().as_primitive::<Int64Type>().values().to_vec())
                .collect();
            let expected: BTreeSet<(i64, i64)> =
                ledger.iter().flat_map(|n| times(*n).into_iter().map(move |at| (*n, at))).filter(|row| row.1 >= horizon).collect();
            for table in ["a", "b"] {
                let found = rows(&lake.join(table));
                let within: BTreeSet<(i64, i64)> = found.iter().copied().filter(|row| row.1 >= horizon).collect();
                assert_eq!(within.len(), found.iter().filter(|row| row.1 >= horizon).count(), "{table}: rows twice");
                let missing = expected.difference(&within).count();
                let early = within.difference(&expected).count();
                assert_eq!(
                    (missing, early),
                    (0, 0),
                    "{table}, export {exports}: rows that are missing, rows of batches that are not in the ledger"
                );
                checked += within.len();
            }
            exports += 1;
        }
        over.store(true, Ordering::Relaxed);
        assert!(checked > 0, "nobody wrote anything");
    };
    tokio::join!(writer(), writer(), retention, columnstore, exports);
    let [compressed, decompressed, dropped] = [&changed[0], &changed[1], dropped].map(|count| count.load(Ordering::Relaxed));
    assert!(
        dropped > 0 && (!timescaledb || compressed.min(decompressed) > 0),
        "{compressed} compressed, {decompressed} decompressed, {dropped} dropped"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn all_datasets_show_one_instant_on_postgresql() {
    one_instant(&harness::empty_database().await, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_datasets_show_one_instant_while_chunks_come_and_go() {
    for db in [harness::native_timescaledb().await, harness::named().await].into_iter().flatten() {
        if db.store.capabilities().engine == hitherto::Engine::Timescaledb {
            one_instant(&db.config, true).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_read_over_several_connections_holds_every_row_once_and_in_order() {
    let config = harness::empty_database().await;
    let mut client = config.connect().await.unwrap();
    client
        .batch_execute(
            "CREATE TABLE r (at timestamptz NOT NULL, batch bigint NOT NULL, word text);
             INSERT INTO r SELECT '2026-03-01 00:00+00'::timestamptz + n % 1000 * INTERVAL '10 minutes', n, repeat('x', 200) || n FROM generate_series(1, 150000) n;
             CREATE INDEX ON r (at); ANALYZE r",
        )
        .await
        .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("r.parquet");
    let table = Dataset { sort: vec!["word".to_owned()], ..dataset("r", true) };
    let exported = export_file(&mut client, &table, &file, &options(&config, 3), &mut |_| ()).await.unwrap();
    assert_eq!(exported.rows, 150_000);

    let found = rows(folder.path());
    assert_eq!(found.iter().map(|row| row.0).collect::<BTreeSet<_>>().len(), 150_000, "every row, and none twice");
    let footer = SerializedFileReader::new(std::fs::File::open(&file).unwrap()).unwrap().metadata().clone();
    assert!(footer.num_row_groups() > 1, "the rows fit one row group, so that nothing was read in parallel");
    let (mut start, mut last) = (0, i64::MIN);
    let words: Vec<String> = read(&file)
        .iter()
        .flat_map(|b| b.column_by_name("word").unwrap().as_string::<i32>().iter().map(|w| w.unwrap().to_owned()).collect::<Vec<_>>())
        .collect();
    for group in footer.row_groups() {
        let end = start + group.num_rows() as usize;
        assert!(words[start..end].is_sorted(), "a row group is sorted");
        assert_eq!(group.sorting_columns().map(|s| s.len()), Some(2));
        let earliest = found[start..end].iter().map(|row| row.1).min().unwrap();
        assert!(earliest > last, "row groups follow one another in time");
        last = found[start..end].iter().map(|row| row.1).max().unwrap();
        start = end;
    }
}

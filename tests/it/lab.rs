//! A table with a ledger of its own, and the lake of it.

use std::collections::BTreeMap;
use std::path::Path;

use arrow::array::AsArray;
use arrow::datatypes::Int32Type;
use chrono::{DateTime, Days, NaiveDate, Utc};
use hitherto_export::{Dataset, Exported, Options, export_lake};
use tokio_postgres::Client;

use crate::export::{live_files, read};
use crate::harness::{self, Db};

/// A table with a ledger, and the lake of it.
pub(crate) struct Lab {
    pub(crate) config: hitherto::Config,
    pub(crate) client: Client,
    pub(crate) folder: tempfile::TempDir,
    pub(crate) options: Options,
    /// Doesn't wait for other tests' transactions, which hold the watermark back.
    pub(crate) at_once: bool,
    next: i32,
}

pub(crate) fn dataset() -> Dataset {
    Dataset {
        name: "rows".to_owned(),
        query: "SELECT at, n, batch FROM r".to_owned(),
        time_column: Some("at".to_owned()),
        sort: vec!["n".to_owned()],
        tables: vec!["r".to_owned()],
        dropped_before: Some("SELECT max(t) FROM horizon".to_owned()),
        ledger: Some(
            "SELECT first, last, rows, batch FROM ledger
             WHERE xid >= $1::text::xid8 AND ($2::timestamptz IS NULL OR last >= $2) AND ($3::timestamptz IS NULL OR first < $3)"
                .to_owned(),
        ),
        anchor: Some(
            "SELECT coalesce((SELECT uuid_hash_extended(batch, 0) FROM ledger WHERE xid < $1::text::xid8 ORDER BY xid DESC, batch DESC LIMIT 1), 0)"
                .to_owned(),
        ),
        batch_column: Some("batch".to_owned()),
        ..Dataset::default()
    }
}

pub(crate) fn day(n: u64) -> NaiveDate {
    NaiveDate::from_ymd_opt(2026, 3, 1).unwrap() + Days::new(n)
}

pub(crate) fn noon(n: u64) -> DateTime<Utc> {
    day(n).and_hms_opt(12, 0, 0).unwrap().and_utc()
}

impl Lab {
    pub(crate) async fn new() -> Self {
        let config = harness::empty_database().await;
        let client = config.connect().await.unwrap();
        client
            .batch_execute(
                "CREATE TABLE r (at timestamptz NOT NULL, n int NOT NULL, batch uuid NOT NULL);
                 CREATE TABLE ledger (batch uuid, rows bigint, first timestamptz, last timestamptz, xid xid8 DEFAULT pg_current_xact_id());
                 CREATE TABLE horizon (t timestamptz)",
            )
            .await
            .unwrap();
        let options = Options { identity: Some("SELECT 'here'".to_owned()), ..Options::default() };
        Self { config, client, folder: tempfile::tempdir().unwrap(), options, at_once: false, next: 0 }
    }

    /// A batch with a row at each of these times; gives their numbers.
    pub(crate) async fn store(&mut self, times: &[DateTime<Utc>]) -> Vec<i32> {
        let numbers = self.numbers(times.len());
        insert(&self.client, times, &numbers).await;
        numbers
    }

    pub(crate) fn numbers(&mut self, count: usize) -> Vec<i32> {
        let numbers: Vec<i32> = (self.next..).take(count).collect();
        self.next += count as i32;
        numbers
    }

    pub(crate) fn lake(&self) -> String {
        self.folder.path().to_str().unwrap().to_owned()
    }

    pub(crate) async fn export(&mut self) -> Result<Exported, hitherto_export::ExportError> {
        self.export_as(&dataset()).await
    }

    pub(crate) async fn export_as(&mut self, dataset: &Dataset) -> Result<Exported, hitherto_export::ExportError> {
        if !self.at_once {
            settle(&self.client, "SELECT max(xid) FROM ledger").await;
        }
        let (lake, options) = (self.lake(), self.options.clone());
        let mut exported = export_lake(&mut self.client, &lake, std::slice::from_ref(dataset), &options, &mut |_| ()).await?;
        Ok(exported.remove(0))
    }

    pub(crate) async fn full(&mut self) -> Result<Exported, hitherto_export::ExportError> {
        self.options.full = true;
        let exported = self.export().await;
        self.options.full = false;
        exported
    }

    /// What the database drops, as retention does: it says so first.
    pub(crate) async fn drop_before(&self, day: NaiveDate) {
        self.client.execute("INSERT INTO horizon VALUES ($1::date)", &[&day]).await.unwrap();
        self.client.execute("DELETE FROM r WHERE at < $1::date::timestamptz", &[&day]).await.unwrap();
    }

    pub(crate) fn table(&self) -> std::path::PathBuf {
        self.folder.path().join("rows")
    }
}

/// Waits until no transaction is open that is older than the newest line: other tests share the server.
pub(crate) async fn settle(client: &Client, newest: &str) {
    let query = format!("SELECT coalesce(pg_snapshot_xmin(pg_current_snapshot()) > ({newest}), true)");
    for _ in 0..3_000 {
        if client.query_one(&query, &[]).await.unwrap().get(0) {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("some transaction stays open");
}

/// The same for a store's own ledger: what is exported next is all below the watermark.
pub(crate) async fn settled(db: &Db) {
    settle(&db.store.client().await.unwrap(), "SELECT max(xid) FROM hitherto.ingest_batch").await;
}

/// In one transaction: the rows, and their line.
pub(crate) async fn insert(client: &Client, times: &[DateTime<Utc>], numbers: &[i32]) {
    let query = "WITH b AS (SELECT gen_random_uuid() AS batch), rows AS (
                     INSERT INTO r SELECT t, n, batch FROM b, unnest($1::timestamptz[], $2::int[]) AS u (t, n) RETURNING at)
                 INSERT INTO ledger (batch, rows, first, last) SELECT batch, (SELECT count(*) FROM rows), (SELECT min(at) FROM rows), (SELECT max(at) FROM rows) FROM b";
    client.execute(query, &[&times, &numbers]).await.unwrap();
}

/// The numbers that a table's newest version shows, by day.
pub(crate) fn shown(table: &Path) -> BTreeMap<NaiveDate, Vec<i32>> {
    let mut days = BTreeMap::<NaiveDate, Vec<i32>>::new();
    for file in live_files(table) {
        let day = file.split('/').next().unwrap().trim_start_matches("day=").parse().unwrap();
        let batch = read(&table.join(&file));
        days.entry(day).or_default().extend(batch.column_by_name("n").unwrap().as_primitive::<Int32Type>().values());
    }
    days.values_mut().for_each(|numbers| numbers.sort_unstable());
    days
}

pub(crate) async fn stored(client: &Client) -> BTreeMap<NaiveDate, Vec<i32>> {
    let mut days = BTreeMap::<NaiveDate, Vec<i32>>::new();
    for row in client.query("SELECT (at AT TIME ZONE 'UTC')::date, n FROM r ORDER BY n", &[]).await.unwrap() {
        days.entry(row.get(0)).or_default().push(row.get(1));
    }
    days
}

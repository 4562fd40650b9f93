//! Against psql sending a ready-made binary COPY file of the same rows into the same table, its indexes
//! and constraints as they are.

use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use hitherto::records::{HealthCheck, ModuleExecution, OrderEvent, Record};
use hitherto::{Store, WriterConfig};

use crate::harness::Db;
use crate::rows::{checks, events, executions, truncate, write};
use crate::{ROUNDS, ROWS, line, median};

/// Order events for psql with the triggers, which take long.
const TRIGGERED: usize = 10_000;

pub(crate) async fn run(db: &Db, asked: &dyn Fn(&str) -> bool) {
    if asked(HealthCheck::TABLE) {
        compare(db, checks(ROWS), "", "aim 0.95").await;
    }
    if asked(ModuleExecution::TABLE) {
        compare(db, executions(ROWS), "", "aim 0.95").await;
    }
    if !asked(OrderEvent::TABLE) {
        return;
    }
    // psql's COPY fires the table's triggers for every row: the id is claimed, the order folded. The
    // writer does the same for the batch as a whole: the tables hold the same afterwards.
    compare(db, events(TRIGGERED), "", "aim 0.95; psql's COPY fires two triggers a row, with the same outcome").await;
    // Without them psql stores bare rows; the writer claims ids and folds orders all the same.
    compare(db, events(ROWS), "SET hitherto.set_based = 'on';", "psql claims no ids and folds no orders").await;
}

async fn compare<R: Record>(db: &Db, records: Vec<R>, before: &str, words: &str) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rows");
    let psql = Psql::new(db);
    let columns: Vec<&str> = R::COLUMNS.iter().map(|c| c.name).chain(["batch_id"]).collect();
    let columns = columns.join(", ");
    let (count, one) = (records.len(), WriterConfig::new("bench"));
    let two = WriterConfig { connections: 2, ..one.clone() };
    truncate(&db.store, R::TABLE).await;
    write(&db.store, one.clone(), records.clone()).await;
    let rows = format!("COPY (SELECT {columns} FROM hitherto.{}) TO STDOUT (FORMAT binary)", R::TABLE);
    psql.run(&rows, Stdio::null(), File::create(&file).unwrap());
    let copy = format!("{before} COPY hitherto.{} ({columns}) FROM STDIN (FORMAT binary)", R::TABLE);
    let (mut theirs, mut ours, mut both) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        truncate(&db.store, R::TABLE).await;
        theirs.push(psql.timed(&copy, &file));
        check_count::<R>(&db.store, count).await;
        for (config, times) in [(&one, &mut ours), (&two, &mut both)] {
            truncate(&db.store, R::TABLE).await;
            times.push(write(&db.store, config.clone(), records.clone()).await);
            check_count::<R>(&db.store, count).await;
        }
    }
    truncate(&db.store, R::TABLE).await;
    let (theirs, ours, both) = (median(theirs), median(ours), median(both));
    line(&format!("{}: psql, ready-made binary COPY file", R::TABLE), theirs, count);
    line(&format!("{}: writer", R::TABLE), ours, count);
    println!("  {}: writer / psql {:.2} ({words}); with two connections {:.2}", R::TABLE, theirs / ours, theirs / both);
}

async fn check_count<R: Record>(store: &Store, count: usize) {
    let query = format!("SELECT count(*) FROM hitherto.{}", R::TABLE);
    let stored: i64 = store.client().await.unwrap().query_one(&query, &[]).await.unwrap().get(0);
    assert_eq!(stored, count as i64);
}

/// Runs psql and other programs of libpq's on a database.
pub(crate) struct Psql {
    environment: Vec<(&'static str, String)>,
    /// Seconds that psql takes to do nothing.
    nothing: f64,
}

impl Psql {
    pub(crate) fn new(db: &Db) -> Self {
        let mut psql = Self { environment: environment(db), nothing: 0.0 };
        psql.nothing = median((0..5).map(|_| psql.run("SELECT 1", Stdio::null(), Stdio::null())).collect());
        psql
    }

    pub(crate) fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    fn get(&self, name: &str) -> &str {
        self.environment.iter().find(|(n, _)| *n == name).map_or("", |(_, value)| value)
    }

    /// Where the server listens.
    pub(crate) fn address(&self) -> String {
        format!("{}:{}", self.get("PGHOST"), self.get("PGPORT"))
    }

    /// The same database behind another port of this machine.
    pub(crate) fn url_at(&self, port: u16) -> String {
        format!("postgresql://{}@127.0.0.1:{port}/{}", self.get("PGUSER"), self.get("PGDATABASE"))
    }

    fn run(&self, statement: &str, input: impl Into<Stdio>, output: impl Into<Stdio>) -> f64 {
        let mut command = self.command("psql");
        command.args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-c", statement]).stdin(input).stdout(output);
        let began = Instant::now();
        assert!(command.status().expect("psql is installed").success(), "{statement}");
        began.elapsed().as_secs_f64()
    }

    /// Seconds for a COPY from a file, without those that psql takes to start.
    fn timed(&self, statement: &str, file: &Path) -> f64 {
        self.run(statement, File::open(file).unwrap(), Stdio::null()) - self.nothing
    }
}

fn environment(db: &Db) -> Vec<(&'static str, String)> {
    let url = db.url().or_else(|| std::env::var("HITHERTO_TEST_DATABASE_URL").ok()).expect("the server has a URL");
    let server: tokio_postgres::Config = url.parse().unwrap();
    let host = match &server.get_hosts()[0] {
        tokio_postgres::config::Host::Tcp(host) => host.clone(),
        tokio_postgres::config::Host::Unix(folder) => folder.display().to_string(),
    };
    let mut all = vec![
        ("PGHOST", host),
        ("PGPORT", server.get_ports().first().unwrap_or(&5432).to_string()),
        ("PGUSER", server.get_user().unwrap_or("postgres").to_owned()),
        ("PGDATABASE", db.config.database().unwrap().to_owned()),
    ];
    all.extend(server.get_password().map(|word| ("PGPASSWORD", String::from_utf8_lossy(word).into_owned())));
    all
}

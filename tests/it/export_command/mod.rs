//! `hitherto export` as a user types it: queries, bad input, progress and summaries.

mod interrupted;
mod summary;

use std::path::Path;
use std::process::Stdio;

use arrow::array::AsArray;
use arrow::datatypes::{Decimal128Type, Int32Type};
use hitherto::cli::embedded::Embedded;
use serde_json::{Value, json};
use tokio::process::Command;

use self::interrupted::{end, send, start, working};
use crate::export::read;
use crate::harness::{self, Db};
use crate::shell::{self, Shell, code, document, words};

async fn sql(db: &Db, text: &str) {
    db.store.client().await.unwrap().batch_execute(text).await.unwrap();
}

/// Everything in a folder, by its path within it.
fn tree(folder: &Path) -> Vec<String> {
    let mut all = Vec::new();
    let mut todo = vec![folder.to_owned()];
    while let Some(next) = todo.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            all.push(path.strip_prefix(folder).unwrap().display().to_string());
            if path.is_dir() {
                todo.push(path);
            }
        }
    }
    all.sort();
    all
}

#[tokio::test]
async fn a_query_is_exported_as_it_was_typed() {
    let db = harness::native().await;
    let shell = Shell::new(&db);
    sql(&db, "CREATE TABLE t (a int, b text); INSERT INTO t VALUES (1, 'x;'), (3, 'y'), (2, NULL)").await;
    for (query, rows) in [
        ("SELECT a, b FROM t ORDER BY a DESC", vec![3, 2, 1]),
        ("SELECT a FROM t WHERE b = 'x;';", vec![1]),
        (" -- why\n/* all (of) it; */ SELECT a FROM t ORDER BY a ; -- the end (", vec![1, 2, 3]),
        ("SELECT a FROM t ORDER BY a -- the end (", vec![1, 2, 3]),
        ("WITH w AS (SELECT a FROM t) SELECT a FROM w ORDER BY a LIMIT 2", vec![1, 2]),
        ("(SELECT 7 AS a) UNION ALL (SELECT 7) ORDER BY 1", vec![7, 7]),
        ("TABLE t", vec![1, 3, 2]),
        ("VALUES (4, 'v'), (5, NULL)", vec![4, 5]),
        ("SELECT a, $$ $1; $$ AS text FROM t WHERE a < 0", vec![]),
        ("SELECT 8", vec![8]),
    ] {
        let output = shell.run(&["export", "--select", query, "--file", "f", "--json"]).await;
        assert_eq!(code(&output), 0, "{query}: {}", words(&output));
        let batch = read(&shell.path("f"));
        assert_eq!(batch.column(0).as_primitive::<Int32Type>().values(), &rows[..], "{query}");
        assert_eq!(document(&output)[0]["rows"], rows.len(), "{query}");
        assert_eq!(tree(shell.folder.path()), ["f"], "{query}");
    }
    assert_eq!(read(&shell.path("f")).schema().field(0).name(), "?column?");
    // The embedded engine has one connection.
    let engine = Embedded::start(None).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    for args in [vec!["migrate"], vec!["export", "--select", "SELECT n FROM generate_series(1, 9) n ORDER BY 1 DESC", "--file", "f"]] {
        let output = shell::run(&engine.url(), folder.path(), &args, None).await;
        assert_eq!(code(&output), 0, "{args:?}: {}", words(&output));
    }
    assert_eq!(read(&folder.path().join("f")).column(0).as_primitive::<Int32Type>().value(0), 9);
    engine.stop().await.unwrap();
}

#[tokio::test]
async fn a_query_reads_what_its_login_may_read_and_holds_its_tables() {
    let db = harness::native().await;
    let shell = Shell::new(&db);
    let role = format!("reader_{}", std::process::id());
    sql(
        &db,
        &format!(
            "CREATE TABLE secret (a int, b int); CREATE VIEW shown AS SELECT a FROM secret; INSERT INTO secret VALUES (1, 2);
        CREATE ROLE {role} LOGIN; GRANT hitherto_analyst TO {role}; GRANT SELECT ON shown TO {role}; GRANT SELECT (b) ON secret TO {role}"
        ),
    )
    .await;
    let poor = shell.url.replace("postgres:canary-7f3", &role);
    let export = async |query: &str| shell::run(&poor, shell.folder.path(), &["export", "--select", query, "--file", "f"], None).await;
    for query in ["SELECT a FROM shown", "SELECT b AS a FROM secret"] {
        let output = export(query).await;
        assert_eq!(code(&output), 0, "{query}: {}", words(&output));
    }
    let output = export("SELECT a FROM secret").await;
    assert!(code(&output) == 4 && words(&output).contains("permission denied"), "{}", words(&output));
    // What the view shows is locked by all of the export's sessions, those included that have nothing to read.
    let args = ["export", "--select", "SELECT a, pg_sleep(600)::text AS s FROM shown", "--file", "f", "--connections", "2"];
    let child = start(&shell.url, shell.folder.path(), &args);
    working(&db, "COPY (SELECT a, pg_sleep%").await;
    let locks = "SELECT count(DISTINCT pid) FROM pg_locks WHERE relation = 'secret'::regclass AND mode = 'AccessShareLock' AND granted";
    assert_eq!(shell::count(&db, locks).await, 2);
    send(&child, "-INT").await;
    assert_eq!(code(&end(child).await), 130);
    sql(&db, &format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
}

#[tokio::test]
async fn what_is_no_query_to_be_exported_is_refused_in_words() {
    let db = harness::native().await;
    let shell = Shell::new(&db);
    sql(
        &db,
        "CREATE TABLE t (a int, b text); INSERT INTO t VALUES (1, 'x'); CREATE TABLE n (d numeric); INSERT INTO n VALUES (1.5);
         CREATE SEQUENCE s; CREATE FUNCTION writes() RETURNS int LANGUAGE sql AS 'INSERT INTO t VALUES (9) RETURNING a';
         DO $$ BEGIN
             EXECUTE (SELECT 'CREATE TABLE wide1 (' || string_agg('a' || i || ' int', ', ') || ')' FROM generate_series(1, 900) i);
             EXECUTE (SELECT 'CREATE TABLE wide2 (' || string_agg('b' || i || ' int', ', ') || ')' FROM generate_series(1, 900) i);
             EXECUTE (SELECT 'CREATE TABLE full1600 (' || string_agg('c' || i || ' int', ', ') || ')' FROM generate_series(1, 1600) i);
         END $$",
    )
    .await;
    let lots = format!("SELECT {}", (1..=1665).map(|n| format!("1 AS c{n}")).collect::<Vec<_>>().join(", "));
    let reads = "an export reads and never writes";
    for (query, expected, told) in [
        ("", 2, "the query is empty"),
        (" ; -- nothing\n", 2, "the query is empty"),
        ("SELECT 1; SELECT 2", 2, "several statements"),
        ("SELECT 1; DROP TABLE t", 2, "several statements"),
        ("INSERT INTO t VALUES (2)", 4, "INSERT writes, and an export only reads"),
        ("update t SET a = 2 RETURNING a", 4, "UPDATE writes"),
        ("DELETE FROM t RETURNING a", 4, "DELETE writes"),
        ("WITH gone AS (DELETE FROM t RETURNING a) SELECT a FROM gone", 4, reads),
        ("SELECT writes() AS w", 4, reads),
        ("SELECT nextval('s') AS n", 4, reads),
        ("SELECT a FROM t FOR UPDATE", 4, reads),
        ("SELECT set_config('transaction_read_only', 'off', false) AS s, writes() AS w", 2, "transaction read-write mode"),
        ("SELECT a INTO u FROM t", 2, "SELECT INTO, which writes a table"),
        ("EXPLAIN SELECT 1", 2, "EXPLAIN is no query"),
        ("DROP TABLE t", 2, "DROP is no query"),
        ("COMMIT", 2, "COMMIT is no query"),
        ("SELECT a FROM t WHERE a = $1", 2, "the query has parameters ($1)"),
        ("SELECT $1 + 1 AS n", 2, "write the value itself"),
        ("SELECT a, a FROM t", 2, "two columns named a"),
        ("SELECT 1, 2", 2, "2 columns have no name"),
        ("SELECT FROM t", 2, "the query has no columns"),
        ("SELECT * FROM wide1, wide2", 2, "nor can a table have more than 1600"),
        (&lots, 2, "nor can a table have more than 1600"),
        ("SELECT a\nFORM t", 2, "line 2, column 6:\n  FORM t\n       ^"),
        ("SELECT 'ü', ü FROM t", 2, "line 1, column 13:\n  SELECT 'ü', ü FROM t\n              ^"),
        ("SELECT 'open", 2, "unterminated quoted string"),
        ("SELECT a FROM t)", 2, "syntax error at or near \")\""),
        ("SELECT a FROM nowhere", 2, "relation \"nowhere\" does not exist (42P01); line 1, column 15:"),
        ("SELECT 1 / (a - 1) AS n FROM t", 2, "division by zero (22012)"),
        ("SELECT d FROM n", 4, "query.d: numeric without precision"),
        ("SELECT 1 AS a, pg_cancel_backend(pg_backend_pid())::text AS c", 3, "somebody cancelled it"),
    ] {
        let output = shell.run(&["export", "--select", query, "--file", "f.parquet"]).await;
        assert_eq!(code(&output), expected, "{query}: {}", words(&output));
        assert!(words(&output).contains(told), "{query}: {}", words(&output));
        assert!(tree(shell.folder.path()).is_empty(), "{query} left {:?}", tree(shell.folder.path()));
    }
    assert_eq!(shell::count(&db, "SELECT count(*) FROM t WHERE a = 1").await, 1);
    assert_eq!(shell::count(&db, "SELECT count(*) FROM t").await, 1);
    let slow = format!("{}?options=-c%20statement_timeout%3D300", shell.url);
    let output =
        shell::run(&slow, shell.folder.path(), &["export", "--select", "SELECT pg_sleep(60)::text AS s", "--file", "f"], None).await;
    assert!(code(&output) == 3 && words(&output).contains("statement_timeout"), "{}", words(&output));
    assert!(tree(shell.folder.path()).is_empty());
    let output = shell.run(&["export", "--select", "TABLE full1600", "--file", "f"]).await;
    assert_eq!(code(&output), 0, "{}", words(&output));
    assert_eq!(read(&shell.path("f")).num_columns(), 1600);
}

#[tokio::test]
async fn numerics_become_what_is_asked_for() {
    let db = harness::native().await;
    let shell = Shell::new(&db);
    let query = ["export", "--file", "f", "--select", "SELECT 1.50::numeric AS a, 'NaN'::numeric AS b, 2 AS n"];
    let export = async |numeric: &[&str]| {
        let flags: Vec<&str> = numeric.iter().flat_map(|n| ["--numeric", n]).collect();
        shell.run(&[&query[..], &flags].concat()).await
    };
    for (numeric, expected, told) in [
        (&["b=text"][..], 4, "--numeric a=38,18"),
        (&["a=38,18", "b=38,18"], 4, "NaN has no place among decimals"),
        (&["a=3,0", "b=text"], 4, "1.50 does not fit decimal(3,0)"),
        (&["a=2", "b=text"], 2, "38,18"),
        (&["a=2,3", "b=text"], 2, "a decimal has 1 to 38 digits"),
        (&["a"], 2, "write COLUMN=38,18"),
        (&["a=text", "a=2,1"], 2, "--numeric says twice"),
        (&["a=text", "b=text", "c=text"], 2, "has no column c"),
        (&["a=text", "b=text", "n=text"], 2, "and no numeric"),
    ] {
        let output = export(numeric).await;
        assert_eq!(code(&output), expected, "{numeric:?}: {}", words(&output));
        assert!(words(&output).contains(told) && tree(shell.folder.path()).is_empty(), "{numeric:?}: {}", words(&output));
    }
    let output = shell.run(&["export", "--lake", "l", "--numeric", "a=text"]).await;
    assert!(code(&output) == 2 && words(&output).contains("of one dataset, or of a query"), "{}", words(&output));
    let output = export(&["a=38,18", "b=text"]).await;
    assert_eq!(code(&output), 0, "{}", words(&output));
    let batch = read(&shell.path("f"));
    assert_eq!(batch.column(0).as_primitive::<Decimal128Type>().value(0), 1_500_000_000_000_000_000);
    assert_eq!(batch.column(1).as_string::<i32>().value(0), "NaN");
}

#[tokio::test]
async fn wrong_flags_and_times_are_told_and_nothing_is_written() {
    let db = harness::native().await;
    let shell = Shell::new(&db);
    let query = ["export", "--select", "SELECT 1 AS a"];
    let file = ["export", "--file", "f", "--dataset"];
    let lake = ["export", "--lake", "l"];
    let file_of = |path: &'static str| [&["export", "--select", "SELECT 1 AS a", "--file"][..], &[path]].concat();
    let with = |first: &[&'static str], rest: &[&'static str]| [first, rest].concat();
    for (args, told) in [
        (query.to_vec(), "--file"),
        (with(&query, &["--lake", "l"]), "cannot be used with"),
        (with(&query, &["--file", "f", "--dataset", "signal"]), "cannot be used with"),
        (with(&query, &["--file", "f", "--from", "2026-01-01"]), "put the time into the query's WHERE"),
        (with(&query, &["--file", "f", "--to", "2026-01-01"]), "put the time into the query's WHERE"),
        (with(&query, &["--file", "f", "--full"]), "cannot be used with"),
        (with(&query, &["--file", "f", "--dry-run"]), "--lake"),
        (with(&query, &["--file", "f", "--connections", "0"]), "1..="),
        (vec!["export", "--file", "f"], "--dataset"),
        (with(&file, &["signal", "--dataset", "module"]), "--file takes one dataset"),
        (with(&file, &["signals"]), "there is no dataset 'signals'; did you mean signal? There are module, module_execution,"),
        (with(&file, &["orders"]), "did you mean order_event? There are"),
        (with(&file, &["health-chek"]), "did you mean health_check?"),
        (with(&file, &["weather"]), "there is no dataset 'weather'. There are module, module_execution,"),
        (with(&lake, &["--from", "2026-01-02", "--to", "2026-01-01"]), "must lie before"),
        (with(&lake, &["--from", "2026-01-02", "--to", "2026-01-02"]), "must lie before"),
        (with(&lake, &["--from", "2026-01-02T00:00:00+01:00", "--to", "2026-01-01T23:00:00Z"]), "must lie before"),
        (with(&lake, &["--from", "2026-02-30"]), "there is no such day"),
        (with(&lake, &["--to", "2026-02-03T24:30:00Z"]), "there is no such time of day"),
        (file_of("nowhere/f"), "the folder nowhere is not there; make it first"),
        (file_of("."), "is a folder; name a file"),
        (file_of("/dev/full"), "/dev/full is no ordinary file"),
        (file_of("/proc/f"), "/proc/f"),
    ] {
        let output = shell.run(&args).await;
        assert_eq!(code(&output), 2, "{args:?}: {}", words(&output));
        assert!(words(&output).contains(told), "{args:?}: {}", words(&output));
        assert!(tree(shell.folder.path()).is_empty(), "{args:?} left {:?}", tree(shell.folder.path()));
    }
    let output = shell.run(&with(&lake, &["--from", "2026-01-02T10:30", "--dataset", "signal", "--dataset", "signal"])).await;
    assert!(
        code(&output) == 0 && words(&output).contains("--from 2026-01-02T10:30:00Z: no time zone was given, UTC is meant"),
        "{}",
        words(&output)
    );
    let output = shell.run(&with(&lake, &["--to", "2026-01-02T10:30:00+01:00"])).await;
    assert!(code(&output) == 0 && !words(&output).contains("UTC"), "{}", words(&output));
}

#[tokio::test]
async fn a_link_stays_and_what_it_leads_to_is_replaced() {
    let db = harness::native().await;
    let shell = Shell::new(&db);
    std::fs::create_dir(shell.path("there")).unwrap();
    shell.write("there/f", "before");
    std::os::unix::fs::symlink("there/f", shell.path("link")).unwrap();
    let output = shell.run(&["export", "--select", "SELECT 1 AS a", "--file", "link"]).await;
    assert_eq!(code(&output), 0, "{}", words(&output));
    assert!(shell.path("link").is_symlink());
    assert_eq!(read(&shell.path("there/f")).num_rows(), 1);
    assert_eq!(tree(shell.folder.path()), ["link", "there", "there/f"]);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_full_disk_is_told_and_what_was_there_stays() {
    let db = harness::native().await;
    let shell = Shell::new(&db);
    // A small file system that goes with the process which sees it; for root, or for a user whom the kernel lets have one.
    let script = format!(
        "mkdir small && mount -t tmpfs -o size=64k tmpfs small && echo before > small/f || exit 77
         {} export --select \"SELECT n, md5(n::text) AS m FROM generate_series(1, 20000) n\" --file small/f; code=$?
         ls -A small; cat small/f; exit $code",
        env!("CARGO_BIN_EXE_hitherto")
    );
    let user: &[&str] = if harness::is_root() { &["--mount"] } else { &["--mount", "--user", "--map-root-user"] };
    let unshare = async |script: &str| {
        let mut command = Command::new("unshare");
        command.args(user).args(["sh", "-c", script]).env("DATABASE_URL", &shell.url).current_dir(shell.folder.path());
        let output = command.output().await.unwrap();
        assert_ne!(code(&output), 77, "no file system could be mounted: {}", words(&output));
        assert!(words(&output).contains("No space left on device") && words(&output).contains("make room there"), "{}", words(&output));
        (code(&output), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    assert_eq!(unshare(&script).await, (2, "f\nbefore\n".to_owned()));

    // A lake of which the first version fits and the second doesn't; once there is room, it does.
    health_checks(&shell, 2, 10).await;
    health_checks(&shell, 1, 10).await;
    let hitherto = env!("CARGO_BIN_EXE_hitherto");
    let script = format!(
        "mount -t tmpfs -o size=300k tmpfs small || exit 77
         export DATABASE_URL='{}'
         {hitherto} export --lake small/lake --dataset health_check >&2 || exit 78
         find small | sort > before
         dd if=/dev/zero of=small/ballast bs=1k count=1000 2>&1 | tail -1 >&2
         {hitherto} export --lake small/lake --dataset health_check --full; code=$?
         rm small/ballast; find small | sort | diff before - && {hitherto} lake verify small/lake --deep >&2 && echo as it was
         {hitherto} export --lake small/lake --dataset health_check --full >&2 && {hitherto} lake verify small/lake --deep >&2 && echo and goes on
         exit $code",
        shell.url
    );
    assert_eq!(unshare(&script).await, (2, "as it was\nand goes on\n".to_owned()));
}

/// The health checks of a day, this many days ago.
async fn health_checks(shell: &Shell, days_ago: i64, rows: i64) {
    let day = (chrono::Utc::now() - chrono::TimeDelta::days(days_ago)).date_naive().and_time(chrono::NaiveTime::MIN).and_utc();
    let line = |n| {
        let at = (day + chrono::TimeDelta::seconds(rows + n)).to_rfc3339();
        json!({"module": "m", "checked_at": at, "status": "healthy", "error_count": n}).to_string()
    };
    let path = shell.write("c.ndjson", (0..rows).map(line).collect::<Vec<_>>().join("\n"));
    let output = shell.run(&["ingest", "health-check", path.to_str().unwrap()]).await;
    assert_eq!(code(&output), 0, "{}", words(&output));
    std::fs::remove_file(path).unwrap();
}

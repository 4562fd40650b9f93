//! `hitherto export --lake` day after day, on every engine.

use std::collections::BTreeMap;
use std::path::Path;

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use hitherto::cli::embedded::Embedded;
use serde_json::{Value, json};

use crate::export::{live_files, read};
use crate::harness::{self, Db, Server, free_port};
use crate::lab::{settle, settled};
use crate::shell::{Shell, code, document, run, words};

/// A database that is asked through the command alone: the embedded engine has one connection.
struct Site {
    url: String,
    folder: tempfile::TempDir,
}

impl Site {
    fn new(url: String) -> Self {
        Self { url, folder: tempfile::tempdir().unwrap() }
    }

    async fn run(&self, args: &[&str], expected: i32) -> Value {
        let output = run(&self.url, self.folder.path(), args, None).await;
        assert_eq!(code(&output), expected, "{args:?}: {}", words(&output));
        if args.contains(&"--json") { document(&output) } else { Value::Null }
    }

    async fn ingest(&self, record: &str, rows: &[Value]) {
        let text: Vec<String> = rows.iter().map(Value::to_string).collect();
        let output = run(&self.url, self.folder.path(), &["ingest", record], Some(text.join("\n").as_bytes())).await;
        assert_eq!(code(&output), 0, "{}", words(&output));
    }

    /// What was written of each dataset: how, and how many rows.
    async fn export(&self, more: &[&str]) -> BTreeMap<String, (String, u64)> {
        let document = self.run(&[&["export", "--lake", "lake", "--json"], more].concat(), 0).await;
        let of =
            |e: &Value| (e["dataset"].as_str().unwrap().to_owned(), (e["mode"].as_str().unwrap().to_owned(), e["rows"].as_u64().unwrap()));
        document.as_array().unwrap().iter().map(of).collect()
    }

    /// Exports until nothing is left: other tests' transactions on the same server hold the watermark back.
    async fn export_until_nothing_changes(&self) {
        for _ in 0..100 {
            let exported = self.export(&[]).await;
            if exported.values().all(|(mode, _)| mode == "unchanged") {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        }
        panic!("it is never up to date");
    }

    fn days(&self, dataset: &str) -> BTreeMap<NaiveDate, usize> {
        let table = self.folder.path().join("lake").join(dataset);
        let mut days = BTreeMap::new();
        for file in live_files(&table) {
            let day = file.split('/').next().unwrap().trim_start_matches("day=").parse().unwrap();
            *days.entry(day).or_default() += read(&table.join(&file)).num_rows();
        }
        days
    }
}

fn text(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(chrono::SecondsFormat::Micros, true)
}

fn health(at: DateTime<Utc>, n: i64) -> Value {
    json!({"module": "m", "checked_at": text(at), "status": "healthy", "error_count": n})
}

#[tokio::test]
async fn each_export_writes_what_came_since_the_last_and_keeps_what_retention_dropped() {
    let engine = Embedded::start(None).await.unwrap();
    let embedded = Site::new(engine.url());
    embedded.run(&["migrate"], 0).await;
    let mut dbs: Vec<Db> = vec![harness::native().await];
    dbs.extend(harness::native_timescaledb().await);
    dbs.extend(harness::named().await);
    let mut sites = vec![embedded];
    for db in &dbs {
        sites.push(Site::new(db.any_url()));
    }
    for site in &sites {
        follow(site).await;
    }
}

async fn follow(site: &Site) {
    let now = Utc::now();
    let ago = |days: i64| now - TimeDelta::days(days);
    let planned = site.run(&["export", "--lake", "lake", "--dry-run", "--json"], 0).await;
    assert!(planned.as_array().unwrap().iter().all(|p| p["mode"] == "full" && p["version"].is_null()), "{planned:#}");
    assert!(!site.folder.path().join("lake").exists(), "a dry run makes nothing");

    site.ingest("health-check", &[health(ago(100), 1), health(ago(100), 2), health(ago(3), 3), health(now, 4)]).await;
    site.ingest("proposal", &[json!({"proposal_id": "p1", "module": "m", "proposed_at": text(now), "asset": "A"})]).await;
    let order = |id: &str, kind: &str| json!({"order_id": "o1", "event_id": id, "event_at": text(ago(1)), "event_type": kind, "asset": "A", "side": "buy", "order_type": "market", "quantity": "5"});
    site.ingest("order-event", &[order("e1", "pending")]).await;
    let first = site.export(&[]).await;
    assert!(first.values().all(|(mode, _)| mode == "full"), "{first:?}");
    assert_eq!((first["health_check"].1, first["proposal"].1, first["execution_report"].1), (4, 1, 1));
    site.export_until_nothing_changes().await;

    site.ingest("health-check", &[health(ago(3), 5)]).await;
    let planned = site.run(&["export", "--lake", "lake", "--dry-run", "--json"], 0).await;
    let of = |name: &str| planned.as_array().unwrap().iter().find(|p| p["dataset"] == name).unwrap().clone();
    let day = &of("health_check")["days"].as_array().unwrap().clone();
    assert!(
        day.iter().any(|d| d["day"] == json!(ago(3).date_naive()) && d["why"] == "late" && d["rows"] == json!([1, 2]) && d["held"] == 1),
        "{day:?}"
    );
    let late = site.export(&[]).await;
    assert_eq!(late["health_check"].0, "incremental");
    assert_eq!(site.days("health_check"), BTreeMap::from([(ago(100).date_naive(), 2), (ago(3).date_naive(), 2), (now.date_naive(), 1)]));
    site.ingest("order-event", &[order("e2", "submitted")]).await;
    let orders = site.export(&[]).await;
    assert_eq!((orders["order_event"].0.as_str(), orders["execution_report"].0.as_str()), ("incremental", "incremental"));
    assert_eq!((orders["regime_state"].0.as_str(), orders["module"].0.as_str()), ("unchanged", "unchanged"));

    // Retention drops the old day; then rows come to it, twice.
    site.run(&["maintain"], 0).await;
    for (round, rows) in [(6, 3), (7, 4)] {
        site.ingest("health-check", &[health(ago(100), round)]).await;
        for more in [&[][..], &[], &["--full"], &["--full", "--dataset", "health_check"]] {
            site.export(more).await;
            assert_eq!(site.days("health_check")[&ago(100).date_naive()], rows, "{more:?}");
        }
    }
    site.export_until_nothing_changes().await;
    let versions: Value = serde_json::from_slice(&std::fs::read(site.folder.path().join("lake/_snapshot.json")).unwrap()).unwrap();
    let times: Vec<&Value> = versions["versions"].as_object().unwrap().values().map(|v| &v["exported_at"]).collect();
    assert!(times.len() == 10 && times.iter().all(|t| *t == times[0]), "unchanged ones belong to the same instant: {versions:#}");
}

#[tokio::test]
async fn a_renamed_module_has_its_rows_written_anew() {
    let db = harness::native().await;
    let site = Site::new(db.url().unwrap());
    site.ingest("health-check", &[health(Utc::now(), 1)]).await;
    site.ingest("signal", &[json!({"module": "n", "emitted_at": text(Utc::now()), "kind": "k", "asset": "A", "score": 0.5})]).await;
    site.export(&[]).await;
    site.export_until_nothing_changes().await;
    let client = db.store.client().await.unwrap();
    client.batch_execute("UPDATE hitherto.module SET name = 'renamed' WHERE name = 'm'").await.unwrap();
    let exported = site.export(&[]).await;
    let modes: Vec<&str> = ["module", "health_check", "signal", "order_event"].map(|d| exported[d].0.as_str()).into();
    assert_eq!(modes, ["incremental", "full", "full", "unchanged"]);
}

#[tokio::test]
async fn a_transaction_that_is_long_open_is_told_and_what_it_writes_comes_when_it_ends() {
    let db = harness::native().await;
    let shell = Shell::new(&db);
    let site = Site::new(shell.url.clone());
    let client = db.store.client().await.unwrap();
    settled(&db).await;
    let mut other = db.config.connect().await.unwrap();
    let open = other.transaction().await.unwrap();
    open.batch_execute("SELECT pg_current_xact_id()").await.unwrap();
    site.ingest("health-check", &[health(Utc::now(), 1)]).await;
    // As if that had been two minutes ago.
    client
        .batch_execute(
            "SET session_replication_role = replica; UPDATE hitherto.ingest_batch SET committed_at = committed_at - INTERVAL '2 minutes';
             RESET session_replication_role",
        )
        .await
        .unwrap();
    for args in [&["export", "--lake", "lake", "--dry-run"][..], &["export", "--lake", "lake"]] {
        let output = run(&site.url, site.folder.path(), args, None).await;
        let told = words(&output);
        assert!(code(&output) == 0 && told.contains("the watermark is 12") && told.contains("has a transaction open"), "{told}");
    }
    open.rollback().await.unwrap();
}

#[tokio::test]
async fn an_exporter_needs_no_more_than_its_role() {
    let db = harness::native().await;
    let client = db.store.client().await.unwrap();
    let roles = "SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = 'hitherto_exporter')";
    assert!(client.query_one(roles, &[]).await.unwrap().get::<_, bool>(0), "migrating as a superuser makes the roles");
    let name = format!("exporter_{}", std::process::id());
    client.batch_execute(&format!("CREATE ROLE {name} LOGIN IN ROLE hitherto_exporter")).await.unwrap();
    let url = db.url().unwrap().replace("postgres@", &format!("{name}@"));
    let site = Site::new(db.url().unwrap());
    site.ingest("health-check", &[health(Utc::now(), 1)]).await;
    let site = Site::new(url);
    for _ in 0..2 {
        site.export(&[]).await;
    }
    assert_eq!(site.days("health_check").values().sum::<usize>(), 1);
    assert!(Path::new(&site.folder.path().join("lake/_lake.json")).exists());
    client.batch_execute(&format!("DROP ROLE {name}")).await.unwrap();
}

#[tokio::test]
async fn the_lake_is_compared_with_the_ledger() {
    let db = harness::native().await;
    let site = Site::new(db.url().unwrap());
    let ago = |days| Utc::now() - chrono::TimeDelta::days(days);
    site.ingest("health-check", &[health(ago(100), 1), health(ago(100), 2)]).await;
    site.ingest("health-check", &[health(ago(2), 3)]).await;
    site.export(&[]).await;
    let verify = async |expected| {
        let verified = site.run(&["lake", "verify", "lake", "--ledger", "--json"], expected).await;
        let told = |f: &Value| format!("{}: {}", f["dataset"].as_str().unwrap(), f["what"].as_str().unwrap());
        verified["findings"].as_array().unwrap().iter().map(told).collect::<Vec<_>>()
    };
    assert_eq!(verify(0).await, [""; 0]);
    // Rows that are not exported yet are no finding, nor is a day that retention has dropped.
    site.ingest("health-check", &[health(ago(2), 4)]).await;
    assert_eq!(verify(0).await, [""; 0]);
    site.export(&[]).await;
    settled(&db).await;
    site.export(&[]).await;
    site.run(&["maintain"], 0).await;
    assert_eq!(verify(0).await, [""; 0], "what the database has dropped, the lake keeps");
    // A day is gone that the lake has, rows and ledger.
    let client = db.store.client().await.unwrap();
    let gone = "SET session_replication_role = replica;
                DELETE FROM hitherto.health_check WHERE checked_at > now() - INTERVAL '3 days';
                DELETE FROM hitherto.ingest_batch WHERE table_name = 'health_check' AND row_count = 1;
                RESET session_replication_role";
    client.batch_execute(gone).await.unwrap();
    let unknown = verify(1).await;
    assert!(unknown.len() == 1 && unknown[0].ends_with("the ledger tells of 0 rows, the lake has 2"), "{unknown:?}");
    site.run(&["lake", "verify", "lake", "--ledger", "--dataset", "module", "--json"], 0).await;
}

#[tokio::test]
async fn rows_that_retention_drops_before_an_export_sees_them_are_told() {
    let db = harness::native().await;
    let site = Site::new(db.url().unwrap());
    let old = Utc::now() - TimeDelta::days(100);
    site.ingest("health-check", &[health(old, 1), health(Utc::now(), 2)]).await;
    site.export(&[]).await;
    site.run(&["maintain"], 0).await;
    site.ingest("health-check", &[health(old, 3), health(old, 4)]).await;
    site.run(&["maintain"], 0).await;
    settled(&db).await;
    let output = run(&site.url, site.folder.path(), &["export", "--lake", "lake"], None).await;
    let told = format!("health_check: 2 rows of {} are not in the lake and no longer in the database", old.date_naive());
    assert!(code(&output) == 0 && words(&output).contains(&told), "{}", words(&output));
    // Once the watermark is past them, nothing is told any more.
    let mut last = output;
    for n in [5, 6] {
        site.ingest("health-check", &[health(Utc::now(), n)]).await;
        settled(&db).await;
        last = run(&site.url, site.folder.path(), &["export", "--lake", "lake"], None).await;
    }
    assert!(code(&last) == 0 && !words(&last).contains("no longer in the database"), "{}", words(&last));
}

#[tokio::test]
async fn an_export_of_a_range_is_of_no_instant() {
    let db = harness::native().await;
    let site = Site::new(db.url().unwrap());
    site.ingest("health-check", &[health(Utc::now() - TimeDelta::days(2), 1), health(Utc::now(), 2)]).await;
    site.export(&[]).await;
    let noted = || {
        let text = std::fs::read(site.folder.path().join("lake/_snapshot.json")).unwrap();
        serde_json::from_slice::<Value>(&text).unwrap()["versions"].clone()
    };
    assert!(noted()["health_check"]["exported_at"].is_string());
    let from = (Utc::now() - TimeDelta::days(1)).format("%Y-%m-%d").to_string();
    site.export(&["--from", &from]).await;
    assert_eq!((&noted()["health_check"]["exported_at"], noted()["module"]["exported_at"].is_string()), (&Value::Null, true));
    assert_eq!(noted()["health_check"]["version"], 1);
    site.export(&[]).await;
    assert_eq!(noted()["health_check"]["exported_at"], noted()["module"]["exported_at"]);
}

#[tokio::test]
async fn a_ledger_that_was_restored_from_another_server_is_read_once() {
    let db = harness::native().await;
    let site = Site::new(db.url().unwrap());
    site.ingest("health-check", &[health(Utc::now() - TimeDelta::days(2), 1)]).await;
    // Transactions of a server that had come much further.
    let client = db.store.client().await.unwrap();
    let restored =
        "SET session_replication_role = replica; UPDATE hitherto.ingest_batch SET xid = '900000000000'; RESET session_replication_role";
    client.batch_execute(restored).await.unwrap();
    site.export(&[]).await;
    site.ingest("health-check", &[health(Utc::now(), 2)]).await;
    settle(&client, "SELECT max(xid) FROM hitherto.ingest_batch WHERE xid < '900000000000'").await;
    let second = site.export(&[]).await;
    assert_eq!(second["health_check"], ("incremental".to_owned(), 1), "the restored day is not written again");
    assert_eq!(site.days("health_check").len(), 2);
    let full = site.export(&["--full"]).await;
    assert_eq!(full["health_check"], ("full".to_owned(), 2));
}

#[tokio::test]
async fn a_standby_that_is_behind_takes_no_lake_back() {
    let primary = Server::new(free_port(), "-c fsync=off");
    primary.make_data(&primary.data(), &[]);
    primary.start().unwrap();
    drop(harness::migrated(&primary.config(), Some(hitherto::Engine::Postgresql)).await);
    let standby = Server::new(free_port(), "-c fsync=off");
    harness::run(
        standby
            .command("pg_basebackup")
            .args(["-R", "-c", "fast", "--no-sync", "-U", "postgres", "-h", "127.0.0.1", "-p", &primary.port.to_string(), "-D"])
            .arg(standby.data()),
    )
    .unwrap();
    standby.start().unwrap();
    let url = |server: &Server| format!("postgresql://postgres@127.0.0.1:{}/postgres", server.port);
    let site = Site::new(url(&primary));
    let replica = standby.config().connect().await.unwrap();
    site.ingest("health-check", &[health(Utc::now(), 1)]).await;
    site.export(&[]).await;
    replica.batch_execute("SELECT pg_wal_replay_pause()").await.unwrap();
    site.ingest("health-check", &[health(Utc::now(), 2)]).await;
    site.export(&[]).await;
    let from_standby = async || run(&url(&standby), site.folder.path(), &["export", "--lake", "lake", "--json"], None).await;
    let behind = from_standby().await;
    assert!(code(&behind) == 4 && words(&behind).contains("a standby that is behind"), "{}", words(&behind));
    assert_eq!(site.days("health_check").values().sum::<usize>(), 2, "the lake stays");
    replica.batch_execute("SELECT pg_wal_replay_resume()").await.unwrap();
    let began = std::time::Instant::now();
    loop {
        let output = from_standby().await;
        if code(&output) == 0 {
            break;
        }
        assert!(began.elapsed() < std::time::Duration::from_secs(60), "{}", words(&output));
    }
    assert_eq!(site.days("health_check").values().sum::<usize>(), 2);
}

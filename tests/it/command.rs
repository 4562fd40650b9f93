//! The command, as a user types it.

use hitherto::cli::embedded::Embedded;
use hitherto::{Config, Store};
use tokio::process::Command;

use crate::harness;
use crate::shell::{Shell, check, code, count, document, run, words};
use crate::trail::every_trail_is_complete;

#[tokio::test]
async fn wrong_use_is_told_with_the_documented_exit_code() {
    let db = harness::native().await;
    let shell = Shell::new(&db);
    let empty = shell.write("empty.ndjson", "");
    let file = shell.write("a-file", "");
    let strange = shell.path("strange");
    std::fs::create_dir(&strange).unwrap();
    std::fs::write(strange.join("thesis.tex"), "").unwrap();
    let (empty, file, strange) = (empty.to_str().unwrap(), file.to_str().unwrap(), strange.to_str().unwrap());
    let below = format!("{file}/lake");
    let missing = shell.path("missing.ndjson");
    for (args, expected, told) in [
        (vec!["ingest", "health-check", empty], 0, ""),
        (vec!["ingest", "health-check", missing.to_str().unwrap()], 2, "missing.ndjson can't be read"),
        (vec!["ingest", "helth-check", empty], 2, "there is no record 'helth-check'"),
        (vec!["ingest", "health-check; DROP TABLE hitherto.module", empty], 2, "there is no record 'health"),
        (vec!["export", "--lake", "l", "--dataset", "module'; DROP TABLE hitherto.module --"], 2, "there is no dataset 'module'; DROP"),
        (vec!["retention", "set", "x'); DROP TABLE hitherto.module --", "--keep", "30d"], 2, "these can: health_check,"),
        (vec!["ingest", "execution-report", empty], 2, "derived from order events"),
        (vec!["ingest", "health-check", empty, "--rejects", empty], 2, "can't be the input"),
        (vec!["export"], 2, "--lake"),
        (vec!["export", "--lake", strange], 2, "holds something else (thesis.tex)"),
        (vec!["export", "--lake", file], 2, "a-file"),
        (vec!["export", "--lake", &below], 2, "a-file/lake"),
        (vec!["export", "--lake", "/proc/lake"], 2, "/proc/lake"),
        (vec!["export", "--lake", "gs://bucket"], 2, "not supported"),
        (vec!["export", "--lake", "l", "--dataset", "orders"], 2, "there is no dataset 'orders'; did you mean order_event?"),
        (vec!["export", "--lake", "l", "--from", "2026-02-01", "--to", "2026-01-01"], 2, "must lie before"),
        (vec!["export", "--lake", "l", "--from", "yesterday"], 2, "write 2026-01-31"),
        (vec!["order", "nothing"], 1, "there is no order 'nothing'"),
        (vec!["retention", "set", "orders", "--keep", "30d"], 2, "these can: health_check,"),
        (vec!["retention", "set", "health-check-day", "--keep", "30d"], 2, "name health_check instead"),
        (vec!["retention", "set", "health-check", "--keep", "7d"], 2, "8 days at least, or for ever"),
        (vec!["retention", "set", "health-check", "--keep", "30"], 2, "write a number with a unit, as in 30d"),
        (vec!["retention", "set", "order-event", "--keep", "20d"], 2, "--columnstore-after never"),
        (vec!["retention", "set", "health-check"], 2, "--keep <AGE>"),
        (vec!["retention", "show", "orders"], 2, "these have: health_check,"),
        (vec!["frobnicate"], 2, "unrecognized subcommand"),
    ] {
        let output = shell.run(&args).await;
        assert_eq!(code(&output), expected, "{args:?}: {}", words(&output));
        assert!(words(&output).contains(told), "{args:?}: {}", words(&output));
    }
    assert_eq!(std::fs::read_dir(strange).unwrap().count(), 1);
    db.store.client().await.unwrap().batch_execute("SELECT FROM hitherto.module").await.unwrap();
}

#[tokio::test]
async fn a_database_out_of_reach_or_out_of_bounds_is_told() {
    let db = harness::native().await;
    let shell = Shell::new(&db);
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let down = format!("postgresql://postgres:canary-7f3@127.0.0.1:{port}/x");
    for args in
        [vec!["migrate"], vec!["doctor"], vec!["ingest", "health-check"], vec!["export", "--lake", "l"], vec!["maintain"], vec!["demo"]]
    {
        let output = run(&down, shell.folder.path(), &args, None).await;
        assert_eq!(code(&output), 3, "{args:?}: {}", words(&output));
        assert!(words(&output).contains(&format!("127.0.0.1:{port}")), "{}", words(&output));
    }
    let output = run("nonsense://", shell.folder.path(), &["doctor"], None).await;
    assert_eq!(code(&output), 2, "{}", words(&output));
    let output = run("", shell.folder.path(), &["doctor"], None).await;
    assert_eq!(code(&output), 2);
    assert!(words(&output).contains("no database is named"));

    let empty = harness::empty_database().await;
    let empty_url = format!("postgresql://postgres@127.0.0.1:{}/{}", harness::server().port, empty.database().unwrap());
    let output = run(&empty_url, shell.folder.path(), &["ingest", "health-check"], None).await;
    assert_eq!(code(&output), 4);
    assert!(words(&output).contains("hitherto migrate"));
    assert_eq!(code(&run(&empty_url, shell.folder.path(), &["doctor"], None).await), 1, "an empty database is a finding");

    let role = format!("nobody_{}", std::process::id());
    db.store.client().await.unwrap().batch_execute(&format!("CREATE ROLE {role} LOGIN")).await.unwrap();
    let poor = shell.url.replace("postgres:canary-7f3", &role);
    for args in [vec!["ingest", "health-check"], vec!["export", "--lake", "l"], vec!["migrate"]] {
        let output = run(&poor, shell.folder.path(), &args, Some(check(1).as_bytes())).await;
        assert_eq!(code(&output), 4, "{args:?}: {}", words(&output));
        assert!(words(&output).contains("permission denied"), "{}", words(&output));
    }
    db.store.client().await.unwrap().batch_execute(&format!("DROP ROLE {role}")).await.unwrap();
}

#[tokio::test]
async fn the_demo_goes_through_the_whole_pipe_on_every_engine() {
    let folder = tempfile::tempdir().unwrap();
    let embedded = run("", folder.path(), &["demo", "--lake", "lake-e", "--data", "kept", "--json"], None).await;
    assert_eq!(code(&embedded), 0, "{}", words(&embedded));
    let again = run("", folder.path(), &["demo", "--lake", "lake-e", "--data", "kept", "--json"], None).await;
    assert_eq!(code(&again), 0, "{}", words(&again));
    assert_eq!(document(&again)["page"], document(&embedded)["page"], "a second run shows the same and adds nothing");
    let engine = Embedded::start(Some(&folder.path().join("kept"))).await.unwrap();
    let store = Store::connect(Config::from_url(&engine.url()).unwrap()).await.unwrap();
    every_trail_is_complete(&store, "embedded").await;
    drop(store);
    engine.stop().await.unwrap();
    let other = run("", folder.path(), &["demo", "--lake", "lake-e", "--data", "kept", "--seed", "7"], None).await;
    assert!(code(&other) == 4 && words(&other).contains("the demo of other bars"), "{}", words(&other));
    let mut dbs = vec![harness::native().await];
    dbs.extend(harness::native_timescaledb().await);
    for db in dbs {
        let shell = Shell::new(&db);
        let output = shell.run(&["demo", "--lake", "lake", "--json"]).await;
        assert_eq!(code(&output), 0, "{}", words(&output));
        // Latencies are this process's own; orders and equity follow from the bars alone.
        for part in ["assets", "equity"] {
            assert_eq!(document(&output)["page"][part], document(&embedded)["page"][part], "{}", db.name);
        }
        let rows: Vec<i64> = document(&output)["lake"].as_array().unwrap().iter().map(|d| d["rows"].as_i64().unwrap()).collect();
        assert!(rows.len() == 10 && rows.iter().all(|n| *n > 0), "{}: {rows:?}", db.name);
        let proposal = document(&output)["page"]["proposal_id"].as_str().unwrap().to_owned();
        assert_eq!(code(&shell.run(&["trail", &proposal]).await), 0, "{}", db.name);
        every_trail_is_complete(&db.store, db.name).await;
        let doctor = shell.run(&["doctor", "--json"]).await;
        let findings = document(&doctor)["findings"].clone();
        assert_eq!(
            (code(&doctor), findings),
            (1, serde_json::json!(["order_event: 1 rows wait in quarantine; see: hitherto quarantine list"])),
            "{}",
            db.name
        );
        let page = document(&output)["page"].clone();
        let anomalies: Vec<&str> = page["anomalies"].as_array().unwrap().iter().map(|a| a["anomaly"].as_str().unwrap()).collect();
        assert_eq!(anomalies, ["event_id_conflict", "overfill", "void_of_unknown_fill"], "{}", db.name);
        assert_eq!((&page["quarantined"], &page["rows"]), (&1.into(), &document(&embedded)["page"]["rows"]), "{}", db.name);
        // Nobody but a person puts a crisis in force, and the first who does has decided.
        assert_eq!(page["pending"][0]["regime"], "crisis", "{}", db.name);
        assert_ne!(page["regime"]["regime"], "crisis", "{}", db.name);
        for name in ["ann", "bob"] {
            let confirmed = shell.run(&["demo", "--lake", "lake", "--confirm-regime", name, "--json"]).await;
            let page = &document(&confirmed)["page"];
            assert_eq!((&page["regime"]["regime"], &page["regime"]["decided_by"]), (&"crisis".into(), &"ann".into()), "{}", db.name);
            assert_eq!((code(&confirmed), page["pending"].as_array().unwrap().len()), (0, 0), "{}", db.name);
        }
        assert_eq!(code(&shell.run(&["maintain"]).await), 0);
        // Neither lake takes the other's place.
        assert_eq!(code(&shell.run(&["export", "--lake", "lake", "--from", "2026-01-01"]).await), 0, "the same database");
        let demo = run("", shell.folder.path(), &["demo", "--lake", "lake"], None).await;
        assert!(code(&demo) == 4 && words(&demo).contains("name another folder"), "{}", words(&demo));
        // A database with other records in it is left alone.
        let path = shell.write("c.ndjson", check(1));
        assert_eq!(code(&shell.run(&["ingest", "health-check", path.to_str().unwrap()]).await), 0);
        assert_eq!(code(&shell.run(&["demo"]).await), 4);
    }
}

#[tokio::test]
async fn the_demo_tells_what_is_wrong_with_its_bars() {
    let folder = tempfile::tempdir().unwrap();
    let bars = folder.path().join("bars");
    let demo = async || run("", folder.path(), &["demo", "--bars", "bars"], None).await;
    assert!(words(&demo().await).contains("bars can't be read"));
    std::fs::create_dir(&bars).unwrap();
    assert!(words(&demo().await).contains("has no .csv files"));
    std::fs::write(bars.join("A.csv"), "Datetime,Open,High,Low,Close,Volume\n2026-01-05 09:30:00-05:00,1,1,1,1,5\nyesterday,1,1,1,1,5\n")
        .unwrap();
    let output = demo().await;
    assert_eq!(code(&output), 2);
    assert!(words(&output).contains("A.csv line 3: Datetime 'yesterday'"), "{}", words(&output));
}

#[tokio::test]
async fn a_demo_that_was_interrupted_is_not_shown_as_a_whole_one() {
    let db = harness::native().await;
    let shell = Shell::new(&db);
    let mut demo = Command::new(env!("CARGO_BIN_EXE_hitherto"))
        .arg("demo")
        .env("DATABASE_URL", &shell.url)
        .current_dir(shell.folder.path())
        .spawn()
        .unwrap();
    let began = std::time::Instant::now();
    while count(&db, "SELECT count(*) FROM hitherto.ingest_batch WHERE producer = 'demo'").await == 0 {
        assert!(began.elapsed() < std::time::Duration::from_secs(60), "the demo writes nothing");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let pid = demo.id().unwrap().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().await.unwrap().success());
    assert_eq!(demo.wait().await.unwrap().code(), Some(130));
    let again = shell.run(&["demo"]).await;
    assert!(code(&again) == 4 && words(&again).contains("a demo that was interrupted"), "{}", words(&again));
}

#[tokio::test]
async fn rows_that_went_missing_keep_an_export_from_being_published() {
    let db = harness::native().await;
    let shell = Shell::new(&db);
    let path = shell.write("c.ndjson", (0..10).map(check).collect::<Vec<_>>().join("\n"));
    assert_eq!(code(&shell.run(&["ingest", "health-check", path.to_str().unwrap()]).await), 0);
    assert_eq!(code(&shell.run(&["export", "--lake", "lake"]).await), 0);
    db.store
        .client()
        .await
        .unwrap()
        .batch_execute("SET session_replication_role = replica; DELETE FROM hitherto.health_check; RESET session_replication_role")
        .await
        .unwrap();
    let yesterday = (chrono::Utc::now() - chrono::TimeDelta::days(2)).format("%Y-%m-%d").to_string();
    for args in [vec!["export", "--lake", "lake", "--full"], vec!["export", "--lake", "lake", "--from", &yesterday]] {
        let output = shell.run(&args).await;
        assert!(code(&output) == 4 && words(&output).contains("0 rows were read, but 10 must be there"), "{}", words(&output));
    }
    // Days without new batches are not read; one that gets a row is.
    assert_eq!(code(&shell.run(&["export", "--lake", "lake"]).await), 0);
    let path = shell.write("d.ndjson", check(11));
    assert_eq!(code(&shell.run(&["ingest", "health-check", path.to_str().unwrap()]).await), 0);
    let output = shell.run(&["export", "--lake", "lake"]).await;
    assert!(code(&output) == 4 && words(&output).contains("1 rows were read, but"), "{}", words(&output));
    let output = shell.run(&["export", "--file", "f.parquet", "--dataset", "execution_report", "--from", &yesterday]).await;
    assert!(code(&output) == 2 && words(&output).contains("has no time to be cut by"), "{}", words(&output));
}

#[tokio::test]
async fn one_document_is_printed_whatever_happens() {
    let db = harness::native().await;
    let shell = Shell::new(&db);
    for (args, expected) in [
        (vec!["doctor", "--json"], 0),
        (vec!["frobnicate", "--json"], 2),
        (vec!["export", "--json"], 2),
        (vec!["order", "nothing", "--json"], 1),
        (vec!["ingest", "health-check", "missing.ndjson", "--json"], 2),
    ] {
        let output = shell.run(&args).await;
        assert_eq!(code(&output), expected, "{args:?}: {}", words(&output));
        assert!(document(&output).is_object(), "{args:?}");
    }
    let report = document(&shell.run(&["doctor", "--json"]).await);
    assert!(report["schema_version"].as_i64().unwrap() > 100 && report["retention"].as_array().unwrap().len() == 3, "{report}");
}

#[tokio::test]
async fn a_machine_without_node_is_told_what_to_install() {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_hitherto"))
        .args(["demo"])
        .env_clear()
        .env("PATH", "/nowhere")
        .current_dir(folder.path())
        .output()
        .await
        .unwrap();
    assert_eq!(code(&output), 2);
    assert!(words(&output).contains("needs Node.js 20 or newer"), "{}", words(&output));
}

#[tokio::test]
async fn completions_and_help_are_printed() {
    let folder = tempfile::tempdir().unwrap();
    let commands = ["migrate", "doctor", "ingest", "export", "maintain", "retention", "order", "trail", "demo", "engine", "completions"];
    for (args, told) in [
        (vec!["completions", "bash"], &commands[..]),
        (vec!["--help"], &commands[..]),
        (vec!["ingest", "--help"], &["--rejects", "portfolio-snapshot", "Example:"][..]),
        (vec!["--version"], &[env!("CARGO_PKG_VERSION")][..]),
    ] {
        let output = run("", folder.path(), &args, None).await;
        assert!(code(&output) == 0 && output.stdout.len() > 10, "{args:?}");
        let text = String::from_utf8_lossy(&output.stdout);
        for word in told {
            assert!(text.contains(word), "{args:?} says nothing of {word}");
        }
    }
}

#[tokio::test]
async fn retention_is_set_shown_and_tried_out_by_command() {
    let db = harness::native().await;
    let shell = Shell::new(&db);
    let line = |days: i64| {
        let at = chrono::Utc::now() - chrono::TimeDelta::days(days);
        serde_json::json!({"module": "m", "checked_at": at.format("%Y-%m-%dT%H:%M:%SZ").to_string(), "status": "healthy", "error_count": days}).to_string()
    };
    let path = shell.write("c.ndjson", [1, 20, 40].map(line).join("\n"));
    assert_eq!(code(&shell.run(&["ingest", "health-check", path.to_str().unwrap()]).await), 0);
    let set = shell.run(&["retention", "set", "health-check", "--keep", "30d", "--columnstore-after", "3d", "--refresh-every", "5m"]).await;
    assert_eq!(code(&set), 0, "{}", words(&set));
    let shown = String::from_utf8(shell.run(&["retention", "show"]).await.stdout).unwrap();
    let of = |table: &str| shown.lines().find(|l| l.contains(table)).unwrap().split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(of("health_check"), ["health_check", "30d", "3d", "5m"], "{shown}");
    assert_eq!(of("order_event"), ["order_event", "ever", "30d", "no", "aggregates"], "{shown}");
    let due = document(&shell.run(&["maintain", "--dry-run", "--json"]).await);
    assert_eq!((due["due"].as_array().unwrap().len(), &due["due"][0]["rows"]), (1, &serde_json::json!(1)), "{due}");
    let told = String::from_utf8(shell.run(&["maintain", "--dry-run"]).await.stdout).unwrap();
    assert!(told.contains("health_check") && told.contains("1 rows would be deleted"), "{told}");
    assert_eq!(count(&db, crate::shell::CHECKS).await, 3, "nothing was changed");
    assert_eq!(code(&shell.run(&["maintain"]).await), 0);
    assert_eq!(count(&db, crate::shell::CHECKS).await, 2);
    assert_eq!(code(&shell.run(&["retention", "set", "health_check", "--keep", "forever"]).await), 0);
    let one = document(&shell.run(&["retention", "show", "health-check", "--json"]).await);
    assert!(one[0]["drop_after_seconds"].is_null() && one[0]["dropped_before"].is_string(), "{one}");
}

//! What an export shows while it works and when it is done, and the flags that a shell completes.

use super::*;
use crate::lab::settled;

#[tokio::test]
async fn the_summary_says_what_was_written_and_why() {
    let db = harness::native().await;
    let shell = Shell::new(&db);
    for days_ago in 1..=3 {
        health_checks(&shell, days_ago, 10).await;
    }
    let export = async |more: &[&str]| {
        settled(&db).await;
        let output = shell.run(&[&["export", "--lake", "lake", "--dataset", "health_check", "--json"], more].concat()).await;
        assert_eq!(code(&output), 0, "{}", words(&output));
        assert_eq!(words(&output), "", "no progress where there is no terminal");
        document(&output)[0].clone()
    };
    let first = export(&[]).await;
    let part = |document: &Value, names: &[&str]| names.iter().map(|name| document[*name].clone()).collect::<Vec<_>>();
    let counts = ["rows", "files", "days", "days_kept", "version"];
    assert_eq!(part(&first, &counts), [30, 3, 3, 0, 0], "{first}");
    assert_eq!((&first["mode"], &first["why"]), (&"full".into(), &serde_json::json!({"new": 3})), "{first}");
    assert!(first["bytes"].as_u64().unwrap() > 1_000 && first["seconds"].as_f64().unwrap() > 0.0, "{first}");
    let watermark = first["watermark"].as_i64().unwrap();
    health_checks(&shell, 3, 1).await;
    let second = export(&[]).await;
    assert_eq!(part(&second, &counts), [11, 1, 1, 2, 1], "{second}");
    assert_eq!((&second["mode"], &second["why"]), (&"incremental".into(), &serde_json::json!({"late": 1})), "{second}");
    assert!(second["watermark"].as_i64().unwrap() > watermark, "{second}");
    let third = export(&[]).await;
    assert_eq!(part(&third, &counts), [0, 0, 0, 3, 1], "{third}");
    assert_eq!((&third["mode"], &third["why"]), (&"unchanged".into(), &serde_json::json!({})), "{third}");
    let all = export(&["--full"]).await;
    assert_eq!(
        (&all["mode"], &all["why"], &all["reason"]),
        (&"full".into(), &serde_json::json!({"asked": 3}), &"all of it was asked for".into())
    );
    let shown = shell.run(&["export", "--lake", "lake", "--dataset", "health_check", "--full"]).await;
    let table = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(table.contains("health_check  full") && table.contains("all of it was asked for"), "{table}");
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_terminal_is_shown_how_far_it_is() {
    let db = harness::native().await;
    let shell = Shell::new(&db);
    health_checks(&shell, 1, 10).await;
    health_checks(&shell, 2, 10).await;
    let on_terminal = async |args: &str| {
        let line = format!("stty cols 200; {} export {args}", env!("CARGO_BIN_EXE_hitherto"));
        let output = Command::new("script")
            .args(["-qec", &line, "/dev/null"])
            .env("DATABASE_URL", &shell.url)
            .env("TERM", "xterm")
            .current_dir(shell.folder.path())
            .stdin(Stdio::null())
            .output()
            .await
            .unwrap();
        assert_eq!(code(&output), 0, "{}", String::from_utf8_lossy(&output.stdout));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let shown = on_terminal("--lake lake --dataset health_check").await;
    for part in ["20 of 20 rows", "read, 2 of 2 days, health_check 2", " left"] {
        assert!(shown.contains(part), "{part}: {shown:?}");
    }
    let shown = on_terminal("--file f --select 'SELECT n FROM generate_series(1, 3) n'").await;
    assert!(shown.contains("3 rows") && shown.contains("read, query ") && !shown.contains(" left"), "{shown:?}");
    let shown = on_terminal("--file f --select 'SELECT 1 AS a' --json 2>&1").await;
    assert!(serde_json::from_str::<Value>(&shown).is_ok(), "{shown:?}");
}

#[tokio::test]
async fn shells_complete_the_flags() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = shell::run("", folder.path(), &["completions", name], None).await;
        let script = String::from_utf8_lossy(&output.stdout).into_owned();
        for flag in ["select", "numeric", "connections", "dry-run"] {
            assert!(script.contains(flag), "{name}: {flag}");
        }
    }
    // The script is one that bash takes, and it offers the flags.
    let script = folder.path().join("hitherto.bash");
    let output = shell::run("", folder.path(), &["completions", "bash"], None).await;
    std::fs::write(&script, &output.stdout).unwrap();
    let ask = format!(
        "source {}; COMP_WORDS=(hitherto export --sel); COMP_CWORD=2; _hitherto hitherto --sel export; echo \"${{COMPREPLY[@]}}\"",
        script.display()
    );
    let output = Command::new("bash").args(["-c", &ask]).output().await.unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "--select\n", "{}", words(&output));
}

#[tokio::test]
async fn a_file_holds_what_the_ledger_tells_of_or_is_not_there() {
    let db = harness::native().await;
    let shell = Shell::new(&db);
    health_checks(&shell, 2, 10).await;
    let export = async |more: &[&str]| shell.run(&[&["export", "--dataset", "health_check", "--file", "f"], more].concat()).await;
    let add = "INSERT INTO hitherto.health_check SELECT (jsonb_populate_record(h, '{}')).* FROM hitherto.health_check h LIMIT 1";
    for (change, told) in [
        (add, "11 rows were read, but the ledger tells of 10"),
        ("DELETE FROM hitherto.health_check WHERE error_count IN (3, 4, 0)", "must be there"),
    ] {
        sql(&db, &format!("SET session_replication_role = replica; {change}; RESET session_replication_role")).await;
        let refused = export(&[]).await;
        assert!(code(&refused) == 4 && words(&refused).contains(told), "{}", words(&refused));
        assert!(!shell.path("f").exists());
    }
    assert_eq!(code(&export(&["--unverified"]).await), 0);
}

#[tokio::test]
async fn an_export_has_the_server_know_the_pages_of_a_fresh_load() {
    let db = harness::native().await;
    let shell = Shell::new(&db);
    for days_ago in 1..=3 {
        health_checks(&shell, days_ago, 20_000).await;
    }
    // Many days after them, of which the index on time knows nothing.
    sql(&db, "SET session_replication_role = replica; ALTER TABLE hitherto.health_check SET (autovacuum_enabled = off);
              INSERT INTO hitherto.health_check (checked_at, module_id, status, batch_id)
              SELECT checked_at - n * INTERVAL '1 day', module_id, status, gen_random_uuid() FROM hitherto.health_check, generate_series(10, 20) AS n").await;
    let login = "CREATE ROLE summarizing LOGIN; GRANT hitherto_exporter TO summarizing";
    sql(&db, login).await;
    let url = shell.url.replace("postgres:canary-7f3@", "summarizing@");
    let unknown = "SELECT brin_summarize_new_values('hitherto.health_check_checked_at_brin')::bigint";
    let exported =
        shell::run(&url, shell.folder.path(), &["export", "--lake", "lake", "--dataset", "health_check", "--unverified"], None).await;
    assert_eq!(code(&exported), 0, "{}", words(&exported));
    assert_eq!(shell::count(&db, unknown).await, 0, "all ranges of pages were summarised");
    sql(&db, "DROP OWNED BY summarizing; DROP ROLE summarizing").await;
}

//! The embedded engine itself.

use hitherto::Config;
use hitherto::cli::embedded::Embedded;
use tokio::io::{AsyncBufReadExt, BufReader};

async fn count(engine: &Embedded) -> i64 {
    let client = Config::from_url(&engine.url()).unwrap().connect().await.unwrap();
    client.query_one("SELECT count(*) FROM kept", &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn data_in_a_folder_outlives_the_engine_even_when_it_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let engine = Embedded::start(Some(folder.path())).await.unwrap();
    let client = Config::from_url(&engine.url()).unwrap().connect().await.unwrap();
    client.batch_execute("CREATE TABLE kept (n int); INSERT INTO kept SELECT generate_series(1, 1000)").await.unwrap();
    drop(client);
    engine.stop().await.unwrap();

    let engine = Embedded::start(Some(folder.path())).await.unwrap();
    assert_eq!(count(&engine).await, 1000);
    let client = Config::from_url(&engine.url()).unwrap().connect().await.unwrap();
    client.batch_execute("INSERT INTO kept VALUES (0)").await.unwrap();
    drop(client);
    engine.kill().await.unwrap();

    let engine = Embedded::start(Some(folder.path())).await.unwrap();
    assert_eq!(count(&engine).await, 1001);
    engine.stop().await.unwrap();
}

#[tokio::test]
async fn a_second_engine_on_one_folder_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let first = Embedded::start(Some(folder.path())).await.unwrap();
    let error = Embedded::start(Some(folder.path())).await.unwrap_err();
    assert!(error.to_string().contains("another embedded engine"), "{error}");
    first.stop().await.unwrap();
}

#[tokio::test]
async fn connections_take_turns_and_start_clean() {
    let engine = Embedded::start(None).await.unwrap();
    let config = Config::from_url(&engine.url()).unwrap();
    let mut first = config.connect().await.unwrap();
    first.prepare("SELECT 1").await.unwrap();
    let tx = first.transaction().await.unwrap();
    tx.batch_execute("CREATE TEMP TABLE mine (n int); CREATE TABLE lost (n int)").await.unwrap();

    let second = tokio::spawn(async move {
        let client = config.connect().await.unwrap();
        let statement = client.prepare("SELECT to_regclass('pg_temp.mine') IS NULL AND to_regclass('lost') IS NULL").await.unwrap();
        client.query_one(&statement, &[]).await.unwrap().get::<_, bool>(0)
    });
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    assert!(!second.is_finished(), "the second connection waits for the first");
    // Dropped amid its transaction: the next session must not be in it.
    drop(tx);
    drop(first);
    assert!(second.await.unwrap(), "nothing of the first session is left");
}

#[tokio::test]
async fn the_engine_command_runs_until_it_is_stopped_or_its_engine_dies() {
    for die in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_hitherto"))
            .args(["engine", "--json", "--data", "kept"])
            .current_dir(folder.path())
            .stdout(std::process::Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(command.stdout.take().unwrap()).lines();
        let mut document = String::new();
        while serde_json::from_str::<serde_json::Value>(&document).is_err() {
            document.push_str(&lines.next_line().await.unwrap().expect("a document"));
        }
        let document: serde_json::Value = serde_json::from_str(&document).unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        let client = Config::from_url(document["database_url"].as_str().unwrap()).unwrap().connect().await.unwrap();
        assert_eq!(client.query_one("SELECT 7", &[]).await.unwrap().get::<_, i32>(0), 7, "it runs on");
        let pid = command.id().unwrap().to_string();
        let (signal, expected) = if die { ("-KILL", 3) } else { ("-INT", 0) };
        let target = if die { child_of(&pid).await } else { pid };
        assert!(tokio::process::Command::new("kill").args([signal, &target]).status().await.unwrap().success());
        assert_eq!(command.wait().await.unwrap().code(), Some(expected));
    }
}

async fn child_of(pid: &str) -> String {
    let listed = tokio::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).await.unwrap_or_default();
    let mut all: Vec<String> = listed.split_whitespace().map(str::to_owned).collect();
    // Spawned by another thread of the command, as like as not.
    if all.is_empty() {
        let mut threads = tokio::fs::read_dir(format!("/proc/{pid}/task")).await.unwrap();
        while let Some(thread) = threads.next_entry().await.unwrap() {
            let listed = tokio::fs::read_to_string(thread.path().join("children")).await.unwrap_or_default();
            all.extend(listed.split_whitespace().map(str::to_owned));
        }
    }
    all.pop().expect("the engine is a child of the command")
}

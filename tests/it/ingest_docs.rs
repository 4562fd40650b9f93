//! What docs/ingest.md shows is run.

use std::path::Path;
use std::process::Stdio;

use tokio::process::Command;

use crate::harness;
use crate::pipe::prefix;
use crate::shell::{Shell, code, words};

const PAGE: &str = include_str!("../../docs/ingest.md");

/// The page's block in this language.
fn block(language: &str) -> &'static str {
    let begin = format!("```{language}\n");
    let rest = &PAGE[PAGE.find(&begin).expect("the page has it") + begin.len()..];
    &rest[..rest.find("```").unwrap()]
}

#[tokio::test]
async fn the_python_example_stores_its_records() {
    let db = harness::native().await;
    let shell = Shell::new(&db);
    let script = shell.write("example.py", block("python"));
    assert!(block("python").lines().filter(|line| !line.is_empty()).count() <= 10);
    let bin = Path::new(env!("CARGO_BIN_EXE_hitherto")).parent().unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let output = Command::new("python3")
        .arg(script)
        .env("PATH", path)
        .env("DATABASE_URL", &shell.url)
        .current_dir(shell.folder.path())
        .stdin(Stdio::null())
        .output()
        .await
        .unwrap();
    assert_eq!(code(&output), 0, "{}", words(&output));
    assert_eq!(prefix(&db, "python").await, 1000);
}

#[tokio::test]
async fn the_unit_is_one_that_systemd_takes() {
    let folder = tempfile::tempdir().unwrap();
    let unit = folder.path().join("hitherto-health-check.service");
    // The program need not be installed where the tests run.
    std::fs::write(&unit, block("ini").replace("/usr/local/bin/hitherto", env!("CARGO_BIN_EXE_hitherto"))).unwrap();
    let verified = Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&unit).output().await;
    let Ok(output) = verified else { return };
    let told = words(&output);
    let ours: Vec<&str> = told.lines().filter(|line| line.contains("hitherto-health-check")).collect();
    assert!(ours.is_empty(), "{told}");
    let flags = block("ini").lines().flat_map(str::split_whitespace).filter(|word| word.starts_with("--"));
    let help = Command::new(env!("CARGO_BIN_EXE_hitherto")).args(["ingest", "--help"]).output().await.unwrap();
    for flag in flags {
        assert!(String::from_utf8_lossy(&help.stdout).contains(flag), "{flag}");
    }
}

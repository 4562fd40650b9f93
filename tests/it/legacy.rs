//! The old system's code, in Python, on its tables' names.

use std::path::{Path, PathBuf};

use tokio::process::Command;

use crate::harness::{self, Db};

/// The interpreter that `make setup` fills.
fn python() -> PathBuf {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join(".venv/bin/python");
    assert!(python.exists(), "{} is missing; run: make setup", python.display());
    python
}

async fn run(script: &str, envs: &[(&str, &str)]) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/legacy");
    let output = Command::new(python())
        .args(["-W", "ignore::DeprecationWarning", script])
        .current_dir(folder)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .envs(envs.iter().copied())
        .output()
        .await
        .unwrap();
    assert!(output.status.success(), "{script} {envs:?}:\n{}", String::from_utf8_lossy(&output.stderr));
}

/// The old code changes its connection string, and nothing else.
fn legacy_url(db: &Db) -> Option<String> {
    let url = db.url()?.replace("postgresql://", "postgresql+psycopg2://");
    let sign = if url.contains('?') { '&' } else { '?' };
    Some(format!("{url}{sign}options=-csearch_path%3Dlegacy"))
}

#[tokio::test]
async fn old_code_runs_unchanged() {
    for db in harness::all().await {
        let Some(url) = legacy_url(&db) else { continue };
        let connections = if db.store.capabilities().embedded { "1" } else { "8" };
        // The embedded engine lets one in at a time.
        drop(db.store);
        run("test_legacy.py", &[("LEGACY_URL", &url), ("LEGACY_CONNECTIONS", connections)]).await;
    }
}

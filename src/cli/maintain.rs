//! `hitherto maintain`

use serde::Serialize;

use super::Ending;
use super::connect::Database;
use super::output::{Output, table};
use crate::error::Result;
use crate::store::{Due, Refreshed, Trimmed};

/// Run what is due: refresh the ranges of every aggregate that the ledger says were written, however
/// old; move old rows to the columnstore; drop what retention no longer keeps. A TimescaleDB server does
/// this by itself, and now is fine too; plain PostgreSQL and the embedded engine need it run now and then.
/// How long each table is kept: hitherto retention show
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// Say what would be refreshed, moved and dropped, and change nothing
    #[arg(long)]
    dry_run: bool,
}

#[derive(Serialize)]
struct Maintained {
    refreshed: Vec<Refreshed>,
    policies: Vec<Trimmed>,
}

#[derive(Serialize)]
struct Preview {
    due: Vec<Due>,
}

pub(super) async fn run(args: Args, database: &Database, output: Output) -> Result<Ending> {
    let store = database.store().await?;
    if args.dry_run {
        output.print(&Preview { due: store.maintain_preview().await? }, preview)?;
        return Ok(Ending::Done);
    }
    let maintained = Maintained { refreshed: store.aggregate_refresh().await?, policies: store.maintain().await? };
    let failed = maintained.refreshed.iter().any(|r| r.error.is_some());
    output.print(&maintained, |m| {
        let mut text = String::new();
        for r in m.refreshed.iter().filter(|r| r.ranges > 0 || r.error.is_some()) {
            match &r.error {
                Some(error) => text.push_str(&format!("{}: {error}\n", r.view_name)),
                None => text.push_str(&format!("{}: {} ranges refreshed\n", r.view_name, r.ranges)),
            }
        }
        for p in &m.policies {
            text.push_str(&format!("{}: {} on {}\n", p.table_name, p.policy, p.count));
        }
        if text.is_empty() { "nothing was due".to_owned() } else { text }
    })?;
    Ok(if failed { Ending::Finding } else { Ending::Done })
}

fn preview(preview: &Preview) -> String {
    if preview.due.is_empty() {
        return "nothing is due".to_owned();
    }
    let rows: Vec<Vec<String>> = preview
        .due
        .iter()
        .map(|d| {
            let what = match (d.policy.as_str(), d.rows) {
                ("refresh", _) => "would be refreshed".to_owned(),
                ("columnstore", _) => "chunk would go to the columnstore".to_owned(),
                (_, Some(rows)) => format!("{rows} rows would be deleted"),
                (_, None) => "chunk would be dropped".to_owned(),
            };
            let time = |t: chrono::DateTime<chrono::Utc>| t.format("%Y-%m-%d %H:%M").to_string();
            vec![d.name.clone(), time(d.range_start), time(d.range_end), what]
        })
        .collect();
    table(&["table", "from (UTC)", "until", "what"], &rows)
}

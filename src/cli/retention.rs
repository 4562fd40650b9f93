//! `hitherto retention`

use chrono::Duration;
use clap::Subcommand;

use super::Ending;
use super::connect::Database;
use super::output::{Output, table};
use crate::error::{Error, ErrorKind, Result};
use crate::store::{UpkeepChange, UpkeepPolicy};

/// Show or set how each table is kept: for how long, when it goes to the columnstore, how often its
/// aggregates are refreshed. What retention would drop now: hitherto maintain --dry-run
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Debug)]
enum What {
    /// Show how each table is kept
    Show {
        /// This table alone
        table: Option<String>,
    },
    /// Set how a table is kept; what is not named stays as it is
    #[command(after_help = "Example: hitherto retention set health-check --keep 30d --columnstore-after 3d")]
    Set(Set),
}

#[derive(clap::Args, Debug)]
struct Set {
    /// The table
    table: String,
    /// How long raw rows are kept: an age of 8 days at least (30d, 12weeks), or forever. Aggregates stay for ever
    #[arg(long, value_name = "AGE", value_parser = age, required_unless_present_any = ["columnstore_after", "refresh_every"])]
    keep: Option<Age>,
    /// When rows go to TimescaleDB's columnstore: an age of 1 day at least, or never
    #[arg(long, value_name = "AGE", value_parser = age)]
    columnstore_after: Option<Age>,
    /// How often a TimescaleDB server refreshes the table's aggregates: 10s to 1d
    #[arg(long, value_name = "TIME", value_parser = time)]
    refresh_every: Option<Duration>,
}

/// None stands for never.
#[derive(Debug, Clone, Copy)]
struct Age(Option<Duration>);

fn age(text: &str) -> Result<Age, String> {
    match text {
        "forever" | "never" => Ok(Age(None)),
        _ => time(text).map(|age| Age(Some(age))).map_err(|e| format!("{e}, or forever, or never")),
    }
}

fn time(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|e| e.to_string())
        .and_then(|time| Duration::from_std(time).map_err(|e| e.to_string()))
        .map_err(|e| format!("{e}; write a number with a unit, as in 30d, 12h, 5m"))
}

pub(super) async fn run(args: Args, database: &Database, output: Output) -> Result<Ending> {
    let store = database.store().await?;
    let policies = match args.what {
        What::Show { table: None } => store.upkeep_policies().await?,
        What::Show { table: Some(name) } => {
            let name = name.replace('-', "_");
            let mut all = store.upkeep_policies().await?;
            let known: Vec<String> = all.iter().map(|p| p.table_name.clone()).collect();
            all.retain(|p| p.table_name == name);
            if all.is_empty() {
                return Err(Error::new(ErrorKind::Config, format!("table '{name}' has no policy; these have: {}", known.join(", "))));
            }
            all
        }
        What::Set(set) => {
            let change = UpkeepChange {
                drop_after: set.keep.map(|age| age.0),
                columnstore_after: set.columnstore_after.map(|age| age.0),
                refresh_every: set.refresh_every,
            };
            vec![store.upkeep_set(&set.table.replace('-', "_"), change).await?]
        }
    };
    output.print(&policies, |all| {
        let rows: Vec<Vec<String>> = all.iter().map(cells).collect();
        table(&["table", "kept for", "columnstore after", "refreshed every", "dropped before (UTC)"], &rows)
    })?;
    Ok(Ending::Done)
}

fn cells(p: &UpkeepPolicy) -> Vec<String> {
    let word = |seconds: Option<i64>, none: &str| seconds.map_or_else(|| none.to_owned(), short);
    vec![
        p.table_name.clone(),
        word(p.drop_after_seconds, "ever"),
        word(p.columnstore_after_seconds, "never"),
        word(p.refresh_every_seconds, "no aggregates"),
        p.dropped_before.map(|t| t.format("%Y-%m-%d %H:%M").to_string()).unwrap_or_default(),
    ]
}

/// As one would type it.
fn short(seconds: i64) -> String {
    for (unit, size) in [("d", 86_400), ("h", 3_600), ("m", 60)] {
        if seconds % size == 0 {
            return format!("{}{unit}", seconds / size);
        }
    }
    format!("{seconds}s")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_read_as_people_write_them() {
        for (text, seconds) in
            [("30d", Some(30 * 86_400)), ("12weeks", Some(84 * 86_400)), ("8days 12h", Some(8 * 86_400 + 43_200)), ("forever", None)]
        {
            assert_eq!(age(text).unwrap().0.map(|age| age.num_seconds()), seconds, "{text}");
        }
        for text in ["30", "", "-3d", "3 fortnights", "soon"] {
            assert!(age(text).unwrap_err().contains("as in 30d"), "{text}");
        }
        assert_eq!([short(86_400), short(5_400), short(60), short(61)], ["1d", "90m", "1m", "61s"]);
    }
}

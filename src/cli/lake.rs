//! `hitherto lake`

use std::time::Duration;

use clap::Subcommand;
use hitherto_export::{
    CompactOptions, Compacted, History, Options, Progress, VacuumOptions, Vacuumed, Verified, VerifyOptions, compact_lake,
    compare_with_ledger, lake_history, vacuum_lake, verify_lake,
};

use super::Ending;
use super::connect::Database;
use super::dataset::datasets;
use super::export::{export_error, planned};
use super::output::{Output, table};
use crate::error::Result;

/// Look after a lake: what became of it, whether it is whole, files that nobody reads any more, small files.
///
/// None of these needs a database, but for verify --ledger. LAKE is a folder, or s3://bucket/prefix with the usual AWS_ variables.
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Debug)]
enum What {
    /// Show each table's versions: when, what was done, rows and files, how far they show the database
    History(Which),
    /// Look whether every file is there and as the log says; exit code 1 on a finding
    #[command(
        disable_version_flag = true,
        after_help = "Exit codes: 0 all is as the log says; 1 a finding; 2 no lake, no such dataset or version; 3 out of reach"
    )]
    Verify(Verify),
    /// Remove files that no version shows which was the newest within --keep
    Vacuum(Vacuum),
    /// Merge the files of each day into one; the rows stay what they are
    Compact(Compact),
}

#[derive(clap::Args, Debug)]
struct Which {
    /// The lake: a folder or s3://bucket/prefix
    #[arg(value_name = "LAKE")]
    lake: String,
    /// Only this dataset; may be given more than once
    #[arg(long, value_name = "NAME")]
    dataset: Vec<String>,
}

#[derive(clap::Args, Debug)]
struct Verify {
    #[command(flatten)]
    which: Which,
    /// This version of the one dataset, not the newest
    #[arg(long, value_name = "N", requires = "dataset")]
    version: Option<u64>,
    /// Read every value and compare it with what the log says
    #[arg(long)]
    deep: bool,
    /// Compare the rows of each day with the database's ledger, too
    #[arg(long, conflicts_with = "version")]
    ledger: bool,
}

#[derive(clap::Args, Debug)]
struct Vacuum {
    #[command(flatten)]
    which: Which,
    /// How long the files of earlier versions stay for who still reads them
    #[arg(long, value_name = "AGE", default_value = "7d", value_parser = humantime::parse_duration)]
    keep: Duration,
    /// Say what would be removed; remove nothing
    #[arg(long)]
    dry_run: bool,
}

#[derive(clap::Args, Debug)]
struct Compact {
    #[command(flatten)]
    which: Which,
    /// Files of this size and more are left as they are, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 128, value_parser = clap::value_parser!(u64).range(1..=1_048_576))]
    below: u64,
    /// Say what would be merged; write nothing
    #[arg(long)]
    dry_run: bool,
}

impl Which {
    /// Names in the lake's spelling.
    fn names(&self) -> Vec<String> {
        self.dataset.iter().map(|name| name.replace('-', "_")).collect()
    }
}

pub(super) async fn run(args: Args, database: &Database, output: Output) -> Result<Ending> {
    match args.what {
        What::History(which) => {
            let history = lake_history(&which.lake, &which.names()).await.map_err(export_error)?;
            output.print(&history, |h| history_table(h))?;
        }
        What::Verify(verify) => return look(verify, database, output).await,
        What::Vacuum(vacuum) => {
            let options = VacuumOptions { datasets: vacuum.which.names(), keep: vacuum.keep, dry_run: vacuum.dry_run };
            let vacuumed = vacuum_lake(&vacuum.which.lake, &options).await.map_err(export_error)?;
            output.print(&vacuumed, |v| vacuum_table(v))?;
        }
        What::Compact(compact) => {
            let options = CompactOptions { datasets: compact.which.names(), below: compact.below << 20, dry_run: compact.dry_run };
            let bar = output.bar("compact", 0);
            let compacted = compact_lake(&compact.which.lake, &datasets(&[])?, &options, &mut |p| show(&bar, p)).await;
            bar.finish_and_clear();
            output.print(&compacted.map_err(export_error)?, |c| compact_table(c))?;
        }
    }
    Ok(Ending::Done)
}

async fn look(verify: Verify, database: &Database, output: Output) -> Result<Ending> {
    let options = VerifyOptions { datasets: verify.which.names(), version: verify.version, deep: verify.deep };
    let bar = output.bar("verify", 0);
    let verified = verify_lake(&verify.which.lake, &datasets(&[])?, &options, &mut |p| show(&bar, p)).await;
    bar.finish_and_clear();
    let mut verified = verified.map_err(export_error)?;
    if verify.ledger {
        let names: Vec<String> = verified.datasets.iter().map(|table| table.dataset.clone()).collect();
        let plan = async |full| {
            let options = Options { full, ..Options::default() };
            planned(&database.config()?, &verify.which.lake, &names, options).await
        };
        verified.findings.extend(compare_with_ledger(&plan(true).await?, &plan(false).await?));
    }
    output.print(&verified, verify_text)?;
    Ok(if verified.findings.is_empty() { Ending::Done } else { Ending::Finding })
}

fn show(bar: &indicatif::ProgressBar, p: Progress<'_>) {
    let day = p.day.map(|day| format!(" {day}")).unwrap_or_default();
    bar.set_message(format!("{}{day} {} of {} rows", p.dataset, p.rows, p.total_rows.unwrap_or_default()));
    bar.tick();
}

fn or_nothing(number: Option<impl ToString>) -> String {
    number.map(|n| n.to_string()).unwrap_or_default()
}

fn history_table(history: &[History]) -> String {
    let mut rows = Vec::new();
    for table in history {
        for (at, v) in table.versions.iter().enumerate() {
            rows.push(vec![
                if at == 0 { table.dataset.clone() } else { String::new() },
                v.version.to_string(),
                or_nothing(v.at.map(|at| at.format("%Y-%m-%d %H:%M:%S"))),
                v.operation.clone(),
                format!("+{}", v.files_added),
                format!("-{}", v.files_removed),
                v.rows_added.map_or_else(|| "?".to_owned(), |n| format!("+{n}")),
                v.rows_removed.map_or_else(|| "?".to_owned(), |n| format!("-{n}")),
                or_nothing(v.watermark),
                or_nothing(v.instant.map(|at| at.format("%Y-%m-%d %H:%M:%S%.3f"))),
            ]);
        }
    }
    table(&["dataset", "version", "at (UTC)", "what", "files", "", "rows", "", "watermark", "snapshot of"], &rows)
}

fn verify_text(verified: &Verified) -> String {
    let rows: Vec<Vec<String>> = verified
        .datasets
        .iter()
        .map(|t| {
            let findings = verified.findings.iter().filter(|f| f.dataset == t.dataset).count();
            let numbers = [t.version, t.files, t.days, t.rows, t.bytes].map(|n| n.to_string());
            std::iter::once(t.dataset.clone()).chain(numbers).chain([findings.to_string()]).collect()
        })
        .collect();
    let mut text = table(&["dataset", "version", "files", "days", "rows", "bytes", "findings"], &rows);
    for finding in &verified.findings {
        let file = finding.file.as_ref().map(|file| format!("/{file}")).unwrap_or_default();
        text.push_str(&format!("{}{file}: {}\n", finding.dataset, finding.what));
    }
    text.push_str(if verified.findings.is_empty() {
        "All is as the log says.\n"
    } else {
        "A file that is wrong: export its day anew (hitherto export --from, --to), or the dataset with --full.\n"
    });
    text
}

fn vacuum_table(vacuumed: &[Vacuumed]) -> String {
    let rows: Vec<Vec<String>> = vacuumed
        .iter()
        .map(|v| {
            let numbers = [v.files, v.bytes, v.leftovers, v.log_files].map(|n| n.to_string());
            std::iter::once(v.dataset.clone()).chain(numbers).collect()
        })
        .collect();
    table(&["dataset", "files", "bytes", "of them leftovers", "log files"], &rows)
}

fn compact_table(compacted: &[Compacted]) -> String {
    let rows: Vec<Vec<String>> = compacted
        .iter()
        .map(|c| {
            let numbers = [c.days, c.files_before, c.files_after, c.rows, c.bytes_before, c.bytes_after, c.version].map(|n| n.to_string());
            std::iter::once(c.dataset.clone()).chain(numbers).collect()
        })
        .collect();
    table(&["dataset", "days", "files", "become", "rows", "bytes", "become", "version"], &rows)
}

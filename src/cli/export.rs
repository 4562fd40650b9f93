//! `hitherto export`

use std::path::PathBuf;

use chrono::{DateTime, NaiveDate, Utc};
use hitherto_export::{
    Connector, ExportError, ExportErrorKind, Exported, Mode, Options, Planned, Progress, export_file, export_lake, plan_lake,
};

use super::Ending;
use super::connect::Database;
use super::dataset::{IDENTITY, LAG, datasets};
use super::output::{Output, table};
use crate::config::Config;
use crate::error::{Error, ErrorKind, Result};
use crate::store::Store;

/// Bring the Parquet lake up to date, or write one dataset into one file.
///
/// A lake is a folder with one Delta table a dataset: every Delta reader (pandas, Polars, DuckDB, Spark)
/// sees one committed version, any Parquet reader can read the files. All datasets show the same instant.
/// The days that the ledger has new batches of are written, and plain tables that have changed; with --full,
/// everything; with --from or --to, the days in that range, whether they have changed or not.
#[derive(clap::Args, Debug)]
#[command(group(clap::ArgGroup::new("where").required(true).args(["lake", "file"])))]
pub(super) struct Args {
    /// The lake: a folder, made if missing, or s3://bucket/prefix (credentials from the AWS_ variables)
    #[arg(long, value_name = "DIR|URL")]
    lake: Option<String>,
    /// One flat Parquet file, of the one dataset that --dataset names
    #[arg(long, value_name = "F.parquet", requires = "dataset")]
    file: Option<PathBuf>,
    /// Only this dataset; may be given more than once
    #[arg(long, value_name = "NAME")]
    dataset: Vec<String>,
    /// The first time: RFC 3339, or a day (UTC)
    #[arg(long, value_name = "TIME", value_parser = time)]
    from: Option<DateTime<Utc>>,
    /// The time to stop before: RFC 3339, or a day (UTC)
    #[arg(long, value_name = "TIME", value_parser = time)]
    to: Option<DateTime<Utc>>,
    /// Write everything anew, whatever the lake holds
    #[arg(long, conflicts_with_all = ["from", "to"])]
    full: bool,
    /// Say what would be written to the lake, and why; write nothing
    #[arg(long, requires = "lake")]
    dry_run: bool,
    /// Publish even when there are fewer or more rows than the ledger says were stored
    #[arg(long)]
    unverified: bool,
}

fn time(text: &str) -> Result<DateTime<Utc>, String> {
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Ok(time.to_utc());
    }
    match text.parse::<NaiveDate>() {
        Ok(day) => Ok(day.and_time(chrono::NaiveTime::MIN).and_utc()),
        Err(_) => Err("write 2026-01-31 or 2026-01-31T09:30:00Z".to_owned()),
    }
}

pub(super) async fn run(args: Args, database: &Database, output: Output) -> Result<Ending> {
    if let (Some(from), Some(to)) = (args.from, args.to)
        && from >= to
    {
        return Err(Error::new(ErrorKind::Config, format!("--from ({from}) must lie before --to ({to})")));
    }
    let options = Options { from: args.from, to: args.to, full: args.full, unverified: args.unverified, ..Options::default() };
    let config = database.config()?;
    if let (true, Some(lake)) = (args.dry_run, &args.lake) {
        let planned = lake_plan(&config, lake, &args.dataset, options).await?;
        output.print(&planned, |p| planned_table(p))?;
        return Ok(Ending::Done);
    }
    let exported = match (&args.lake, &args.file) {
        (Some(lake), _) => lake_export(&config, lake, &args.dataset, options, output).await?,
        (None, Some(file)) => {
            let [dataset] = datasets(&args.dataset)?
                .try_into()
                .map_err(|_| Error::new(ErrorKind::Config, "--file takes one dataset; name one with --dataset, or export a lake"))?;
            let (mut client, connect) = connect(&config).await?;
            let options = Options { connect, ..options };
            let bar = output.bar(&dataset.name, 0);
            let exported = export_file(&mut client, &dataset, file, &options, &mut |p| show(&bar, p)).await.map_err(export_error)?;
            bar.finish_and_clear();
            vec![exported]
        }
        (None, None) => Vec::new(),
    };
    output.print(&exported, |e| summary(e))?;
    Ok(Ending::Done)
}

/// Exports datasets (all when none is named) into a lake; the source is the database unless the options
/// name another.
pub(super) async fn lake_export(
    config: &Config,
    lake: &str,
    names: &[String],
    mut options: Options,
    output: Output,
) -> Result<Vec<Exported>> {
    let datasets = datasets(names)?;
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-~:".contains(c);
    if !std::path::absolute(lake).is_ok_and(|path| path.to_string_lossy().chars().all(plain)) {
        tracing::warn!(
            "Polars' read_delta does not find tables whose path holds a space or the like, as that of {lake} does; other readers do"
        );
    }
    let (mut client, connect) = connect(config).await?;
    options.connect = connect;
    complete(&mut options, &client).await?;
    let bar = output.bar("export", 0);
    let exported = export_lake(&mut client, lake, &datasets, &options, &mut |p| show(&bar, p)).await.map_err(export_error)?;
    bar.finish_and_clear();
    Ok(exported)
}

/// What a lake must know of the database.
async fn complete(options: &mut Options, client: &tokio_postgres::Client) -> Result<()> {
    if options.source.is_none() {
        options.source = Some(source(client).await?);
    }
    options.identity = Some(IDENTITY.to_owned());
    options.lag = Some(LAG.to_owned());
    Ok(())
}

pub(super) async fn lake_plan(config: &Config, lake: &str, names: &[String], mut options: Options) -> Result<Vec<Planned>> {
    let datasets = datasets(names)?;
    let (mut client, _) = connect(config).await?;
    complete(&mut options, &client).await?;
    plan_lake(&mut client, lake, &datasets, &options).await.map_err(export_error)
}

/// A database goes by when its schema was made: unlike its address and its name, that stays with it.
pub(super) async fn source(client: &tokio_postgres::Client) -> Result<String> {
    let row = client
        .query_one("-- export_source\nSELECT min(applied_at) FROM hitherto.schema_migration", &[])
        .await
        .map_err(|e| Error::database("reading hitherto.schema_migration", e))?;
    let made_at: DateTime<Utc> = row.get(0);
    Ok(format!("the database whose schema was made at {}", made_at.to_rfc3339_opts(chrono::SecondsFormat::Micros, true)))
}

/// A session of its own, since the snapshot may last long, and a way to more where the engine has more;
/// the schema is looked at first.
async fn connect(config: &Config) -> Result<(tokio_postgres::Client, Option<Connector>)> {
    let several = Store::connect(config.clone()).await?.capabilities().max_connections > 1;
    let config = config.clone().with_application_name("hitherto export");
    let client = config.connect().await?;
    let connector = Connector::new(move || {
        let config = config.clone();
        async move { config.connect().await }
    });
    Ok((client, several.then_some(connector)))
}

fn show(bar: &indicatif::ProgressBar, p: Progress<'_>) {
    let day = p.day.map(|day| format!(" {day}")).unwrap_or_default();
    bar.set_message(match p.total_rows {
        Some(total) => format!("{}{day} {} of {total} rows", p.dataset, p.rows),
        None => format!("{}{day} {} rows", p.dataset, p.rows),
    });
    bar.tick();
}

fn mode(mode: Mode) -> &'static str {
    match mode {
        Mode::Full => "full",
        Mode::Range => "range",
        Mode::Incremental => "incremental",
        Mode::Unchanged => "unchanged",
    }
}

/// Days that a person is shown one by one.
const SHOWN_DAYS: usize = 10;

fn planned_table(planned: &[Planned]) -> String {
    let mut rows: Vec<Vec<String>> = Vec::new();
    for p in planned {
        let total = p.rows.map(|n| n.to_string()).unwrap_or_default();
        rows.push(vec![p.dataset.clone(), mode(p.mode).to_owned(), p.days.len().to_string(), total, p.reason.clone()]);
        for day in p.days.iter().rev().take(if p.mode == Mode::Incremental { SHOWN_DAYS } else { 0 }) {
            let (least, most) = day.rows;
            let owed = if least == most { most.to_string() } else { format!("{least} to {most}") };
            rows.push(vec![
                String::new(),
                String::new(),
                day.day.to_string(),
                owed,
                format!("{}; the lake has {}", day.why.words(), day.held),
            ]);
        }
        if p.mode == Mode::Incremental && p.days.len() > SHOWN_DAYS {
            let more = format!("and {} earlier days", p.days.len() - SHOWN_DAYS);
            rows.push(vec![String::new(), String::new(), String::new(), String::new(), more]);
        }
    }
    table(&["dataset", "how", "days", "rows", "why"], &rows)
}

fn summary(exported: &[Exported]) -> String {
    let rows: Vec<Vec<String>> = exported
        .iter()
        .map(|e| {
            let version = e.version.map(|v| v.to_string()).unwrap_or_default();
            vec![
                e.dataset.clone(),
                mode(e.mode).to_owned(),
                e.rows.to_string(),
                e.days.to_string(),
                e.files.to_string(),
                e.bytes.to_string(),
                version,
                e.path.clone(),
            ]
        })
        .collect();
    table(&["dataset", "how", "rows", "days", "files", "bytes", "version", "where"], &rows)
}

pub(super) fn export_error(error: ExportError) -> Error {
    let kind = match (error.kind(), error.sqlstate()) {
        (_, Some("42501")) => ErrorKind::Refused,
        (ExportErrorKind::Config | ExportErrorKind::Lake, _) => ErrorKind::Config,
        (ExportErrorKind::Unreachable, _) => ErrorKind::Unreachable,
        (ExportErrorKind::Incomplete | ExportErrorKind::Surplus | ExportErrorKind::Conflict | ExportErrorKind::Denied, _) => {
            ErrorKind::Refused
        }
        _ => ErrorKind::Database,
    };
    Error::new(kind, error.to_string()).caused_by(error)
}

//! `hitherto export`

mod progress;
mod sessions;
mod summary;
mod time;

use std::error::Error as _;
use std::path::{Path, PathBuf};

use chrono::{DateTime, SecondsFormat, Utc};
use futures_util::future::join_all;
use hitherto_export::{Dataset, ExportError, ExportErrorKind, Exported, NumericAs, Options, Planned, export_file, export_lake, plan_lake};
use tokio_postgres::Client;

use self::progress::Bar;
use self::sessions::Sessions;
use self::time::{Time, time};
use super::connect::Database;
use super::dataset::{IDENTITY, LAG, datasets};
use super::output::Output;
use super::{Ending, Stop, interrupted};
use crate::config::Config;
use crate::connect::Canceller;
use crate::error::{Error, ErrorKind, Result};

/// Bring the Parquet lake up to date, or write one dataset, or a query's rows, into one file.
///
/// A lake is a folder with one Delta table a dataset: every Delta reader (pandas, Polars, DuckDB, Spark)
/// sees one committed version, any Parquet reader can read the files. All datasets show the same instant.
/// The days that the ledger has new batches of are written, and plain tables that have changed; with --full,
/// everything; with --from or --to, the days in that range, whether they have changed or not.
#[derive(clap::Args, Debug)]
#[command(group(clap::ArgGroup::new("where").required(true).args(["lake", "file"])), after_help = AFTER_HELP)]
pub(super) struct Args {
    /// The lake: a folder, made if missing, or s3://bucket/prefix (credentials from the AWS_ variables)
    #[arg(long, value_name = "DIR|URL")]
    lake: Option<String>,
    /// One flat Parquet file, of the one dataset that --dataset names or of the query that --select gives
    #[arg(long, value_name = "F.parquet")]
    file: Option<PathBuf>,
    /// Only this dataset; may be given more than once
    #[arg(long, value_name = "NAME")]
    dataset: Vec<String>,
    /// A query: one SELECT, WITH, VALUES or TABLE, which only reads. Its rows go into the file, in its order
    #[arg(long, value_name = "SQL", requires = "file", conflicts_with_all = ["lake", "dataset", "full", "unverified"])]
    select: Option<String>,
    /// The first time: RFC 3339, or a day; UTC where it names no zone
    #[arg(long, value_name = "TIME", value_parser = time)]
    from: Option<Time>,
    /// The time to stop before: RFC 3339, or a day; UTC where it names no zone
    #[arg(long, value_name = "TIME", value_parser = time)]
    to: Option<Time>,
    /// Write everything anew, whatever the lake holds
    #[arg(long, conflicts_with_all = ["from", "to"])]
    full: bool,
    /// Say what would be written to the lake, and why; write nothing
    #[arg(long, requires = "lake", conflicts_with = "file")]
    dry_run: bool,
    /// Publish even when there are fewer or more rows than the ledger says were stored
    #[arg(long)]
    unverified: bool,
    /// What a numeric column without precision and scale becomes: a decimal of so many digits, some of them after the point, or text
    #[arg(long, value_name = "COLUMN=P,S|COLUMN=text", value_parser = numeric)]
    numeric: Vec<(String, NumericAs)>,
    /// How many connections read at once [default: one a core, 4 at most]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=64))]
    connections: Option<u8>,
}

const AFTER_HELP: &str = "\
Examples:
  hitherto export --lake research
  hitherto export --file checks.parquet --dataset health_check --from 2026-01-01 --to 2026-02-01
  hitherto export --file fills.parquet --select \"SELECT asset, side, quantity FROM hitherto.execution_report WHERE status = 'filled'\"

With --json, an array with an object a dataset: dataset, rows, bytes, files, days (written), days_kept, mode (full, range, incremental,
unchanged), reason, why (days by new, grown, late, added, asked), version, watermark, seconds, path. They are explained in docs/export.md.";

pub(super) async fn run(args: Args, database: &Database, output: Output) -> Result<Ending> {
    let options = options(&args)?;
    let sessions = Sessions::new(&database.config()?);
    let mut stop = Stop::listen();
    let (interrupted, open) = {
        let mut exporting = std::pin::pin!(export(args, options, &sessions, output));
        tokio::select! {
            ended = &mut exporting => return ended,
            () = stop.asked() => {}
        }
        (interrupted(stop), sessions.stop().await)
        // What the export had under way is removed here, where it is dropped.
    };
    join_all(open.into_iter().map(Canceller::ended)).await;
    Err(interrupted)
}

async fn export(args: Args, options: Options, sessions: &Sessions, output: Output) -> Result<Ending> {
    match (&args.lake, &args.file, &args.select) {
        (Some(lake), ..) if args.dry_run => {
            let planned = lake_plan(sessions, lake, &chosen(&args.dataset, args.numeric)?, options).await?;
            output.print(&planned, |p| summary::planned(p))?;
        }
        (Some(lake), ..) => {
            let exported = to_lake(sessions, lake, &chosen(&args.dataset, args.numeric)?, options, output).await?;
            output.print(&exported, |e| summary::exported(e))?;
        }
        (None, Some(file), query) => {
            let exported = match query {
                Some(query) => query_export(sessions, query, args.numeric, file, options, output).await.map_err(query_error)?,
                None => file_export(sessions, chosen(&args.dataset, args.numeric)?, file, options, output).await?,
            };
            output.print(&[exported], |e| summary::exported(e))?;
        }
        (None, None, _) => {}
    }
    Ok(Ending::Done)
}

/// What was asked for, if it can be.
fn options(args: &Args) -> Result<Options> {
    let refuse = |why: String| Err(Error::new(ErrorKind::Config, why));
    if args.select.is_some() && (args.from.is_some() || args.to.is_some()) {
        return refuse("--select has no time column that --from and --to could mean; put the time into the query's WHERE".to_owned());
    }
    if let Some((column, _)) = args.numeric.iter().enumerate().find_map(|(at, n)| args.numeric[..at].iter().find(|other| other.0 == n.0)) {
        return refuse(format!("--numeric says twice what {column} becomes"));
    }
    let told = |time: &Time| time.at.to_rfc3339_opts(SecondsFormat::AutoSi, true);
    for (flag, time) in [("--from", &args.from), ("--to", &args.to)] {
        if let Some(time) = time.as_ref().filter(|time| time.assumed) {
            tracing::info!("{flag} {}: no time zone was given, UTC is meant", told(time));
        }
    }
    if let (Some(from), Some(to)) = (&args.from, &args.to)
        && from.at >= to.at
    {
        return refuse(format!("--from ({}) must lie before --to ({}), which is not included", told(from), told(to)));
    }
    Ok(Options {
        from: args.from.as_ref().map(|time| time.at),
        to: args.to.as_ref().map(|time| time.at),
        full: args.full,
        unverified: args.unverified,
        connections: args.connections.map(usize::from),
        ..Options::default()
    })
}

/// The datasets that were named, or all; one that is alone may be told what its numerics become.
fn chosen(names: &[String], numeric: Vec<(String, NumericAs)>) -> Result<Vec<Dataset>> {
    let mut chosen = datasets(names)?;
    match chosen.as_mut_slice() {
        [one] => one.numeric = numeric,
        _ if numeric.is_empty() => {}
        _ => {
            return Err(Error::new(
                ErrorKind::Config,
                "--numeric names a column of one dataset, or of a query; name the dataset with --dataset",
            ));
        }
    }
    Ok(chosen)
}

/// Reads COLUMN=P,S or COLUMN=text.
fn numeric(text: &str) -> Result<(String, NumericAs), String> {
    let (column, numeric) = text.rsplit_once('=').filter(|(column, _)| !column.is_empty()).ok_or("write COLUMN=38,18 or COLUMN=text")?;
    Ok((column.to_owned(), numeric.parse()?))
}

async fn file_export(sessions: &Sessions, datasets: Vec<Dataset>, file: &Path, options: Options, output: Output) -> Result<Exported> {
    let [dataset] = <[Dataset; 1]>::try_from(datasets).map_err(|_| {
        Error::new(
            ErrorKind::Config,
            "--file takes one dataset, or a query; name it with --dataset, give it with --select, or export a lake",
        )
    })?;
    let (mut client, connect) = sessions.first(true).await?;
    write_file(&mut client, &dataset, file, Options { connect, ..options }, output).await
}

async fn query_export(
    sessions: &Sessions,
    query: &str,
    numeric: Vec<(String, NumericAs)>,
    file: &Path,
    options: Options,
    output: Output,
) -> Result<Exported> {
    let (mut client, connect) = sessions.first(false).await?;
    let dataset = Dataset::from_query(&mut client, "query", query).await.map_err(export_error)?;
    write_file(&mut client, &Dataset { numeric, ..dataset }, file, Options { connect, ..options }, output).await
}

async fn write_file(client: &mut Client, dataset: &Dataset, file: &Path, options: Options, output: Output) -> Result<Exported> {
    let bar = Bar::new(output);
    export_file(client, dataset, file, &options, &mut |p| bar.show(p)).await.map_err(export_error)
}

/// Exports datasets (all when none is named) into a lake; the source is the database unless the options
/// name another.
pub(super) async fn lake_export(config: &Config, lake: &str, names: &[String], options: Options, output: Output) -> Result<Vec<Exported>> {
    to_lake(&Sessions::new(config), lake, &datasets(names)?, options, output).await
}

async fn to_lake(sessions: &Sessions, lake: &str, datasets: &[Dataset], mut options: Options, output: Output) -> Result<Vec<Exported>> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-~:".contains(c);
    // A URL may hold what must not be told.
    if !lake.contains("://") && !std::path::absolute(lake).is_ok_and(|path| path.to_string_lossy().chars().all(plain)) {
        tracing::warn!(
            "Polars' read_delta does not find tables whose path holds a space or the like, as that of {lake} does; other readers do"
        );
    }
    let (mut client, connect) = sessions.first(true).await?;
    options.connect = connect;
    complete(&mut options, &client).await?;
    let bar = Bar::new(output);
    export_lake(&mut client, lake, datasets, &options, &mut |p| bar.show(p)).await.map_err(export_error)
}

/// What a lake must know of the database.
async fn complete(options: &mut Options, client: &Client) -> Result<()> {
    if options.source.is_none() {
        options.source = Some(source(client).await?);
    }
    options.identity = Some(IDENTITY.to_owned());
    options.lag = Some(LAG.to_owned());
    Ok(())
}

/// What an export would write, for others than this command.
pub(super) async fn planned(config: &Config, lake: &str, names: &[String], options: Options) -> Result<Vec<Planned>> {
    lake_plan(&Sessions::new(config), lake, &datasets(names)?, options).await
}

async fn lake_plan(sessions: &Sessions, lake: &str, datasets: &[Dataset], mut options: Options) -> Result<Vec<Planned>> {
    let (mut client, _) = sessions.first(true).await?;
    complete(&mut options, &client).await?;
    plan_lake(&mut client, lake, datasets, &options).await.map_err(export_error)
}

/// A database goes by when its schema was made: unlike its address and its name, that stays with it.
pub(super) async fn source(client: &Client) -> Result<String> {
    let row = client
        .query_one("-- export_source\nSELECT min(applied_at) FROM hitherto.schema_migration", &[])
        .await
        .map_err(|e| Error::database("reading hitherto.schema_migration", e))?;
    let made_at: DateTime<Utc> = row.get(0);
    Ok(format!("the database whose schema was made at {}", made_at.to_rfc3339_opts(chrono::SecondsFormat::Micros, true)))
}

pub(super) fn export_error(error: ExportError) -> Error {
    let kind = match (error.kind(), error.sqlstate()) {
        (_, Some("42501")) => ErrorKind::Refused,
        (_, Some("57014")) => ErrorKind::Timeout,
        (ExportErrorKind::Config | ExportErrorKind::Lake, _) => ErrorKind::Config,
        (ExportErrorKind::Unreachable, _) => ErrorKind::Unreachable,
        (
            ExportErrorKind::Incomplete
            | ExportErrorKind::Surplus
            | ExportErrorKind::Conflict
            | ExportErrorKind::Denied
            | ExportErrorKind::Unsupported
            | ExportErrorKind::Writes,
            _,
        ) => ErrorKind::Refused,
        _ => ErrorKind::Database,
    };
    Error::new(kind, error.to_string()).caused_by(error)
}

/// An error that is a query's own: it can't be used as it stands.
fn query_error(error: Error) -> Error {
    let class =
        error.source().and_then(|e| e.downcast_ref::<ExportError>()).and_then(ExportError::sqlstate).map(|code| code[..2].to_owned());
    match (error.kind(), class.as_deref()) {
        (ErrorKind::Database, Some("0A" | "21" | "22" | "25" | "42" | "54" | "P0")) => error.of_kind(ErrorKind::Config),
        _ => error,
    }
}

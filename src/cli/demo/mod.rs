//! `hitherto demo`

mod bars;
mod broker;
mod page;
mod platform;
mod provoked;
mod statistics;

use std::path::PathBuf;
use std::time::Instant;

use hitherto_export::{Exported, Options, check_lake};
use serde::Serialize;

use super::Ending;
use super::connect::Database;
use super::embedded::Embedded;
use super::export::{self, lake_export};
use super::output::Output;
use crate::config::Config;
use crate::engine::Capabilities;
use crate::error::{Error, ErrorKind, Result};
use crate::migrate;
use crate::store::Store;
use bars::Market;
use page::Page;
use platform::{MARKED, PRODUCER, Platform};

/// Where the lake goes unless told otherwise.
const DEFAULT_LAKE: &str = "lake";
const DEFAULT_SEED: u64 = 1;

/// A whole trading day through the whole pipe.
///
/// Six small modules trade price bars and write what they do; TimescaleDB aggregates; a Parquet lake
/// appears. Without a named database it all happens on the embedded engine, which is for trying out. A
/// named one must be empty, or hold just this demo.
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// A folder of ASSET.csv files with Datetime, Open, High, Low, Close, Volume; without it, bars are
    /// made from the seed
    #[arg(long, value_name = "DIR")]
    bars: Option<PathBuf>,
    /// Where the lake goes
    #[arg(long, value_name = "DIR", default_value = DEFAULT_LAKE)]
    lake: String,
    /// Keep the embedded engine's data in this folder; see `hitherto engine`
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Seed of the bars that are made
    #[arg(long, default_value_t = DEFAULT_SEED)]
    seed: u64,
    /// Confirm the crisis that the demo proposes, in this person's name
    #[arg(long, value_name = "NAME")]
    confirm_regime: Option<String>,
}

#[derive(Serialize)]
struct Document {
    bars: usize,
    seconds: f64,
    page: Page,
    lake: Vec<Exported>,
}

pub(super) async fn run(args: Args, database: &Database, output: Output) -> Result<Ending> {
    let market = match &args.bars {
        Some(folder) => Market::read(folder)?,
        None => Market::synthetic(args.seed),
    };
    let named = database.named()?;
    if named.is_some() && args.data.is_some() {
        return Err(Error::new(ErrorKind::Config, "--data is for the embedded engine, but a database is named too; leave one out"));
    }
    let began = Instant::now();
    let engine = match named {
        Some(_) => None,
        None => Some(Embedded::start(args.data.as_deref()).await?),
    };
    let config = match (&engine, named) {
        (Some(engine), _) => Config::from_url(&engine.url())?,
        (None, Some(config)) => config,
        (None, None) => database.config()?,
    };
    let document = play(&args, &config, engine.is_none(), &market, began, output).await;
    if let Some(engine) = engine {
        engine.stop().await?;
    }
    let document = document?;
    let keep = args.data.as_ref().map(|d| d.display().to_string());
    output.print(&document, |d| text(d, &args, keep.as_deref(), database))?;
    Ok(Ending::Done)
}

async fn play(args: &Args, config: &Config, database_is_named: bool, market: &Market, began: Instant, output: Output) -> Result<Document> {
    let mut client = config.connect().await?;
    if database_is_named {
        tracing::info!("working on {config}");
    }
    let capabilities = Capabilities::detect(&client).await?;
    let version = capabilities.timescaledb_version.as_deref().map(|v| format!(" with TimescaleDB {v}")).unwrap_or_default();
    tracing::info!(
        "PostgreSQL {}{version}{}",
        capabilities.server_version,
        if capabilities.embedded { ", embedded: for trying out" } else { "" }
    );
    migrate::migrate(&mut client, &capabilities).await?;
    drop(client);
    let store = Store::connect(config.clone()).await?;
    // A database of the user's own may be exported again later; the embedded one is the demo's.
    let source = if database_is_named { export::source(&*store.client().await?).await? } else { "the demo".to_owned() };
    check_lake(&args.lake, &source).await.map_err(export::export_error)?;
    let options = Options { source: Some(source), ..Options::default() };
    let bars = market.mark();
    if is_new(&store, &bars).await? {
        for table in ["module_execution", "health_check", "signal"] {
            store.retention_set(table, None).await?;
        }
        tracing::info!("retention is switched off in this database: the demo's bars may be older than the usual 90 days");
        tracing::info!("replaying {} bars of {} through the platform", market.count, market.assets.join(", "));
        let bar = output.bar("replay", market.steps.len() as u64);
        let platform = Platform::new(store.clone(), market.assets.clone()).await?;
        let stats = platform.replay(market, |step| bar.set_position(step as u64)).await?;
        bar.finish_and_clear();
        // Written last: a replay that did not come to its end is not taken for one that did.
        platform::mark(&store, &bars).await?;
        tracing::info!("stored {} rows in {} batches after {:.1} s", stats.stored, stats.batches, began.elapsed().as_secs_f64());
    } else {
        tracing::info!("this database holds the demo of these bars already: showing it again");
    }
    if let Some(name) = &args.confirm_regime
        && store.regime_pending().await?.iter().any(|r| r.regime_id == provoked::REGIME)
    {
        store.regime_confirm(provoked::REGIME, name, None).await?;
        tracing::info!("{name} has confirmed {}", provoked::REGIME);
    }
    for refreshed in store.aggregate_refresh().await? {
        if let Some(error) = refreshed.error {
            return Err(Error::new(ErrorKind::Database, error));
        }
    }
    store.maintain().await?;
    let page = Page::read(&store).await?;
    drop(store);
    let lake = lake_export(config, &args.lake, &[], options, output).await?;
    Ok(Document { bars: market.count, seconds: began.elapsed().as_secs_f64(), page, lake })
}

/// Whether the bars are still to be replayed: into an empty ledger alone.
async fn is_new(store: &Store, bars: &str) -> Result<bool> {
    let row = store
        .client()
        .await?
        .query_one(
            "-- demo_is_new
             SELECT count(*) FILTER (WHERE producer NOT IN ($1, 'registry')), count(*) FILTER (WHERE producer = $1),
                    (SELECT config ->> 'demo_bars' FROM hitherto.module WHERE name = $2)
             FROM hitherto.ingest_batch",
            &[&PRODUCER, &MARKED],
        )
        .await
        .map_err(|e| Error::database("looking at the ledger", e))?;
    let (others, ours, mark): (i64, i64, Option<String>) = (row.get(0), row.get(1), row.get(2));
    let refuse =
        |what: &str| Err(Error::new(ErrorKind::Refused, format!("{what}; name an empty database or another --data folder, or none")));
    match mark {
        _ if others > 0 => refuse("this database holds other records, and the demo wants one of its own"),
        Some(mark) if ours > 0 && mark == bars => Ok(false),
        Some(_) if ours > 0 => refuse("this database holds the demo of other bars"),
        None if ours > 0 => refuse("this database holds a demo that was interrupted"),
        _ => Ok(true),
    }
}

fn text(d: &Document, args: &Args, data: Option<&str>, database: &Database) -> String {
    let lake = &args.lake;
    let mut text = format!("{} bars through the whole pipe in {:.1} s\n{}", d.bars, d.seconds, d.page.text());
    let rows: u64 = d.lake.iter().map(|e| e.rows).sum();
    let bytes: u64 = d.lake.iter().map(|e| e.bytes).sum();
    text.push_str(&format!(
        "\nLake\n  {lake}: {} datasets, {rows} rows, {:.1} MB of Parquet, one Delta table each\n",
        d.lake.len(),
        bytes as f64 / 1e6
    ));
    let program = std::env::args().next().unwrap_or_else(|| "hitherto".to_owned());
    let elsewhere = if *lake == DEFAULT_LAKE { String::new() } else { format!(" LAKE={lake}") };
    let mut next = vec![
        ("draw it", format!("make notebook{elsewhere}   (in the project's folder)")),
        (
            "load it",
            format!("python -c \"import polars; print(polars.read_delta('{lake}/execution_report'))\"   (pip install polars deltalake)"),
        ),
    ];
    let named = database.named().ok().flatten().is_some();
    let to_decide = d.page.pending.iter().any(|r| r.regime_id == provoked::REGIME);
    match (named, data) {
        (true, _) => {
            let flag = if database.by_flag() { " --database-url ..." } else { "" };
            if let Some(proposal) = &d.page.proposal_id {
                next.push(("trace a decision", format!("{program} trail {proposal}{flag}")));
            }
            if to_decide {
                next.push(("decide on a regime", format!("{program} regime confirm {} --by NAME{flag}", provoked::REGIME)));
            }
            next.push(("look it over", format!("{program} doctor{flag}   (finds the event in quarantine)")));
        }
        (false, data) => {
            let again = again(args, data.unwrap_or("demo-data"));
            if to_decide {
                next.push(("decide on a regime", format!("{program} {again} --confirm-regime NAME")));
            }
            match data {
                Some(data) => next.push(("ask it in SQL", format!("{program} engine --data {data}"))),
                None => next.push(("ask it in SQL", format!("{program} {again} && {program} engine --data demo-data"))),
            }
        }
    }
    text.push_str("\nNext\n");
    for (what, how) in next {
        text.push_str(&format!("  {:<20} {how}\n", format!("{what}:")));
    }
    text
}

/// This demo once more, its data kept.
fn again(args: &Args, data: &str) -> String {
    let mut words = format!("demo --data {data}");
    if let Some(bars) = &args.bars {
        words.push_str(&format!(" --bars {}", bars.display()));
    }
    if args.seed != DEFAULT_SEED {
        words.push_str(&format!(" --seed {}", args.seed));
    }
    if args.lake != DEFAULT_LAKE {
        words.push_str(&format!(" --lake {}", args.lake));
    }
    words
}

//! The `hitherto` command: thin, one subcommand a file.

mod audit;
mod completions;
mod connect;
mod dataset;
mod demo;
mod doctor;
pub mod embedded;
mod engine;
mod export;
mod grant;
mod import_legacy;
#[doc(hidden)]
pub mod ingest;
mod lake;
mod maintain;
mod migrate;
mod order;
mod output;
mod quarantine;
mod regime;
mod retention;
mod spool;
mod trail;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::error::{Error, ErrorKind, Result};
use connect::Database;
use output::Output;

/// A time-series analytics store for trading platforms.
///
/// Modules write what they did, analysts ask how it went in SQL, researchers take it away as Parquet.
/// Try it: hitherto demo
#[derive(Parser, Debug)]
#[command(name = "hitherto", version, propagate_version = true, after_help = AFTER_HELP)]
struct Cli {
    #[command(flatten)]
    database: Database,
    /// Print one JSON document on standard output; logs and progress go to standard error
    #[arg(long, global = true)]
    json: bool,
    /// Say more on standard error; twice for debugging
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
    #[command(subcommand)]
    command: Command,
}

const AFTER_HELP: &str = "\
The database is the one of --database-url, else of DATABASE_URL, else of the PG* variables (PGHOST, PGPORT,
PGDATABASE, PGUSER, PGPASSWORD, PGSSLMODE and others); the demo starts an engine of its own when none is named.
A password that does not stand there is looked for in the file of HITHERTO_PASSWORD_FILE and in ~/.pgpass.

Exit codes: 0 done; 1 a finding, rows rejected or quarantined, or nothing found; 2 usage; 3 database out
of reach; 4 refused (schema too new or edited, privilege, another exporter or spool user at work); 130 interrupted.";

#[derive(Subcommand, Debug)]
enum Command {
    /// Create or upgrade the schema
    Migrate(migrate::Args),
    /// Look for what is wrong: engine, schema, policies, freshness, ledger; exit code 1 on a finding
    Doctor(doctor::Args),
    /// Put newline-delimited JSON into a table
    Ingest(ingest::Args),
    /// Show, verify or send what waits on disk for the database
    Spool(spool::Args),
    /// Copy the database of the system that this store replaces
    ImportLegacy(import_legacy::Args),
    /// Write the Parquet lake, or one dataset into one file
    Export(export::Args),
    /// Look after a lake: history, verify, vacuum, compact
    Lake(lake::Args),
    /// Run what is due: refresh of aggregates, columnstore, retention
    Maintain(maintain::Args),
    /// Show or set how each table is kept: retention, columnstore, refresh of aggregates
    Retention(retention::Args),
    /// Seal the ledger into a chain of blocks, or verify that everything is as it was stored
    Audit(audit::Args),
    /// Put a login into a role: owner, writer, analyst or exporter
    Grant(grant::Args),
    /// Records that could not be stored: show them, try them again, give them up
    Quarantine(quarantine::Args),
    /// Show where an order stands, and its events
    Order(order::Args),
    /// Show every step of a proposal, from signal to fill
    Trail(trail::Args),
    /// The market's regime: show it, propose one, confirm or reject one
    Regime(regime::Args),
    /// A whole trading day through the whole pipe
    Demo(demo::Args),
    /// Run the embedded engine in the foreground, to try SQL on it
    Engine(engine::Args),
    /// Print a shell's completions
    Completions(completions::Args),
}

/// How a command ended that did what it was to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    Done,
    /// There is something that a person should look at.
    Finding,
    /// It was told to stop and did, before its end.
    Interrupted,
}

/// Runs the command with the process's arguments.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            // Help and version are answers, and no usage errors.
            if error.use_stderr() && std::env::args().any(|arg| arg == "--json") {
                Output::new(true).document_of(&Error::new(ErrorKind::Config, error.kind().to_string()));
            }
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    init_tracing(cli.verbose);
    let output = Output::new(cli.json);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => return fail(output, &Error::new(ErrorKind::Config, format!("starting the runtime: {e}"))),
    };
    let ended = runtime.block_on(async {
        // These know themselves how to stop.
        if matches!(cli.command, Command::Engine(_) | Command::Ingest(_) | Command::Export(_)) {
            return run(cli, output).await;
        }
        let mut stop = Stop::listen();
        tokio::select! {
            ended = run(cli, output) => return ended,
            // What was under way is rolled back by the server and by the guards that are dropped.
            () = stop.asked() => {}
        }
        Err(interrupted(stop))
    });
    // A lake that is being published is published whole.
    runtime.block_on(hitherto_export::publishing_ended());
    let code = match ended {
        Ok(Ending::Done) => ExitCode::SUCCESS,
        Ok(Ending::Finding) => ExitCode::from(1),
        Ok(Ending::Interrupted) => ExitCode::from(130),
        Err(error) => fail(output, &error),
    };
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    code
}

async fn run(cli: Cli, output: Output) -> Result<Ending> {
    let database = &cli.database;
    match cli.command {
        Command::Migrate(args) => migrate::run(args, database, output).await,
        Command::Doctor(args) => doctor::run(args, database, output).await,
        Command::Ingest(args) => ingest::run(args, database, output).await,
        Command::Spool(args) => spool::run(args, database, output).await,
        Command::ImportLegacy(args) => import_legacy::run(args, database, output).await,
        Command::Export(args) => export::run(args, database, output).await,
        Command::Lake(args) => lake::run(args, database, output).await,
        Command::Maintain(args) => maintain::run(args, database, output).await,
        Command::Retention(args) => retention::run(args, database, output).await,
        Command::Audit(args) => audit::run(args, database, output).await,
        Command::Grant(args) => grant::run(args, database, output).await,
        Command::Quarantine(args) => quarantine::run(args, database, output).await,
        Command::Order(args) => order::run(args, database, output).await,
        Command::Trail(args) => trail::run(args, database, output).await,
        Command::Regime(args) => regime::run(args, database, output).await,
        Command::Demo(args) => demo::run(args, database, output).await,
        Command::Engine(args) => engine::run(args, output).await,
        Command::Completions(args) => completions::run(&args),
    }
}

/// Hears of Ctrl-C and of polite requests to end, also of those that come between two questions.
struct Stop {
    #[cfg(unix)]
    signals: Option<(tokio::signal::unix::Signal, tokio::signal::unix::Signal)>,
}

impl Stop {
    fn listen() -> Self {
        Self {
            #[cfg(unix)]
            signals: {
                use tokio::signal::unix::{SignalKind, signal};
                signal(SignalKind::interrupt()).and_then(|interrupt| Ok((interrupt, signal(SignalKind::terminate())?))).ok()
            },
        }
    }

    /// Waits for the next.
    async fn asked(&mut self) {
        #[cfg(unix)]
        if let Some((interrupt, terminate)) = &mut self.signals {
            tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
            return;
        }
        let _ = tokio::signal::ctrl_c().await;
    }
}

/// Ctrl-C, or a polite request to end.
async fn stopped() {
    Stop::listen().asked().await;
}

/// Whoever asks once more does not want to wait until everything is in order.
fn interrupted(mut stop: Stop) -> Error {
    tokio::spawn(async move {
        stop.asked().await;
        std::process::exit(130);
    });
    Error::new(ErrorKind::Closed, "interrupted; nothing was left half done")
}

fn fail(output: Output, error: &Error) -> ExitCode {
    output.error(error);
    ExitCode::from(exit_code(error.kind()))
}

fn exit_code(kind: ErrorKind) -> u8 {
    match kind {
        ErrorKind::Config => 2,
        ErrorKind::Unreachable | ErrorKind::Timeout => 3,
        ErrorKind::Refused | ErrorKind::Conflict => 4,
        ErrorKind::Closed => 130,
        _ => 1,
    }
}

fn init_tracing(verbose: u8) {
    let default = match verbose {
        0 => "warn,hitherto=info",
        1 => "info,hitherto=debug",
        _ => "debug",
    };
    let filter = tracing_subscriber::EnvFilter::try_from_env("HITHERTO_LOG").unwrap_or_else(|_| default.into());
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()) && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty()))
        .with_target(false)
        .without_time()
        .try_init();
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn flags_do_not_clash() {
        super::Cli::command().debug_assert();
    }
}

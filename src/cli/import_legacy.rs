//! `hitherto import-legacy`

use super::Ending;
use super::connect::Database;
use super::output::{Output, table};
use crate::config::Config;
use crate::error::Result;

/// Copy the database of the system that this store replaces.
///
/// Reads its six tables (module_registry, module_health_checks, regime_states, risk_evaluations, execution_reports,
/// portfolio_snapshots) from one snapshot and stores their rows under this store's rules. Run again, it adds
/// what is new and tries again what was refused. Rows that break a rule go to hitherto.quarantine with the reason; exit code 1 says that there are some.
/// Ids are given anew; modules are matched by name.
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// The old database: postgresql://user:password@host:5432/database
    #[arg(long, value_name = "URL", env = "HITHERTO_LEGACY_URL", hide_env_values = true)]
    from: String,
    /// Its schema with the old tables
    #[arg(long, default_value = "public", value_name = "NAME")]
    schema: String,
}

pub(super) async fn run(args: Args, database: &Database, output: Output) -> Result<Ending> {
    let from = Config::from_url(&args.from)?;
    let store = database.store().await?;
    let bar = output.bar("import", 0);
    let imported = store.legacy_import(&from, &args.schema, |table, rows| bar.set_message(format!("{table}: {rows}"))).await?;
    bar.finish_and_clear();
    output.print(&imported, |imported| {
        let rows: Vec<Vec<String>> = imported
            .iter()
            .map(|t| {
                vec![
                    t.table_name.clone(),
                    t.old_rows.to_string(),
                    t.stored_now.to_string(),
                    t.stored.to_string(),
                    t.refused.to_string(),
                    t.gone.to_string(),
                ]
            })
            .collect();
        let mut text = table(&["old table", "rows there", "stored now", "stored in all", "refused", "gone there"], &rows);
        if imported.iter().any(|t| t.refused > 0) {
            text.push_str(
                "\nwhy rows were refused: SELECT table_name, reason, record FROM hitherto.quarantine WHERE producer = 'import-legacy'\n",
            );
        }
        text
    })?;
    let whole = imported.iter().all(|t| t.refused == 0);
    Ok(if whole { Ending::Done } else { Ending::Finding })
}

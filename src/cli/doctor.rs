//! `hitherto doctor`

use serde::Serialize;

use super::Ending;
use super::connect::Database;
use super::output::{Output, table};
use crate::engine::{Capabilities, Engine};
use crate::error::{Error, Result};
use crate::migrate::SchemaState;
use crate::store::{Freshness, LedgerTotal, LooseEnd, ModuleSilence, Store};

/// Look for what is wrong: engine and versions, schema, policies, freshness of aggregates, ledger, silent
/// modules, references that lead nowhere.
/// Changes nothing. Exit code 1 when there is something that a person should look at.
#[derive(clap::Args, Debug)]
pub(super) struct Args {}

#[derive(Serialize)]
struct Report {
    database: String,
    capabilities: Capabilities,
    schema: SchemaState,
    /// The schema's version, as this program wants it.
    schema_version: i32,
    freshness: Vec<Freshness>,
    ledger: Vec<LedgerTotal>,
    hypertables: Vec<String>,
    /// How long raw rows are kept, by table; the others for ever.
    retention: Vec<String>,
    silence: Vec<ModuleSilence>,
    loose_ends: Vec<LooseEnd>,
    findings: Vec<String>,
}

pub(super) async fn run(_: Args, database: &Database, output: Output) -> Result<Ending> {
    let (store, schema) = Store::connect_unchecked(database.config()?).await?;
    let mut report = Report {
        database: store.config().to_string(),
        capabilities: store.capabilities().clone(),
        schema,
        schema_version: crate::migrate::schema_version(store.capabilities().engine),
        freshness: Vec::new(),
        ledger: Vec::new(),
        hypertables: Vec::new(),
        retention: Vec::new(),
        silence: Vec::new(),
        loose_ends: Vec::new(),
        findings: Vec::new(),
    };
    match report.schema.require_current() {
        Err(error) => report.findings.push(error.to_string()),
        Ok(()) => look(&store, &mut report).await?,
    }
    output.print(&report, text)?;
    Ok(if report.findings.is_empty() { Ending::Done } else { Ending::Finding })
}

async fn look(store: &Store, report: &mut Report) -> Result<()> {
    report.freshness = store.aggregate_freshness().await?;
    report.ledger = store.ledger_totals().await?;
    for f in &report.freshness {
        if let Some(error) = &f.last_error {
            report.findings.push(format!("{}: its last refresh failed: {error}", f.view_name));
        }
        if let (Some(from), Some(until)) = (f.stale_from, f.stale_until) {
            report.findings.push(format!("{}: rows from {from} to {until} do not show yet; run: hitherto maintain", f.view_name));
        }
    }
    for total in report.ledger.iter().filter(|total| total.unresolved > 0) {
        report.findings.push(format!("{}: {} rows wait in quarantine; see: hitherto quarantine list", total.table_name, total.unresolved));
    }
    look_at_modules(store, report).await?;
    report.loose_ends = store.loose_ends().await?;
    for end in &report.loose_ends {
        report.findings.push(format!(
            "{}: {} of the last week name a {} that is not stored; the newest: {}",
            end.table_name,
            end.count,
            end.names,
            end.newest.join(", ")
        ));
    }
    report.findings.extend(store.role_flaws().await?);
    let client = store.client().await?;
    let doing = "looking at the database";
    // No foreign key guards these two: checking it would halve the speed of COPY.
    let orphans = client
        .query(
            "-- doctor_orphans
             SELECT 'module_execution', module_id FROM (SELECT DISTINCT module_id FROM hitherto.module_execution_day_aggregate) e
             WHERE NOT EXISTS (SELECT FROM hitherto.module m WHERE m.module_id = e.module_id)
             UNION ALL
             SELECT 'health_check', module_id FROM (SELECT DISTINCT module_id FROM hitherto.health_check_day_aggregate) h
             WHERE NOT EXISTS (SELECT FROM hitherto.module m WHERE m.module_id = h.module_id)",
            &[],
        )
        .await
        .map_err(|e| Error::database(doing, e))?;
    for row in orphans {
        report.findings.push(format!(
            "{}: rows of module_id {}, which is not in hitherto.module",
            row.get::<_, &str>(0),
            row.get::<_, i64>(1)
        ));
    }
    let rows = client
        .query("-- doctor_retention\nSELECT format('%s: %s', table_name, drop_after) FROM hitherto.retention_policy ORDER BY 1", &[])
        .await
        .map_err(|e| Error::database(doing, e))?;
    report.retention = rows.iter().map(|row| row.get(0)).collect();
    if store.capabilities().engine == Engine::Timescaledb {
        let rows = client
            .query("-- doctor_hypertables\nSELECT hypertable_name::text FROM timescaledb_information.hypertables WHERE hypertable_schema = 'hitherto' ORDER BY 1", &[])
            .await
            .map_err(|e| Error::database(doing, e))?;
        report.hypertables = rows.iter().map(|row| row.get(0)).collect();
        let failed = client
            .query(
                "-- doctor_jobs
                 SELECT j.job_id, j.proc_name::text FROM timescaledb_information.jobs j JOIN timescaledb_information.job_stats s USING (job_id)
                 WHERE s.last_run_status = 'Failed' AND (j.hypertable_schema IN ('hitherto', '_timescaledb_internal') OR j.proc_schema = 'hitherto')
                   -- Somebody else was at the same work: the next run will do.
                   AND '55P03' IS DISTINCT FROM (SELECT e.sqlerrcode FROM timescaledb_information.job_errors e
                                                 WHERE e.job_id = j.job_id ORDER BY e.finish_time DESC LIMIT 1)",
                &[],
            )
            .await
            .map_err(|e| Error::database(doing, e))?;
        for row in failed {
            report.findings.push(format!(
                "job {} ({}) failed; see timescaledb_information.job_errors",
                row.get::<_, i32>(0),
                row.get::<_, &str>(1)
            ));
        }
        let strayed = client
            .query(
                "-- doctor_columnstore_jobs
                 SELECT p.table_name FROM hitherto.upkeep_policy p JOIN timescaledb_information.jobs j ON j.hypertable_name = p.table_name
                 WHERE j.hypertable_schema = 'hitherto' AND j.proc_name = 'policy_compression'
                   AND CASE WHEN j.scheduled THEN (j.config ->> 'compress_after')::interval END IS DISTINCT FROM p.columnstore_after ORDER BY 1",
                &[],
            )
            .await
            .map_err(|e| Error::database(doing, e))?;
        for row in strayed {
            report.findings.push(format!(
                "{0}: its columnstore job says otherwise than hitherto.upkeep_policy; set it: hitherto retention set {0} --columnstore-after ...",
                row.get::<_, &str>(0)
            ));
        }
        for table in ["module_execution", "health_check", "signal", "risk_evaluation", "order_event", "portfolio_snapshot"] {
            if !report.hypertables.iter().any(|h| h == table) {
                report.findings.push(format!("{table} is not a hypertable"));
            }
        }
    }
    Ok(())
}

async fn look_at_modules(store: &Store, report: &mut Report) -> Result<()> {
    report.silence = store.module_silence().await?;
    let minutes = |seconds: Option<f64>| format!("{:.0} min", seconds.unwrap_or_default() / 60.0);
    for m in report.silence.iter().filter(|m| m.silent) {
        report.findings.push(format!(
            "module {}: silent for {} while others spoke, where it usually speaks every {}; if that is meant, set its status to inactive or maintenance",
            m.module,
            minutes(m.silent_for_seconds),
            minutes(m.usual_interval_seconds)
        ));
    }
    if let Some(since) = store.silent_since().await? {
        report.findings.push(format!("no module has written anything since {}", since.format("%Y-%m-%d %H:%M:%S UTC")));
    }
    Ok(())
}

fn text(report: &Report) -> String {
    let c = &report.capabilities;
    let timescaledb = c.timescaledb_version.as_ref().map(|v| format!(", TimescaleDB {v}")).unwrap_or_default();
    let embedded = if c.embedded { ", embedded (for trying out)" } else { "" };
    let mut text = format!("{}: PostgreSQL {}{timescaledb}{embedded}\n", report.database, c.server_version);
    if report.schema == SchemaState::Current {
        text.push_str(&format!("schema version {}\n", report.schema_version));
        if !report.hypertables.is_empty() {
            text.push_str(&format!("hypertables: {}\n", report.hypertables.join(", ")));
        }
        let kept = if report.retention.is_empty() {
            "all rows for ever".to_owned()
        } else {
            format!("{}; the others for ever", report.retention.join(", "))
        };
        text.push_str(&format!("kept: {kept}\n"));
    }
    if !report.ledger.is_empty() {
        let rows: Vec<Vec<String>> = report
            .ledger
            .iter()
            .map(|l| {
                let time =
                    |t: &Option<chrono::DateTime<chrono::Utc>>| t.map(|t| t.format("%Y-%m-%d %H:%M").to_string()).unwrap_or_default();
                vec![
                    l.table_name.clone(),
                    l.rows.to_string(),
                    l.batches.to_string(),
                    l.quarantined.to_string(),
                    time(&l.min_time),
                    time(&l.max_time),
                ]
            })
            .collect();
        text.push_str(&format!("\nledger\n{}", table(&["table", "rows", "batches", "quarantined", "from", "to"], &rows)));
    }
    if c.engine == Engine::Timescaledb && !report.freshness.is_empty() {
        let rows: Vec<Vec<String>> = report
            .freshness
            .iter()
            .map(|f| {
                let until = f.materialized_until.map(|t| t.format("%Y-%m-%d %H:%M").to_string()).unwrap_or_default();
                vec![f.view_name.clone(), until, format!("{:.0}", f.lag_seconds)]
            })
            .collect();
        text.push_str(&format!("\naggregates\n{}", table(&["view", "materialised until", "lag (s)"], &rows)));
    }
    if report.findings.is_empty() {
        text.push_str("\nall is well\n");
    } else {
        text.push_str("\nfindings\n");
        for finding in &report.findings {
            text.push_str(&format!("  - {finding}\n"));
        }
    }
    text
}

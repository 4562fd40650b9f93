//! The page that the demo ends with, all of it asked of the views.

use serde::Serialize;

use super::super::output::table;
use super::provoked::ASSET;
use crate::error::{Error, Result};
use crate::records::Decimal;
use crate::store::Store;

#[derive(Debug, Serialize)]
pub(super) struct Page {
    modules: Vec<ModuleLine>,
    assets: Vec<AssetLine>,
    regime: Option<RegimeLine>,
    regimes: i64,
    /// Regimes that wait for a person to decide.
    pub(super) pending: Vec<PendingRegime>,
    anomalies: Vec<AnomalyLine>,
    equity: Equity,
    rows: i64,
    batches: i64,
    /// Rows that were refused, each with its reason.
    quarantined: i64,
    /// A proposal that ended in a fill, to look at.
    pub(super) proposal_id: Option<String>,
}

#[derive(Debug, Serialize)]
struct ModuleLine {
    module: String,
    executions: i64,
    success_rate: Option<f64>,
    mean_ms: Option<f64>,
    p95_ms: Option<f64>,
}

#[derive(Debug, Serialize)]
struct AssetLine {
    asset: Option<String>,
    submitted: i64,
    filled: i64,
    cancelled: i64,
    rejected: i64,
    expired: i64,
    fill_rate: Option<f64>,
    commission: Decimal,
}

#[derive(Debug, Serialize)]
struct RegimeLine {
    regime: String,
    confidence: f64,
    since: chrono::DateTime<chrono::Utc>,
    decided_by: Option<String>,
    reasoning: Option<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct PendingRegime {
    pub(super) regime_id: String,
    regime: String,
    confidence: f64,
    reasoning: Option<String>,
}

#[derive(Debug, Serialize)]
struct AnomalyLine {
    anomaly: String,
    orders: i64,
    explanation: Option<String>,
}

#[derive(Debug, Serialize)]
struct Equity {
    open: Option<Decimal>,
    close: Option<Decimal>,
    max_drawdown: f64,
    hours: Vec<f64>,
}

impl Page {
    pub(super) async fn read(store: &Store) -> Result<Self> {
        let (regime, pending) = (store.regime_active().await?, store.regime_pending().await?);
        let client = store.client().await?;
        let query = async |text: &'static str| client.query(text, &[]).await.map_err(|e| Error::database("reading the views", e));
        let modules = query(
            "-- demo_modules
             SELECT s.name::text, s.execution_count, s.success_rate, s.avg_execution_time_ms,
                    hitherto.latency_percentile(0.95, s.name, r.range_from, r.range_to)
             FROM hitherto.module_stats s
             CROSS JOIN (SELECT min(min_time) AS range_from, max(max_time) + INTERVAL '1 second' AS range_to
                         FROM hitherto.ingest_batch WHERE table_name = 'module_execution') r
             WHERE s.execution_count > 0 ORDER BY s.name",
        )
        .await?;
        let assets = query(
            "-- demo_assets
             SELECT asset, sum(submitted)::bigint, sum(filled)::bigint, sum(cancelled)::bigint, sum(rejected)::bigint, sum(expired)::bigint,
                    sum(filled)::float8 / nullif(sum(submitted), 0)::float8, sum(commission)::numeric(38,18)
             FROM hitherto.order_execution_day GROUP BY asset ORDER BY asset",
        )
        .await?;
        let anomalies = query(
            "-- demo_anomalies
             SELECT anomaly, count(*), min(explanation) FROM hitherto.order_anomaly GROUP BY anomaly ORDER BY anomaly",
        )
        .await?;
        let hours =
            query("-- demo_equity\nSELECT open::numeric(38,18), close::numeric(38,18) FROM hitherto.portfolio_value_hour ORDER BY bucket")
                .await?;
        let totals = query(
            "-- demo_totals
             SELECT (SELECT coalesce(sum(row_count), 0)::bigint FROM hitherto.ingest_batch), (SELECT count(*) FROM hitherto.ingest_batch),
                    (SELECT count(*) FROM hitherto.regime_timeline),
                    (SELECT min(proposal_id)::text FROM hitherto.execution_report WHERE status = 'filled'),
                    (SELECT hitherto.max_drawdown(total_value ORDER BY taken_at, snapshot_id) FROM hitherto.portfolio_snapshot),
                    (SELECT count(*) FROM hitherto.quarantine)",
        )
        .await?;
        let closes: Vec<Decimal> = hours.iter().map(|row| row.get(1)).collect();
        Ok(Self {
            modules: modules
                .iter()
                .map(|row| ModuleLine {
                    module: row.get(0),
                    executions: row.get(1),
                    success_rate: row.get(2),
                    mean_ms: row.get(3),
                    p95_ms: row.get(4),
                })
                .collect(),
            assets: assets
                .iter()
                .map(|row| AssetLine {
                    asset: row.get(0),
                    submitted: row.get(1),
                    filled: row.get(2),
                    cancelled: row.get(3),
                    rejected: row.get(4),
                    expired: row.get(5),
                    fill_rate: row.get(6),
                    commission: row.get(7),
                })
                .collect(),
            regime: regime.and_then(|r| {
                Some(RegimeLine {
                    regime: r.regime.to_string(),
                    confidence: r.confidence,
                    since: r.effective_from?,
                    decided_by: r.decided_by,
                    reasoning: r.reasoning,
                })
            }),
            regimes: totals[0].get(2),
            pending: pending
                .into_iter()
                .map(|r| PendingRegime {
                    regime_id: r.regime_id,
                    regime: r.regime.to_string(),
                    confidence: r.confidence,
                    reasoning: r.reasoning,
                })
                .collect(),
            anomalies: anomalies
                .iter()
                .map(|row| AnomalyLine { anomaly: row.get(0), orders: row.get(1), explanation: row.get(2) })
                .collect(),
            equity: Equity {
                open: hours.first().map(|row| row.get(0)),
                close: closes.last().copied(),
                max_drawdown: totals[0].get::<_, Option<f64>>(4).unwrap_or_default(),
                hours: closes.iter().map(|c| c.to_f64()).collect(),
            },
            rows: totals[0].get(0),
            batches: totals[0].get(1),
            quarantined: totals[0].get(5),
            proposal_id: totals[0].get(3),
        })
    }

    pub(super) fn text(&self) -> String {
        let percent = |rate: Option<f64>| rate.map(|r| format!("{:.1} %", r * 100.0)).unwrap_or_default();
        let ms = |ms: Option<f64>| ms.map(|ms| format!("{ms:.3}")).unwrap_or_default();
        let modules: Vec<Vec<String>> = self
            .modules
            .iter()
            .map(|m| vec![m.module.clone(), m.executions.to_string(), percent(m.success_rate), ms(m.mean_ms), ms(m.p95_ms)])
            .collect();
        let assets: Vec<Vec<String>> = self
            .assets
            .iter()
            .map(|a| {
                let counts = [a.submitted, a.filled, a.cancelled, a.rejected, a.expired].map(|n| n.to_string());
                let mut cells = vec![a.asset.clone().unwrap_or_default()];
                cells.extend(counts);
                cells.extend([percent(a.fill_rate), format!("{:.2}", a.commission.to_f64())]);
                cells
            })
            .collect();
        let mut text = format!(
            "\n{} rows in {} batches, each in the ledger; {} in quarantine\n\nModules\n{}",
            self.rows,
            self.batches,
            self.quarantined,
            table(&["module", "runs", "success", "mean ms", "p95 ms"], &modules)
        );
        text.push_str(&format!(
            "\nOrders\n{}",
            table(&["asset", "submitted", "filled", "cancelled", "rejected", "expired", "fill rate", "commission"], &assets)
        ));
        let anomalies: Vec<Vec<String>> = self
            .anomalies
            .iter()
            .map(|a| vec![a.anomaly.clone(), a.orders.to_string(), a.explanation.clone().unwrap_or_default()])
            .collect();
        text.push_str(&format!(
            "\nAnomalies, provoked with the asset {ASSET}\n{}",
            table(&["anomaly", "orders", "what happened"], &anomalies)
        ));
        if let Some(r) = &self.regime {
            text.push_str(&format!(
                "\nRegime\n  {} since {} UTC by {}, confidence {:.0} % ({}); {} regimes in all\n",
                r.regime,
                r.since.format("%Y-%m-%d %H:%M"),
                r.decided_by.as_deref().unwrap_or("nobody"),
                r.confidence * 100.0,
                r.reasoning.as_deref().unwrap_or("no reason given"),
                self.regimes
            ));
        }
        for p in &self.pending {
            let why = p.reasoning.as_deref().unwrap_or("no reason given");
            text.push_str(&format!("  to be decided: {}, confidence {:.0} % ({why})\n", p.regime, p.confidence * 100.0));
        }
        if let (Some(open), Some(close)) = (self.equity.open, self.equity.close) {
            let change = (close.to_f64() / open.to_f64() - 1.0) * 100.0;
            text.push_str(&format!(
                "\nEquity\n  {}\n  {:.2} to {:.2} ({change:+.2} %), largest fall {:.2} %\n",
                sparkline(&self.equity.hours, 72),
                open.to_f64(),
                close.to_f64(),
                self.equity.max_drawdown * 100.0
            ));
        }
        text
    }
}

/// A line of block characters, `width` at most, from the lowest value to the highest.
fn sparkline(values: &[f64], width: usize) -> String {
    const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let (low, high) = values.iter().fold((f64::MAX, f64::MIN), |(l, h), v| (l.min(*v), h.max(*v)));
    let count = values.len().min(width);
    (0..count)
        .map(|at| {
            let value = values[at * values.len() / count];
            let height = if high > low { (value - low) / (high - low) * 7.0 } else { 3.0 };
            BLOCKS[height.round() as usize]
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::sparkline;

    #[test]
    fn a_rise_climbs_from_the_lowest_block_to_the_highest() {
        let line = sparkline(&(0..100).map(f64::from).collect::<Vec<_>>(), 20);
        assert_eq!(line.chars().count(), 20);
        assert!(line.starts_with('▁') && line.ends_with(['▇', '█']), "{line}");
        assert_eq!(sparkline(&[5.0, 5.0], 10).chars().count(), 2);
        assert_eq!(sparkline(&[], 10), "");
    }
}

//! The datasets of the lake: every table under its own name.

use hitherto_export::Dataset;

use crate::error::{Error, ErrorKind, Result};

/// What a dataset is made of.
struct Plan {
    name: &'static str,
    query: &'static str,
    time_column: Option<&'static str>,
    sort: &'static [&'static str],
    dictionary: &'static [&'static str],
}

const PLANS: &[Plan] = &[
    Plan {
        name: "module",
        query: "SELECT module_id, name, version, status, config, error_message, registered_at, updated_at FROM hitherto.module",
        time_column: None,
        sort: &["name"],
        dictionary: &["status"],
    },
    Plan {
        name: "module_execution",
        query: "SELECT e.started_at, e.module_id, m.name AS module, e.execution_id, e.duration_ms, e.success, e.error_message, e.details, e.batch_id
                FROM hitherto.module_execution e LEFT JOIN hitherto.module m USING (module_id)",
        time_column: Some("started_at"),
        sort: &["module_id", "started_at", "execution_id"],
        dictionary: &["module"],
    },
    Plan {
        name: "health_check",
        query: "SELECT h.checked_at, h.module_id, m.name AS module, h.status, h.response_time_ms, h.error_count, h.memory_usage_mb,
                       h.cpu_usage_percent, h.details, h.batch_id
                FROM hitherto.health_check h LEFT JOIN hitherto.module m USING (module_id)",
        time_column: Some("checked_at"),
        sort: &["module_id", "checked_at"],
        dictionary: &["module", "status"],
    },
    Plan {
        name: "signal",
        query: "SELECT s.emitted_at, s.module_id, m.name AS module, s.signal_id, s.kind, s.asset, s.score, s.confidence, s.payload, s.batch_id
                FROM hitherto.signal s LEFT JOIN hitherto.module m USING (module_id)",
        time_column: Some("emitted_at"),
        sort: &["module_id", "emitted_at", "signal_id"],
        dictionary: &["module", "kind", "asset"],
    },
    Plan {
        name: "regime_state",
        query: "SELECT regime_id, regime, confidence, method, classified_by, reasoning, notes, context, requires_confirmation, status, proposed_at,
                       decide_by, decided_at, decided_by, effective_from, effective_until FROM hitherto.regime_state",
        time_column: None,
        sort: &["proposed_at", "regime_id"],
        dictionary: &["regime", "status"],
    },
    Plan {
        name: "proposal",
        query: "SELECT p.proposal_id, p.module_id, m.name AS module, p.proposed_at, p.asset, p.payload, p.batch_id
                FROM hitherto.proposal p LEFT JOIN hitherto.module m USING (module_id)",
        time_column: None,
        sort: &["module_id", "proposed_at", "proposal_id"],
        dictionary: &["module", "asset"],
    },
    Plan {
        name: "risk_evaluation",
        query: "SELECT r.evaluated_at, r.evaluation_id, r.proposal_id, r.module_id, m.name AS module, r.risk_level, r.verdict, r.var_99,
                       r.expected_shortfall, r.max_drawdown, r.sharpe_ratio, r.flags, r.recommendations, r.method, r.model_version, r.batch_id
                FROM hitherto.risk_evaluation r LEFT JOIN hitherto.module m USING (module_id)",
        time_column: Some("evaluated_at"),
        sort: &["module_id", "evaluated_at", "evaluation_id"],
        dictionary: &["module", "risk_level", "verdict", "method", "model_version"],
    },
    Plan {
        name: "order_event",
        query: "SELECT event_at, order_id, event_id, sequence, proposal_id, event_type, asset, side, order_type, quantity, price, last_quantity,
                       last_price, commission, broker, reason, ref_event_id, details, recorded_at, batch_id FROM hitherto.order_event",
        time_column: Some("event_at"),
        sort: &["order_id", "event_at", "event_id"],
        dictionary: &["event_type", "asset", "side", "order_type", "broker"],
    },
    Plan {
        name: "execution_report",
        query: "SELECT order_id, proposal_id, asset, side, order_type, quantity, status, filled_quantity, leaves_quantity, average_fill_price,
                       total_commission, submitted_at, first_fill_at, filled_at, closed_at, broker, anomalies, event_count, last_event_at
                FROM hitherto.execution_report",
        time_column: None,
        sort: &["order_id"],
        dictionary: &["asset", "side", "order_type", "status", "broker"],
    },
    Plan {
        name: "portfolio_snapshot",
        query: "SELECT taken_at, snapshot_id, positions, cash_balance, total_value, portfolio_var, portfolio_volatility,
                       max_position_concentration, correlation_risk, reason, market_hours, batch_id FROM hitherto.portfolio_snapshot",
        time_column: Some("taken_at"),
        sort: &["taken_at", "snapshot_id"],
        dictionary: &["reason"],
    },
];

impl Plan {
    fn dataset(&self) -> Dataset {
        let texts = |words: &[&str]| words.iter().map(|w| (*w).to_owned()).collect();
        let horizon = format!("SELECT max(dropped_before) FROM hitherto.retention_horizon WHERE table_name = '{}'", self.name);
        // Batches that lie wholly within the range and past what retention has dropped: all their rows are there.
        let in_ledger = self.time_column.is_some() || self.name == "proposal";
        let expected_rows = in_ledger.then(|| {
            format!(
                "SELECT coalesce(sum(row_count), 0)::bigint FROM hitherto.ingest_batch
                 WHERE table_name = '{}' AND min_time >= coalesce(({horizon}), '-infinity')
                   AND min_time >= coalesce($1, '-infinity'::timestamptz) AND max_time < coalesce($2, 'infinity'::timestamptz)",
                self.name
            )
        });
        let span = self.time_column.map(|_| {
            format!(
                "SELECT greatest(min(min_time), ({horizon})), max(max_time) FROM hitherto.ingest_batch WHERE table_name = '{}'",
                self.name
            )
        });
        Dataset {
            name: self.name.to_owned(),
            query: self.query.to_owned(),
            time_column: self.time_column.map(str::to_owned),
            sort: texts(self.sort),
            dictionary: texts(self.dictionary),
            tables: vec![format!("hitherto.{}", self.name), "hitherto.module".to_owned()],
            expected_rows,
            span,
            dropped_before: self.time_column.map(|_| horizon),
            ledger: in_ledger.then(|| ledger(self.name)),
            anchor: in_ledger.then(|| anchor(self.name)),
            batch_column: in_ledger.then(|| "batch_id".to_owned()),
            fingerprint: (!in_ledger).then(|| fingerprint(self.name)),
            joined: self.query.contains("JOIN hitherto.module m").then(|| MODULE_NAMES.to_owned()),
            ..Dataset::default()
        }
    }
}

/// Lines of a table's ledger: those of one day as one. A line of a transaction that is still to come is of the server that the database
/// was dumped from: no export but a full one looks at it.
fn ledger(table: &str) -> String {
    format!(
        "WITH line AS (
             SELECT batch_id, row_count, min_time, max_time, (min_time AT TIME ZONE 'UTC')::date AS first, (max_time AT TIME ZONE 'UTC')::date AS last
             FROM hitherto.ingest_batch
             WHERE table_name = '{table}' AND row_count > 0 AND xid >= $1::text::xid8
               AND ($1::text = '0' OR xid < pg_snapshot_xmax(pg_current_snapshot()))
               AND ($2::timestamptz IS NULL OR max_time >= $2) AND ($3::timestamptz IS NULL OR min_time < $3)
         )
         SELECT min(min_time), max(max_time), sum(row_count)::bigint, NULL::uuid FROM line WHERE first IS NOT DISTINCT FROM last GROUP BY first
         UNION ALL
         SELECT min_time, max_time, row_count, batch_id FROM line WHERE first <> last"
    )
}

/// The last line before a transaction.
fn anchor(table: &str) -> String {
    format!(
        "SELECT coalesce((SELECT uuid_hash_extended(batch_id, 0) FROM hitherto.ingest_batch WHERE table_name = '{table}' AND xid < $1::text::xid8
                          ORDER BY xid DESC, batch_id DESC LIMIT 1), 0)"
    )
}

/// Of a table that is changed in place: every version of a row has a place (ctid) that is its own among those of its
/// transaction (xmin), so the same pairs are the same rows. What moves rows without changing them (VACUUM FULL, CLUSTER,
/// a restore) makes another fingerprint, too. Columns that are large are not looked at.
fn fingerprint(table: &str) -> String {
    format!(
        "SELECT hashint8extended(count(*), coalesce(bit_xor(hashtidextended(ctid, xmin::text::bigint)), 0)) & 9223372036854775807
         FROM hitherto.{table}"
    )
}

/// Rows carry their module's name, which may be changed; new modules have larger numbers.
const MODULE_NAMES: &str = "
    SELECT max(module_id), coalesce(bit_xor(h), 0), coalesce(bit_xor(h) FILTER (WHERE module_id <= $1::bigint), 0)
    FROM (SELECT module_id, hashtextextended(name, module_id) AS h FROM hitherto.module) AS m";

/// A server's history of transactions: another system, another timeline (restored to a point in time, or promoted) or
/// another database number them by themselves.
pub(super) const IDENTITY: &str = "
    SELECT format('%s:%s:%s', c.system_identifier,
                  CASE WHEN pg_is_in_recovery() THEN (SELECT timeline_id FROM pg_control_checkpoint())
                       ELSE ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::integer END, d.oid)
    FROM pg_control_system() c, pg_database d WHERE d.datname = current_database()";

/// When the earliest line was written that the next export looks at again.
pub(super) const LAG: &str = "
    SELECT min(committed_at) FROM hitherto.ingest_batch WHERE xid >= $1::text::xid8 AND xid < pg_snapshot_xmax(pg_current_snapshot())";

/// The datasets of these names, each once, or all.
pub(super) fn datasets(names: &[String]) -> Result<Vec<Dataset>> {
    let known: Vec<&str> = PLANS.iter().map(|plan| plan.name).collect();
    let mut wanted: Vec<&Plan> = Vec::new();
    for name in names {
        let name = name.replace('-', "_");
        match PLANS.iter().find(|plan| plan.name == name) {
            Some(plan) if wanted.iter().all(|w| w.name != plan.name) => wanted.push(plan),
            Some(_) => {}
            None => {
                let near = near(&name, &known).map(|near| format!("; did you mean {near}?")).unwrap_or_else(|| ".".to_owned());
                let message = format!("there is no dataset '{name}'{near} There are {}", known.join(", "));
                return Err(Error::new(ErrorKind::Config, message));
            }
        }
    }
    let all = PLANS.iter().filter(|_| names.is_empty());
    Ok(wanted.into_iter().chain(all).map(Plan::dataset).collect())
}

/// Names that are alike, by Jaro and Winkler, are more so than this.
const ALIKE: f64 = 0.8;

/// The one among names that somebody is likely to have meant.
fn near<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    let alike = known.iter().map(|other| (strsim::jaro_winkler(&name.to_lowercase(), other), *other));
    alike.filter(|(alike, _)| *alike > ALIKE).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, other)| other)
}

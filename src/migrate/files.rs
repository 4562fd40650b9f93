//! The SQL files, compiled in. A test compares this list with the folders.

use super::File;

/// Tables, constraints, comments and functions: every engine.
pub(super) const SCHEMA: &[File] = &[
    File { name: "schema/001_schema_migration", sql: include_str!("../../sql/schema/001_schema_migration.sql") },
    File { name: "schema/002_ingest_batch", sql: include_str!("../../sql/schema/002_ingest_batch.sql") },
    File { name: "schema/003_quarantine", sql: include_str!("../../sql/schema/003_quarantine.sql") },
    File { name: "schema/010_module", sql: include_str!("../../sql/schema/010_module.sql") },
    File { name: "schema/011_module_execution", sql: include_str!("../../sql/schema/011_module_execution.sql") },
    File { name: "schema/012_health_check", sql: include_str!("../../sql/schema/012_health_check.sql") },
    File { name: "schema/013_signal", sql: include_str!("../../sql/schema/013_signal.sql") },
    File { name: "schema/014_regime_state", sql: include_str!("../../sql/schema/014_regime_state.sql") },
    File { name: "schema/015_proposal", sql: include_str!("../../sql/schema/015_proposal.sql") },
    File { name: "schema/016_risk_evaluation", sql: include_str!("../../sql/schema/016_risk_evaluation.sql") },
    File { name: "schema/017_order_event", sql: include_str!("../../sql/schema/017_order_event.sql") },
    File { name: "schema/018_execution_report", sql: include_str!("../../sql/schema/018_execution_report.sql") },
    File { name: "schema/019_portfolio_snapshot", sql: include_str!("../../sql/schema/019_portfolio_snapshot.sql") },
    File { name: "schema/020_aggregate", sql: include_str!("../../sql/schema/020_aggregate.sql") },
    File { name: "schema/021_retention_policy", sql: include_str!("../../sql/schema/021_retention_policy.sql") },
    File { name: "schema/130_order_event_key", sql: include_str!("../../sql/schema/130_order_event_key.sql") },
    File { name: "schema/135_regime_event", sql: include_str!("../../sql/schema/135_regime_event.sql") },
    File { name: "schema/140_canonical", sql: include_str!("../../sql/schema/140_canonical.sql") },
    File { name: "schema/141_append_only", sql: include_str!("../../sql/schema/141_append_only.sql") },
    File { name: "schema/142_audit", sql: include_str!("../../sql/schema/142_audit.sql") },
    File { name: "schema/150_upkeep_policy", sql: include_str!("../../sql/schema/150_upkeep_policy.sql") },
    File { name: "schema/152_module_heard", sql: include_str!("../../sql/schema/152_module_heard.sql") },
    File { name: "schema/160_legacy", sql: include_str!("../../sql/schema/160_legacy.sql") },
    File { name: "schema/161_legacy_import", sql: include_str!("../../sql/schema/161_legacy_import.sql") },
    File { name: "schema/170_writer", sql: include_str!("../../sql/schema/170_writer.sql") },
    File { name: "schema/171_owner_step", sql: include_str!("../../sql/schema/171_owner_step.sql") },
    File { name: "schema/172_quarantine_resolution", sql: include_str!("../../sql/schema/172_quarantine_resolution.sql") },
    File { name: "schema/176_order_event_store", sql: include_str!("../../sql/schema/176_order_event_store.sql") },
];

/// What only TimescaleDB has.
pub(super) const TIMESCALEDB: &[File] = &[
    File { name: "timescaledb/100_extension", sql: include_str!("../../sql/timescaledb/100_extension.sql") },
    File { name: "timescaledb/111_module_execution", sql: include_str!("../../sql/timescaledb/111_module_execution.sql") },
    File { name: "timescaledb/112_health_check", sql: include_str!("../../sql/timescaledb/112_health_check.sql") },
    File { name: "timescaledb/113_signal", sql: include_str!("../../sql/timescaledb/113_signal.sql") },
    File { name: "timescaledb/116_risk_evaluation", sql: include_str!("../../sql/timescaledb/116_risk_evaluation.sql") },
    File { name: "timescaledb/117_order_event", sql: include_str!("../../sql/timescaledb/117_order_event.sql") },
    File { name: "timescaledb/119_portfolio_snapshot", sql: include_str!("../../sql/timescaledb/119_portfolio_snapshot.sql") },
    File { name: "timescaledb/120_aggregate", sql: include_str!("../../sql/timescaledb/120_aggregate.sql") },
    File { name: "timescaledb/121_retention_policy", sql: include_str!("../../sql/timescaledb/121_retention_policy.sql") },
    File { name: "timescaledb/122_latency_percentile", sql: include_str!("../../sql/timescaledb/122_latency_percentile.sql") },
    File { name: "timescaledb/136_regime_expire", sql: include_str!("../../sql/timescaledb/136_regime_expire.sql") },
    File { name: "timescaledb/151_upkeep_policy", sql: include_str!("../../sql/timescaledb/151_upkeep_policy.sql") },
    File { name: "timescaledb/162_legacy", sql: include_str!("../../sql/timescaledb/162_legacy.sql") },
];

/// The same names on plain PostgreSQL.
pub(super) const POSTGRESQL: &[File] = &[
    File { name: "postgresql/111_module_execution", sql: include_str!("../../sql/postgresql/111_module_execution.sql") },
    File { name: "postgresql/112_health_check", sql: include_str!("../../sql/postgresql/112_health_check.sql") },
    File { name: "postgresql/116_risk_evaluation", sql: include_str!("../../sql/postgresql/116_risk_evaluation.sql") },
    File { name: "postgresql/119_portfolio_snapshot", sql: include_str!("../../sql/postgresql/119_portfolio_snapshot.sql") },
    File { name: "postgresql/120_aggregate", sql: include_str!("../../sql/postgresql/120_aggregate.sql") },
    File { name: "postgresql/121_retention_policy", sql: include_str!("../../sql/postgresql/121_retention_policy.sql") },
    File { name: "postgresql/122_latency_percentile", sql: include_str!("../../sql/postgresql/122_latency_percentile.sql") },
    File { name: "postgresql/151_retention", sql: include_str!("../../sql/postgresql/151_retention.sql") },
    File { name: "postgresql/177_time_index", sql: include_str!("../../sql/postgresql/177_time_index.sql") },
];

/// What analysts read: replayed at every migrate.
pub(super) const VIEWS: &[File] = &[
    File { name: "views/201_module_execution", sql: include_str!("../../sql/views/201_module_execution.sql") },
    File { name: "views/202_health_check", sql: include_str!("../../sql/views/202_health_check.sql") },
    File { name: "views/203_order_execution", sql: include_str!("../../sql/views/203_order_execution.sql") },
    File { name: "views/204_risk_verdict", sql: include_str!("../../sql/views/204_risk_verdict.sql") },
    File { name: "views/205_portfolio", sql: include_str!("../../sql/views/205_portfolio.sql") },
    File { name: "views/206_module_stats", sql: include_str!("../../sql/views/206_module_stats.sql") },
    File { name: "views/207_regime_timeline", sql: include_str!("../../sql/views/207_regime_timeline.sql") },
    File { name: "views/208_decision_trail", sql: include_str!("../../sql/views/208_decision_trail.sql") },
    File { name: "views/209_aggregate_freshness", sql: include_str!("../../sql/views/209_aggregate_freshness.sql") },
    File { name: "views/210_order_anomaly", sql: include_str!("../../sql/views/210_order_anomaly.sql") },
    File { name: "views/211_module_silence", sql: include_str!("../../sql/views/211_module_silence.sql") },
];

/// The tables of the system that this store replaces, as views: replayed after those that analysts read.
pub(super) const LEGACY: &[File] = &[
    File { name: "legacy/300_value", sql: include_str!("../../sql/legacy/300_value.sql") },
    File { name: "legacy/301_module_registry", sql: include_str!("../../sql/legacy/301_module_registry.sql") },
    File { name: "legacy/302_module_health_checks", sql: include_str!("../../sql/legacy/302_module_health_checks.sql") },
    File { name: "legacy/303_regime_states", sql: include_str!("../../sql/legacy/303_regime_states.sql") },
    File { name: "legacy/304_risk_evaluations", sql: include_str!("../../sql/legacy/304_risk_evaluations.sql") },
    File { name: "legacy/305_execution_reports", sql: include_str!("../../sql/legacy/305_execution_reports.sql") },
    File { name: "legacy/306_portfolio_snapshots", sql: include_str!("../../sql/legacy/306_portfolio_snapshots.sql") },
    File { name: "legacy/310_import", sql: include_str!("../../sql/legacy/310_import.sql") },
];

/// What the roles may do: replayed last.
pub(super) const ROLE: &[File] = &[
    File { name: "role/400_wanted", sql: include_str!("../../sql/role/400_wanted.sql") },
    File { name: "role/401_difference", sql: include_str!("../../sql/role/401_difference.sql") },
    File { name: "role/402_open", sql: include_str!("../../sql/role/402_open.sql") },
    File { name: "role/403_grant", sql: include_str!("../../sql/role/403_grant.sql") },
];

/// What takes whoever owns the extension, not the schema: after those.
pub(super) const CLOSE: File = File { name: "role/404_close", sql: include_str!("../../sql/role/404_close.sql") };

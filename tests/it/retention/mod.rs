//! Old rows go; what was made of them stays.

mod deletion;
mod late;
mod policy;

use chrono::{DateTime, TimeDelta, Utc};
use hitherto::records::{
    EventType, HealthCheck, ModuleExecution, OrderEvent, PortfolioSnapshot, Record, RiskEvaluation, RiskLevel, Signal, Verdict,
};
use hitherto::writer::Batch;
use hitherto::{Engine, Store};

use crate::harness;

async fn store<R: Record>(store: &Store, rows: Vec<R>) {
    store.batch_store(&Batch::new("test", rows).unwrap()).await.unwrap();
}

async fn upkeep(db: &harness::Db) {
    for refreshed in db.store.aggregate_refresh().await.unwrap() {
        assert_eq!(refreshed.error, None, "{}", db.name);
    }
    db.store.maintain().await.unwrap();
}

async fn count(db: &harness::Db, query: &str) -> i64 {
    db.store.client().await.unwrap().query_one(query, &[]).await.unwrap().get(0)
}

const RAW: &str = "SELECT count(*) FROM hitherto.module_execution";
const BY_DAY: &str = "SELECT coalesce(sum(executions), 0)::bigint FROM hitherto.module_execution_day";

/// Executions by minute, hour and day.
async fn levels(db: &harness::Db) -> [i64; 3] {
    let mut found = [0; 3];
    for (n, view) in ["minute", "hour", "day"].iter().enumerate() {
        found[n] = count(db, &format!("SELECT coalesce(sum(executions), 0)::bigint FROM hitherto.module_execution_{view}")).await;
    }
    found
}

#[tokio::test]
async fn old_rows_go_and_their_aggregates_stay() {
    for db in harness::all().await {
        let old = Utc::now() - TimeDelta::days(120);
        store(&db.store, vec![ModuleExecution::new("m", 1.0).at(old), ModuleExecution::new("m", 3.0)]).await;
        store(&db.store, vec![RiskEvaluation::new("m", "p", RiskLevel::Low, Verdict::Approved).at(old)]).await;
        // Retention itself sees to it that every aggregate shows what it drops.
        db.store.maintain().await.unwrap();
        assert_eq!(count(&db, RAW).await, 1, "{}: 90 days are the default", db.name);
        assert_eq!(count(&db, "SELECT count(*) FROM hitherto.risk_evaluation").await, 1, "{}: decisions are kept", db.name);
        assert_eq!(count(&db, BY_DAY).await, 2, "{}", db.name);
        // A late row of a day that was dropped does not erase what is known of it; plain PostgreSQL adds it.
        store(&db.store, vec![ModuleExecution::new("m", 9.0).at(old)]).await;
        upkeep(&db).await;
        let late = i64::from(db.store.capabilities().engine == Engine::Postgresql);
        assert_eq!(count(&db, BY_DAY).await, 2 + late, "{}", db.name);
    }
}

#[tokio::test]
async fn the_servers_own_jobs_do_what_maintain_does() {
    for db in harness::all().await.into_iter().filter(|db| db.store.capabilities().engine == Engine::Timescaledb) {
        let now = Utc::now();
        store(&db.store, vec![ModuleExecution::new("m", 1.0).at(now - TimeDelta::days(3)), ModuleExecution::new("m", 1.0)]).await;
        db.run_jobs("aggregate_refresh_job").await;
        store(
            &db.store,
            vec![
                ModuleExecution::new("m", 3.0).at(now - TimeDelta::days(3)),
                ModuleExecution::new("m", 9.0).at(now - TimeDelta::days(200)),
            ],
        )
        .await;
        assert_eq!(count(&db, BY_DAY).await, 2, "{}: late rows wait", db.name);
        db.run_jobs("aggregate_refresh_job").await;
        assert_eq!((count(&db, RAW).await, count(&db, BY_DAY).await), (4, 4), "{}", db.name);
        store(&db.store, vec![ModuleExecution::new("m", 9.0).at(now - TimeDelta::days(201))]).await;
        db.run_jobs("retention_job").await;
        assert_eq!((count(&db, RAW).await, count(&db, BY_DAY).await), (3, 5), "{}: refreshed before they went", db.name);
    }
}

#[tokio::test]
async fn a_report_whose_events_were_dropped_stays_and_says_so() {
    for db in harness::all().await {
        let old = Utc::now() - TimeDelta::days(120);
        let fill = OrderEvent::new("o", EventType::Fill).at(old).last_quantity(10).last_price(2);
        let id = fill.event_id.clone();
        store(&db.store, vec![OrderEvent::new("o", EventType::Submitted).at(old).asset("A").quantity(10), fill]).await;
        db.store.retention_set("order_event", Some(TimeDelta::days(30))).await.unwrap();
        db.store.maintain().await.unwrap();
        assert_eq!(count(&db, "SELECT count(*) FROM hitherto.order_event").await, 0, "{}", db.name);
        store(&db.store, vec![OrderEvent::new("o", EventType::FillCorrected).ref_event_id(id).last_quantity(9)]).await;
        let report = db.store.execution_report("o").await.unwrap().unwrap();
        assert_eq!((report.status.as_str(), report.filled_quantity), ("filled", 10.into()), "{}", db.name);
        assert_eq!(report.anomalies, ["event_after_retention"], "{}", db.name);
    }
}

/// Every view that retention must leave as it is.
const AGGREGATES: [&str; 9] = [
    "module_execution_minute",
    "module_execution_hour",
    "module_execution_day",
    "health_check_hour",
    "health_check_day",
    "risk_verdict_hour",
    "risk_verdict_day",
    "portfolio_value_hour",
    "portfolio_value_day",
];

/// Every row of a view as text, sums cut where the order of addition shows.
async fn shown(db: &harness::Db, view: &str) -> Vec<String> {
    let query = format!(
        "SELECT (SELECT string_agg(key || '=' || CASE jsonb_typeof(value) WHEN 'number' THEN round(value::numeric, 9)::text ELSE value::text END, ' ' ORDER BY key)
                 FROM jsonb_each(to_jsonb(v))) FROM hitherto.{view} v ORDER BY 1"
    );
    db.store.client().await.unwrap().query(&query, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
}

async fn store_everything(db: &harness::Db, from: DateTime<Utc>, days: i64) {
    let times: Vec<DateTime<Utc>> = (0..days * 24 * 2).map(|n| from + TimeDelta::minutes(30 * n)).collect();
    let module = |n: usize| ["alpha", "beta"][n % 2];
    let number = |n: usize| (n * 7919 % 1000) as f64;
    store(&db.store, times.iter().enumerate().map(|(n, at)| ModuleExecution::new(module(n), number(n)).at(*at)).collect()).await;
    let check = |(n, at): (usize, &DateTime<Utc>)| {
        HealthCheck::new(module(n), if n % 5 == 0 { "degraded" } else { "healthy" })
            .at(*at)
            .response_time_ms(number(n))
            .error_count(n as i32 % 3)
    };
    store(&db.store, times.iter().enumerate().map(check).collect()).await;
    store(&db.store, times.iter().map(|at| Signal::new("alpha", "trend").at(*at)).collect()).await;
    let risk = |(n, at): (usize, &DateTime<Utc>)| {
        RiskEvaluation::new("beta", "p", RiskLevel::ALL[n % 4], Verdict::ALL[n % 3]).at(*at).var_99(number(n) / 1000.0)
    };
    store(&db.store, times.iter().enumerate().map(risk).collect()).await;
    let snapshot = |(n, at): (usize, &DateTime<Utc>)| {
        PortfolioSnapshot::new(serde_json::json!({}), (number(n) as i64).into(), (1000 + number(n) as i64).into()).at(*at)
    };
    store(&db.store, times.iter().enumerate().map(snapshot).collect()).await;
}

#[tokio::test]
async fn dropping_raw_rows_changes_no_row_of_any_aggregate() {
    for db in harness::all().await {
        // Midnight falls within the data, wherever the hour of the test is.
        store_everything(&db, Utc::now() - TimeDelta::days(15), 14).await;
        for table in ["module_execution", "health_check", "signal", "risk_evaluation", "portfolio_snapshot"] {
            db.store.retention_set(table, None).await.unwrap();
        }
        upkeep(&db).await;
        let mut before = Vec::new();
        for view in AGGREGATES {
            before.push(shown(&db, view).await);
        }
        let p95 = "SELECT round(hitherto.latency_percentile(0.95, 'alpha', date_trunc('day', now()) - INTERVAL '20 days', date_trunc('day', now())))::bigint";
        let percentile = count(&db, p95).await;
        let (stats, rows) = (db.store.module_stats().await.unwrap(), count(&db, RAW).await);
        for days in [13, 11, 8] {
            for table in ["module_execution", "health_check", "signal", "risk_evaluation", "portfolio_snapshot"] {
                db.store.retention_set(table, Some(TimeDelta::days(days))).await.unwrap();
            }
            upkeep(&db).await;
            for (view, before) in AGGREGATES.iter().zip(&before) {
                assert_eq!(&shown(&db, view).await, before, "{}: {view} after {days} days", db.name);
            }
            let (now, before) = (&db.store.module_stats().await.unwrap()[0], &stats[0]);
            assert_eq!((now.execution_count, now.success_rate), (before.execution_count, before.success_rate), "{}", db.name);
            assert!((count(&db, p95).await - percentile).abs() <= percentile / 100 + 1, "{}: latency_percentile", db.name);
        }
        assert!(count(&db, RAW).await < rows / 2 + 48 * 3, "{}: rows are gone", db.name);
        let cut = "SELECT count(DISTINCT date_trunc('day', min, 'UTC') = min OR min > now() - INTERVAL '8 days 1 hour') FROM (SELECT min(started_at) FROM hitherto.module_execution) m";
        assert_eq!(count(&db, cut).await, 1, "{}", db.name);
        let half = "SELECT count(*) FROM hitherto.module_execution WHERE started_at < date_trunc('day', now() - INTERVAL '8 days', 'UTC')";
        assert_eq!(count(&db, half).await, 0, "{}: days go whole, once they are past", db.name);
    }
}

#[tokio::test]
async fn tombstones_of_rows_that_went_go_too() {
    for db in harness::all().await {
        store(&db.store, vec![HealthCheck::new("m", "healthy").at(Utc::now() - TimeDelta::days(120))]).await;
        let client = db.store.client().await.unwrap();
        client.batch_execute("INSERT INTO hitherto.legacy_tombstone (table_name, legacy_id, row_at) SELECT 'health_check', legacy_id, checked_at FROM hitherto.health_check").await.unwrap();
        drop(client);
        upkeep(&db).await;
        assert_eq!(count(&db, "SELECT count(*) FROM hitherto.legacy_tombstone").await, 0, "{}", db.name);
    }
}

#[tokio::test]
async fn a_view_over_kept_and_live_rows_narrows_both_before_it_aggregates() {
    let db = harness::native().await;
    let client = db.store.client().await.unwrap();
    for view in AGGREGATES {
        let query = format!("EXPLAIN (COSTS off) SELECT * FROM hitherto.{view} WHERE bucket >= now() - INTERVAL '1 hour'");
        let plan: Vec<String> = client.query(&query, &[]).await.unwrap().iter().map(|row| row.get(0)).collect();
        let plan = plan.join("\n");
        assert!(!plan.contains("Function Scan"), "{view}: {plan}");
        assert!(plan.contains("date_bin"), "{view}: {plan}");
    }
}

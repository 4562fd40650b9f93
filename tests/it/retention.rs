//! Old rows go; what was made of them stays.

use chrono::{DateTime, TimeDelta, Utc};
use hitherto::records::{EventType, ModuleExecution, OrderEvent, Record, RiskEvaluation, RiskLevel, Verdict};
use hitherto::writer::Batch;
use hitherto::{Engine, ErrorKind, Store};

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

#[tokio::test]
async fn old_rows_go_and_their_aggregates_stay_on_timescaledb() {
    for db in harness::all().await {
        let timescaledb = db.store.capabilities().engine == Engine::Timescaledb;
        let old = Utc::now() - TimeDelta::days(120);
        store(&db.store, vec![ModuleExecution::new("m", 1.0).at(old), ModuleExecution::new("m", 3.0)]).await;
        store(&db.store, vec![RiskEvaluation::new("m", "p", RiskLevel::Low, Verdict::Approved).at(old)]).await;
        // Retention itself sees to it that every aggregate shows what it drops.
        db.store.maintain().await.unwrap();
        assert_eq!(count(&db, RAW).await, 1, "{}: 90 days are the default", db.name);
        assert_eq!(count(&db, "SELECT count(*) FROM hitherto.risk_evaluation").await, 1, "{}: decisions are kept", db.name);
        assert_eq!(count(&db, BY_DAY).await, if timescaledb { 2 } else { 1 }, "{}", db.name);
        // A late row of a day that was dropped does not erase what is known of it.
        store(&db.store, vec![ModuleExecution::new("m", 9.0).at(old)]).await;
        upkeep(&db).await;
        if timescaledb {
            assert_eq!(count(&db, BY_DAY).await, 2, "{}", db.name);
        }
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
async fn history_past_the_retention_shows_in_aggregates_whatever_parts_it_comes_in() {
    for db in harness::all().await.into_iter().filter(|db| db.store.capabilities().engine == Engine::Timescaledb) {
        let runs =
            |from: DateTime<Utc>| (0..60).map(|n| ModuleExecution::new("m", 1.0).at(from + TimeDelta::hours(6 * n))).collect::<Vec<_>>();
        // The second part begins within the last day of the first, which is materialised by then.
        let start = Utc::now() - TimeDelta::days(130);
        store(&db.store, runs(start)).await;
        assert!(db.store.aggregate_refresh().await.unwrap().iter().all(|r| r.error.is_none()), "{}", db.name);
        store(&db.store, runs(start + TimeDelta::hours(6 * 58))).await;
        upkeep(&db).await;
        assert_eq!((count(&db, RAW).await, count(&db, BY_DAY).await), (0, 120), "{}", db.name);
        // Older history yet, of days that nobody has materialised.
        store(&db.store, runs(start - TimeDelta::days(30))).await;
        upkeep(&db).await;
        assert_eq!((count(&db, RAW).await, count(&db, BY_DAY).await), (0, 180), "{}", db.name);
    }
}

#[tokio::test]
async fn the_shortest_retention_and_every_policy_leave_aggregates_whole() {
    for db in harness::all().await.into_iter().filter(|db| db.store.capabilities().engine == Engine::Timescaledb) {
        let refused = db.store.retention_set("module_execution", Some(TimeDelta::days(2))).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Config, "{refused}");
        db.store.retention_set("module_execution", Some(TimeDelta::days(8))).await.unwrap();
        let now = Utc::now();
        store(&db.store, (1..=240).map(|n| ModuleExecution::new("m", 1.0).at(now - TimeDelta::hours(n))).collect()).await;
        for _ in 0..2 {
            upkeep(&db).await;
            db.run_refresh_policies().await;
            assert!(count(&db, RAW).await < 240, "{}", db.name);
            for view in ["minute", "hour", "day"] {
                let shown = count(&db, &format!("SELECT sum(executions)::bigint FROM hitherto.module_execution_{view}")).await;
                assert_eq!(shown, 240, "{}: {view}", db.name);
            }
        }
    }
}

#[tokio::test]
async fn a_policy_that_was_loosened_drops_no_more_than_it_says() {
    for db in harness::all().await {
        let run = |days: i64| vec![ModuleExecution::new("m", 1.0).at(Utc::now() - TimeDelta::days(days))];
        db.store.retention_set("module_execution", Some(TimeDelta::days(30))).await.unwrap();
        store(&db.store, run(40)).await;
        upkeep(&db).await;
        assert_eq!(count(&db, RAW).await, 0, "{}", db.name);
        db.store.retention_set("module_execution", Some(TimeDelta::days(365))).await.unwrap();
        store(&db.store, run(60)).await;
        store(&db.store, run(400)).await;
        upkeep(&db).await;
        assert_eq!(count(&db, RAW).await, 1, "{}: the row of 60 days ago is kept", db.name);
    }
}

#[tokio::test]
async fn late_rows_of_days_that_nobody_dropped_show_whatever_else_was_dropped() {
    for db in harness::all().await.into_iter().filter(|db| db.store.capabilities().engine == Engine::Timescaledb) {
        let old = Utc::now() - TimeDelta::days(120);
        store(&db.store, vec![ModuleExecution::new("m", 1.0).at(old)]).await;
        upkeep(&db).await;
        db.store.retention_set("module_execution", None).await.unwrap();
        for n in 0..4 {
            store(&db.store, vec![ModuleExecution::new("m", 1.0).at(old - TimeDelta::days(50) + TimeDelta::minutes(n))]).await;
            upkeep(&db).await;
            for view in ["minute", "hour", "day"] {
                let shown = count(&db, &format!("SELECT sum(executions)::bigint FROM hitherto.module_execution_{view}")).await;
                assert_eq!(shown, n + 2, "{}: {view}", db.name);
            }
        }
    }
}

#[tokio::test]
async fn an_order_that_arrives_late_in_parts_is_folded_whole() {
    for db in harness::all().await {
        let old = Utc::now() - TimeDelta::days(120);
        store(&db.store, vec![OrderEvent::new("gone", EventType::Submitted).at(old)]).await;
        db.store.retention_set("order_event", Some(TimeDelta::days(30))).await.unwrap();
        db.store.maintain().await.unwrap();
        db.store.retention_set("order_event", None).await.unwrap();
        store(&db.store, vec![OrderEvent::new("o", EventType::Submitted).at(old).asset("A").quantity(10)]).await;
        store(&db.store, vec![OrderEvent::new("o", EventType::Fill).at(old).last_quantity(10).last_price(2)]).await;
        let report = db.store.execution_report("o").await.unwrap().unwrap();
        assert_eq!((report.status.as_str(), report.anomalies.len()), ("filled", 0), "{}", db.name);
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

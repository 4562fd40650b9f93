//! Rows that come late, of days that are gone or about to go.

use chrono::{DateTime, TimeDelta, Utc};
use hitherto::Engine;
use hitherto::records::{EventType, ModuleExecution, OrderEvent};

use super::{BY_DAY, RAW, count, levels, store, store_everything, upkeep};
use crate::harness;

#[tokio::test]
async fn history_past_the_retention_shows_in_aggregates_whatever_parts_it_comes_in() {
    for db in harness::all().await {
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
async fn late_rows_of_days_that_nobody_dropped_show_whatever_else_was_dropped() {
    for db in harness::all().await {
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
async fn late_rows_of_dropped_days_show_where_nothing_is_known_yet() {
    for db in harness::all().await {
        let day = Utc::now().date_naive().and_hms_opt(12, 0, 0).unwrap().and_utc() - TimeDelta::days(120);
        store(&db.store, vec![ModuleExecution::new("m", 1.0).at(day)]).await;
        upkeep(&db).await;
        // An hour and a minute of the dropped day of which nothing was known; the day itself was.
        store(&db.store, vec![ModuleExecution::new("m", 1.0).at(day + TimeDelta::hours(3))]).await;
        upkeep(&db).await;
        let by = |view: &str| format!("SELECT sum(executions)::bigint FROM hitherto.module_execution_{view}");
        let day = if db.store.capabilities().engine == Engine::Postgresql { 2 } else { 1 };
        for (view, expected) in [("minute", 2), ("hour", 2), ("day", day)] {
            assert_eq!(count(&db, &by(view)).await, expected, "{}: {view}", db.name);
        }
        assert_eq!(count(&db, RAW).await, 0, "{}", db.name);
    }
}

#[tokio::test]
async fn late_rows_of_days_that_went_are_added_at_every_level_whatever_the_policy_is_then() {
    let db = harness::native().await;
    let old = Utc::now().date_naive().and_hms_opt(10, 0, 0).unwrap().and_utc() - TimeDelta::days(120);
    let runs = |minutes: i64| (0..3).map(|n| ModuleExecution::new("m", 1.0).at(old + TimeDelta::minutes(minutes * n))).collect::<Vec<_>>();
    store(&db.store, runs(1)).await;
    db.store.maintain().await.unwrap();
    assert_eq!((count(&db, RAW).await, levels(&db).await), (0, [3; 3]));
    store(&db.store, runs(61)).await;
    assert_eq!(levels(&db).await, [6; 3], "before maintain");
    db.store.maintain().await.unwrap();
    assert_eq!((count(&db, RAW).await, levels(&db).await), (0, [6; 3]));
    db.store.retention_set("module_execution", None).await.unwrap();
    store(&db.store, runs(7)).await;
    db.store.maintain().await.unwrap();
    assert_eq!((count(&db, RAW).await, levels(&db).await), (3, [9; 3]), "kept for ever, and counted");
}

#[tokio::test]
async fn every_aggregate_adds_late_rows_to_what_is_kept() {
    let db = harness::native().await;
    let from = Utc::now().date_naive().and_hms_opt(0, 0, 0).unwrap().and_utc() - TimeDelta::days(120);
    for table in ["module_execution", "health_check", "risk_evaluation", "portfolio_snapshot"] {
        db.store.retention_set(table, Some(TimeDelta::days(30))).await.unwrap();
    }
    let sums = "SELECT concat_ws(' ', (SELECT sum(checks) || '/' || sum(healthy) || '/' || sum(responses) || '/' || sum(sum_response_ms) || '/' || sum(errors) FROM hitherto.health_check_%_aggregate),
                                 (SELECT sum(evaluations) || '/' || round(sum(sum_var_99)::numeric, 6) || '/' || max(max_var_99) FROM hitherto.risk_verdict_%_aggregate),
                                 (SELECT max(high) || '/' || min(low) || '/' || min(min_cash) FROM hitherto.portfolio_value_%_aggregate))";
    let look =
        async |level: &str| -> String { db.store.client().await.unwrap().query_one(&sums.replace('%', level), &[]).await.unwrap().get(0) };
    store_everything(&db, from, 2).await;
    db.store.maintain().await.unwrap();
    store_everything(&db, from + TimeDelta::hours(36), 2).await;
    let expected = look("hour").await;
    assert!(expected.starts_with("192/"), "{expected}");
    assert_eq!(look("day").await, expected);
    db.store.maintain().await.unwrap();
    assert_eq!(
        count(&db, "SELECT (SELECT count(*) FROM hitherto.health_check) + (SELECT count(*) FROM hitherto.portfolio_snapshot)").await,
        0
    );
    assert_eq!((look("hour").await, look("day").await), (expected.clone(), expected));
}

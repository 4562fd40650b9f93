//! What is set, and what is told of it.

use chrono::{TimeDelta, Utc};
use hitherto::records::{HealthCheck, ModuleExecution};
use hitherto::store::UpkeepChange;
use hitherto::{Engine, ErrorKind};

use super::{RAW, count, store, upkeep};
use crate::harness;

#[tokio::test]
async fn the_shortest_retention_and_every_policy_leave_aggregates_whole() {
    for db in harness::all().await {
        let refused = db.store.retention_set("module_execution", Some(TimeDelta::days(2))).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Config, "{refused}");
        db.store.retention_set("module_execution", Some(TimeDelta::days(8))).await.unwrap();
        let now = Utc::now();
        store(&db.store, (1..=240).map(|n| ModuleExecution::new("m", 1.0).at(now - TimeDelta::hours(n))).collect()).await;
        for _ in 0..2 {
            upkeep(&db).await;
            if db.store.capabilities().engine == Engine::Timescaledb {
                db.run_refresh_policies().await;
            }
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
async fn a_dry_run_tells_what_would_go_and_changes_nothing() {
    for db in harness::all().await {
        let timescaledb = db.store.capabilities().engine == Engine::Timescaledb;
        let old = Utc::now() - TimeDelta::days(120);
        store(&db.store, (0..3).map(|n| HealthCheck::new("m", "healthy").at(old + TimeDelta::days(n))).collect()).await;
        store(&db.store, vec![HealthCheck::new("m", "healthy").at(Utc::now() - TimeDelta::days(20))]).await;
        let state = "SELECT md5(concat((SELECT string_agg(h::text, ',' ORDER BY h::text) FROM hitherto.health_check h), (SELECT string_agg(r::text, ',') FROM hitherto.retention_horizon r),
                            (SELECT string_agg(a::text, ',' ORDER BY view_name) FROM hitherto.aggregate a), (SELECT string_agg(r::text, ',') FROM hitherto.retention_range r)))";
        let look = async || db.store.client().await.unwrap().query_one(state, &[]).await.unwrap().get::<_, String>(0);
        let before = look().await;
        let due = db.store.maintain_preview().await.unwrap();
        assert_eq!(look().await, before, "{}", db.name);
        assert_eq!(db.store.maintain_preview().await.unwrap(), due, "{}", db.name);
        let of = |policy: &str| due.iter().filter(|d| d.policy == policy && d.name == "health_check").collect::<Vec<_>>();
        assert_eq!(of("retention").len(), 3, "{}: {due:?}", db.name);
        assert!(of("retention")[0].range_start <= old && of("retention")[0].range_end > old, "{}", db.name);
        assert_eq!(of("retention")[0].rows, if timescaledb { None } else { Some(1) }, "{}", db.name);
        assert_eq!(of("columnstore").len(), usize::from(timescaledb), "{}: {due:?}", db.name);
        assert_eq!(due.iter().any(|d| d.policy == "refresh" && d.name == "health_check_day"), timescaledb, "{}", db.name);
        // What was told is what happens.
        upkeep(&db).await;
        assert_eq!(count(&db, "SELECT count(*) FROM hitherto.health_check").await, 1, "{}", db.name);
        assert_eq!(db.store.maintain_preview().await.unwrap(), vec![], "{}", db.name);
    }
}

#[tokio::test]
async fn policies_are_set_in_one_table_and_the_servers_jobs_follow() {
    for db in harness::all().await {
        let change = UpkeepChange {
            drop_after: Some(Some(TimeDelta::days(30))),
            columnstore_after: Some(Some(TimeDelta::days(3))),
            refresh_every: Some(TimeDelta::minutes(5)),
        };
        let set = db.store.upkeep_set("health_check", change).await.unwrap();
        assert_eq!(
            (set.drop_after_seconds, set.columnstore_after_seconds, set.refresh_every_seconds),
            (Some(30 * 86_400), Some(3 * 86_400), Some(300))
        );
        let all = db.store.upkeep_policies().await.unwrap();
        assert!(all.len() == 6 && all.contains(&set), "{}: {all:?}", db.name);
        let told = "SELECT count(*) FROM hitherto.retention_policy WHERE table_name = 'health_check' AND drop_after::text = '30 days'";
        assert_eq!(count(&db, told).await, 1, "{}", db.name);
        if db.store.capabilities().engine == Engine::Timescaledb {
            let jobs = "SELECT count(*) FROM timescaledb_information.jobs WHERE proc_name = 'policy_compression' AND hypertable_name = 'health_check'
                          AND scheduled AND config ->> 'compress_after' = '3 days'
                        UNION ALL SELECT count(*) FROM timescaledb_information.jobs WHERE proc_name = 'aggregate_refresh_job' AND schedule_interval = '5 minutes'";
            let found: Vec<i64> = db.store.client().await.unwrap().query(jobs, &[]).await.unwrap().iter().map(|row| row.get(0)).collect();
            assert_eq!(found, [1, 2], "{}", db.name);
        }
        for (table, change, words) in [
            ("orders", UpkeepChange::default(), "these can: health_check, module_execution, order_event"),
            ("health_check_day", UpkeepChange::default(), "name health_check instead"),
            ("health_check", UpkeepChange { drop_after: Some(Some(TimeDelta::days(7))), ..Default::default() }, "8 days at least"),
            ("health_check", UpkeepChange { columnstore_after: Some(Some(TimeDelta::days(30))), ..Default::default() }, "gone before"),
            ("health_check", UpkeepChange { columnstore_after: Some(Some(TimeDelta::hours(3))), ..Default::default() }, "1 day at least"),
            ("health_check", UpkeepChange { refresh_every: Some(TimeDelta::seconds(1)), ..Default::default() }, "10 s to every day"),
            ("signal", UpkeepChange { refresh_every: Some(TimeDelta::minutes(1)), ..Default::default() }, "no aggregates"),
        ] {
            let error = db.store.upkeep_set(table, change).await.unwrap_err();
            assert!(error.kind() == ErrorKind::Config && error.to_string().contains(words), "{}: {error}", db.name);
        }
        assert_eq!(db.store.upkeep_policies().await.unwrap(), all, "{}: what was refused changed nothing", db.name);
        let forever = UpkeepChange { drop_after: Some(None), columnstore_after: Some(None), refresh_every: None };
        let set = db.store.upkeep_set("health_check", forever).await.unwrap();
        assert_eq!(
            (set.drop_after_seconds, set.columnstore_after_seconds, set.refresh_every_seconds),
            (None, None, Some(300)),
            "{}",
            db.name
        );
        store(&db.store, vec![HealthCheck::new("m", "healthy").at(Utc::now() - TimeDelta::days(400))]).await;
        upkeep(&db).await;
        assert_eq!(count(&db, "SELECT count(*) FROM hitherto.health_check").await, 1, "{}", db.name);
        let by_hand =
            db.store.client().await.unwrap().execute("SELECT hitherto.retention_set('orders', '30 days')", &[]).await.unwrap_err();
        assert!(by_hand.as_db_error().unwrap().message().contains("these can: health_check"), "{}: {by_hand:?}", db.name);
    }
}

#[tokio::test]
async fn the_view_of_policies_refuses_to_be_written_and_says_what_to_use() {
    for db in harness::all().await {
        let client = db.store.client().await.unwrap();
        for statement in [
            "DELETE FROM hitherto.retention_policy WHERE table_name = 'signal'",
            "UPDATE hitherto.retention_policy SET drop_after = '10 days'",
            "INSERT INTO hitherto.retention_policy VALUES ('order_event', '10 days')",
        ] {
            let error = client.batch_execute(statement).await.unwrap_err();
            assert!(error.as_db_error().unwrap().hint().unwrap().contains("hitherto.retention_set"), "{}: {error:?}", db.name);
        }
        drop(client);
        assert_eq!(db.store.upkeep_policies().await.unwrap().len(), 6, "{}", db.name);
    }
}

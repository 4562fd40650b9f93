//! Old rows go; what was made of them stays.

use chrono::{DateTime, TimeDelta, Utc};
use hitherto::records::{
    EventType, HealthCheck, ModuleExecution, OrderEvent, PortfolioSnapshot, Record, RiskEvaluation, RiskLevel, Signal, Verdict,
};
use hitherto::store::UpkeepChange;
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

/// Old rows by the hundred thousand, as fast as the server makes them.
async fn fill(db: &harness::Db, rows: i64) {
    let query = format!(
        "INSERT INTO hitherto.module_execution (started_at, module_id, execution_id, duration_ms, success, batch_id)
         SELECT date_trunc('day', now(), 'UTC') - INTERVAL '100 days' + n % 86400 * INTERVAL '1 second', 1, 'e' || n, n % 100, true, gen_random_uuid()
         FROM generate_series(1, {rows}) AS n"
    );
    db.store.client().await.unwrap().batch_execute(&query).await.unwrap();
}

#[tokio::test]
async fn a_large_deletion_is_made_of_short_transactions_that_nobody_waits_for() {
    let db = harness::native().await;
    store(&db.store, vec![ModuleExecution::new("m", 1.0)]).await;
    fill(&db, 300_000).await;
    let xid = "SELECT pg_current_xact_id()::text::bigint";
    let first = count(&db, xid).await;
    let busy = std::sync::atomic::AtomicBool::new(true);
    let deletion = async {
        let trimmed = db.store.maintain().await.unwrap();
        busy.store(false, std::sync::atomic::Ordering::Relaxed);
        trimmed
    };
    // Somebody writes all the time, and somebody wants what a reader of the whole table wants.
    let neighbours = async {
        let client = db.config.connect().await.unwrap();
        let (mut longest, mut rounds) = (std::time::Duration::ZERO, 0);
        while busy.load(std::sync::atomic::Ordering::Relaxed) {
            let began = std::time::Instant::now();
            store(&db.store, vec![ModuleExecution::new("m", 1.0)]).await;
            client.batch_execute("BEGIN; LOCK TABLE hitherto.module_execution IN ACCESS SHARE MODE; LOCK TABLE hitherto.module_execution IN ROW EXCLUSIVE MODE; COMMIT").await.unwrap();
            longest = longest.max(began.elapsed());
            rounds += 1;
        }
        (longest, rounds)
    };
    let (trimmed, (longest, rounds)) = tokio::join!(deletion, neighbours);
    assert_eq!(trimmed[0].count, 300_000);
    assert!(longest < std::time::Duration::from_secs(1), "a neighbour waited for {longest:?}");
    assert!(count(&db, xid).await - first - rounds >= 5, "a transaction has a thousand pages at most");
    assert_eq!((count(&db, RAW).await, count(&db, BY_DAY).await), (rounds + 1, 300_001 + rounds));
}

#[tokio::test]
async fn a_writer_that_comes_between_is_neither_lost_nor_half_counted() {
    let db = harness::native().await;
    let old = Utc::now().date_naive().and_hms_opt(10, 0, 0).unwrap().and_utc() - TimeDelta::days(120);
    store(&db.store, vec![ModuleExecution::new("m", 1.0).at(old)]).await;
    // A batch of the day that is about to go, in a transaction that is still open.
    let mut writer = db.config.connect().await.unwrap();
    let tx = writer.transaction().await.unwrap();
    tx.execute(
        "INSERT INTO hitherto.module_execution (started_at, module_id, execution_id, duration_ms, success, batch_id)
         VALUES ($1, 1, 'late', 3, true, '00000000-0000-0000-0000-000000000001')",
        &[&old],
    )
    .await
    .unwrap();
    tx.execute(
        "INSERT INTO hitherto.ingest_batch (batch_id, producer, table_name, row_count, min_time, max_time, digest)
         VALUES ('00000000-0000-0000-0000-000000000001', 'late', 'module_execution', 1, $1, $1, '')",
        &[&old],
    )
    .await
    .unwrap();
    let commit = async {
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        tx.commit().await.unwrap();
    };
    let (trimmed, ()) = tokio::join!(db.store.maintain(), commit);
    trimmed.unwrap();
    assert_eq!(count(&db, BY_DAY).await, 2, "one is kept, the other there still");
    db.store.maintain().await.unwrap();
    assert_eq!((count(&db, RAW).await, count(&db, BY_DAY).await), (0, 2), "both rows are in the day that went");
}

/// Executions by minute, hour and day.
async fn levels(db: &harness::Db) -> [i64; 3] {
    let mut found = [0; 3];
    for (n, view) in ["minute", "hour", "day"].iter().enumerate() {
        found[n] = count(db, &format!("SELECT coalesce(sum(executions), 0)::bigint FROM hitherto.module_execution_{view}")).await;
    }
    found
}

#[tokio::test]
async fn rows_that_come_while_their_days_go_count_once_at_every_level() {
    let db = harness::native().await;
    let old = Utc::now() - TimeDelta::days(120);
    let runs =
        |of: i64| (0..300).map(|n| ModuleExecution::new("m", n as f64).at(old + TimeDelta::minutes(17 * n + of))).collect::<Vec<_>>();
    store(&db.store, runs(0)).await;
    let late = async {
        for n in 1..=5 {
            store(&db.store, runs(n)).await;
            assert_eq!(levels(&db).await, [300 * (n + 1); 3], "while rows go");
        }
    };
    let (trimmed, ()) = tokio::join!(db.store.maintain(), late);
    trimmed.unwrap();
    while !db.store.maintain_preview().await.unwrap().is_empty() {
        db.store.maintain().await.unwrap();
    }
    assert_eq!((count(&db, RAW).await, levels(&db).await), (0, [1800; 3]));
    let sums = "SELECT count(DISTINCT s) FROM (SELECT sum(sum_ms) AS s FROM hitherto.module_execution_minute_aggregate
                UNION ALL SELECT sum(sum_ms) FROM hitherto.module_execution_day_aggregate UNION ALL VALUES (6 * 44850.0)) x";
    assert_eq!(count(&db, sums).await, 1);
    let classes = "SELECT sum(n)::bigint FROM hitherto.module_latency_hour_kept k, unnest(k.runs) AS n";
    assert_eq!(count(&db, classes).await, 1800);
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

#[tokio::test]
async fn rows_that_lie_scattered_go_and_a_table_that_fails_keeps_no_other_from_being_trimmed() {
    let db = harness::native().await;
    store(&db.store, vec![ModuleExecution::new("m", 1.0)]).await;
    let client = db.store.client().await.unwrap();
    client
        .batch_execute(
            "INSERT INTO hitherto.module_execution (started_at, module_id, execution_id, duration_ms, success, batch_id)
             SELECT now() - n * 7919 % 10000 * INTERVAL '30 minutes', 1, 'e' || n, n % 100, true, gen_random_uuid() FROM generate_series(1, 50000) AS n",
        )
        .await
        .unwrap();
    let due = count(&db, "SELECT sum(row_count)::bigint FROM hitherto.retention_due('module_execution')").await;
    store(&db.store, vec![HealthCheck::new("m", "healthy").at(Utc::now() - TimeDelta::days(120))]).await;
    // health_check comes first.
    client
        .batch_execute(
            "CREATE FUNCTION public.fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'not this one'; END $$;
             CREATE TRIGGER fail BEFORE DELETE ON hitherto.health_check FOR EACH ROW EXECUTE FUNCTION public.fail()",
        )
        .await
        .unwrap();
    let error = db.store.maintain().await.unwrap_err().to_string();
    assert!(error.contains("health_check") && error.contains("not this one"), "{error}");
    assert!(due > 20_000);
    assert_eq!((count(&db, RAW).await, levels(&db).await), (50_001 - due, [50_001; 3]));
    assert_eq!(count(&db, "SELECT sum(checks)::bigint FROM hitherto.health_check_day").await, 1, "what failed changed nothing");
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

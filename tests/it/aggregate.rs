//! What analysts read: the same rows on every engine, backfill included.

use chrono::{DateTime, TimeDelta, TimeZone, Utc};
use hitherto::Store;
use hitherto::records::{
    Decimal, EventType, HealthCheck, ModuleExecution, OrderEvent, PortfolioSnapshot, Proposal, Record, RiskEvaluation, RiskLevel, Side,
    Signal, Verdict,
};
use hitherto::writer::Batch;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{Rng, SeedableRng};
use serde_json::Value;

use crate::harness;

/// Every view of the contract, ordered so that rows can be compared.
const VIEWS: &[(&str, &str)] = &[
    ("module_execution_minute", "bucket, module"),
    ("module_execution_hour", "bucket, module"),
    ("module_execution_day", "bucket, module"),
    ("health_check_hour", "bucket, module"),
    ("health_check_day", "bucket, module"),
    ("order_execution_hour", "bucket, asset"),
    ("order_execution_day", "bucket, asset"),
    ("risk_verdict_hour", "bucket, risk_level, verdict"),
    ("risk_verdict_day", "bucket, risk_level, verdict"),
    ("portfolio_value_hour", "bucket"),
    ("portfolio_value_day", "bucket"),
    ("portfolio_position", "taken_at, snapshot_id, asset"),
    ("module_stats", "name"),
    ("decision_trail", "proposal_id, step_at, step, details::text"),
];

async fn rows(store: &Store, view: &str, order: &str) -> Vec<Value> {
    let client = store.client().await.unwrap();
    let query = format!("SELECT coalesce(jsonb_agg(to_jsonb(v) ORDER BY {order}), '[]')::text FROM hitherto.{view} v");
    let text: String = client.query_one(&query, &[]).await.unwrap().get(0);
    serde_json::from_str::<Vec<Value>>(&text).unwrap()
}

/// Equal, floats but for the last digits: sums depend on the order in which rows are read.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Object(a), Value::Object(b)) => a.len() == b.len() && a.iter().all(|(k, v)| b.get(k).is_some_and(|w| same(v, w))),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(v, w)| same(v, w)),
        (Value::Number(a), Value::Number(b)) => {
            let (a, b) = (a.as_f64().unwrap(), b.as_f64().unwrap());
            (a - b).abs() <= 1e-9 * a.abs().max(b.abs())
        }
        _ => a == b,
    }
}

async fn store<R: Record>(store: &Store, rows: Vec<R>) {
    for slice in rows.chunks(700) {
        store.batch_store(&Batch::new("test", slice.to_vec()).unwrap()).await.unwrap();
    }
}

/// Random records over three days with gaps, missing values and times on the edges of buckets.
struct Records {
    executions: Vec<ModuleExecution>,
    checks: Vec<HealthCheck>,
    signals: Vec<Signal>,
    proposals: Vec<Proposal>,
    risks: Vec<RiskEvaluation>,
    events: Vec<OrderEvent>,
    snapshots: Vec<PortfolioSnapshot>,
}

impl Records {
    fn random(seed: u64, start: DateTime<Utc>) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let time = |random: &mut StdRng| {
            let minute = TimeDelta::minutes(random.random_range(0..3 * 24 * 60) / 7 * 7);
            let within = *[0, 0, 1, 59_999_999, 30_000_000, random.random_range(0..60_000_000)].choose(random).unwrap();
            start + minute + TimeDelta::microseconds(within)
        };
        let modules = ["alpha", "beta", "Ünïcode", "'quoted'"];
        let mut all = Self {
            executions: vec![],
            checks: vec![],
            signals: vec![],
            proposals: vec![],
            risks: vec![],
            events: vec![],
            snapshots: vec![],
        };
        for n in 0..1500 {
            let at = time(&mut random);
            let module = *modules.choose(&mut random).unwrap();
            let mut run = ModuleExecution::new(module, *[0.0, 1.5, random.random_range(0.0..1000.0)].choose(&mut random).unwrap()).at(at);
            run.execution_id = format!("e{n}");
            run.success = random.random_bool(0.8);
            all.executions.push(run);
            let mut check = HealthCheck::new(module, *["healthy", "degraded"].choose(&mut random).unwrap()).at(time(&mut random));
            check.error_count = random.random_range(0..5);
            check.response_time_ms = random.random_bool(0.7).then(|| random.random_range(0.0..50.0));
            check.memory_usage_mb = random.random_bool(0.5).then(|| random.random_range(0.0..500.0));
            check.cpu_usage_percent = random.random_bool(0.5).then(|| random.random_range(0.0..200.0));
            all.checks.push(check);
            let value = |random: &mut StdRng| Decimal::from_units(random.random_range(0..10i128.pow(25))).unwrap();
            let (cash, total) = (value(&mut random), value(&mut random));
            let mut snapshot = PortfolioSnapshot::new(serde_json::json!({"A": "1.5", "B": {"quantity": -3, "price": "2.25"}}), cash, total)
                .at(time(&mut random));
            snapshot.snapshot_id = format!("s{n}");
            all.snapshots.push(snapshot);
        }
        for n in 0..60 {
            let at = time(&mut random);
            let mut signal = Signal::new("alpha", "trend").at(at).asset("A").score(random.random_range(-1.0..1.0));
            signal.signal_id = format!("g{n}");
            let mut proposal = Proposal::new("beta").at(at).asset("A").payload(serde_json::json!({"signal_ids": [signal.signal_id]}));
            proposal.proposal_id = format!("p{n}");
            let mut risk = RiskEvaluation::new(
                "beta",
                format!("p{n}"),
                *RiskLevel::ALL.choose(&mut random).unwrap(),
                *Verdict::ALL.choose(&mut random).unwrap(),
            )
            .at(at);
            risk.var_99 = random.random_bool(0.8).then(|| random.random_range(0.0..0.1));
            risk.evaluation_id = format!("r{n}");
            all.signals.push(signal);
            all.proposals.push(proposal);
            all.risks.push(risk);
            let push = |events: &mut Vec<OrderEvent>, random: &mut StdRng, kind: EventType, number: i64| {
                let mut event = OrderEvent::new(format!("o{n}"), kind).at(at + TimeDelta::seconds(number / 2)).sequence(number);
                event.event_id = format!("o{n}-{number}");
                match kind {
                    EventType::Pending => {
                        event = event.asset(if n % 2 == 0 { "A" } else { "B" }).side(Side::Buy).quantity(100).proposal_id(format!("p{n}"))
                    }
                    EventType::Fill => {
                        event = event
                            .last_quantity(random.random_range(-1..60))
                            .last_price(Decimal::from_units(random.random_range(1..10i128.pow(21))).unwrap())
                            .commission(Decimal::from_units(random.random_range(0..10i128.pow(18))).unwrap());
                    }
                    EventType::FillVoided | EventType::FillCorrected => {
                        event = event.ref_event_id(format!("o{n}-{}", random.random_range(1..6))).last_quantity(7);
                    }
                    EventType::Replaced => event = event.quantity(80),
                    _ => {}
                }
                events.push(event);
            };
            push(&mut all.events, &mut random, EventType::Pending, 0);
            for number in 1..random.random_range(2..9) {
                let kind = *[EventType::Fill, EventType::Fill, EventType::Fill, EventType::Submitted].choose(&mut random).unwrap();
                let kind = if random.random_bool(0.2) { *EventType::ALL.choose(&mut random).unwrap() } else { kind };
                push(&mut all.events, &mut random, kind, number);
            }
        }
        all
    }

    fn shuffle(&mut self, seed: u64) {
        let mut random = StdRng::seed_from_u64(seed);
        self.executions.shuffle(&mut random);
        self.checks.shuffle(&mut random);
        self.events.shuffle(&mut random);
        self.snapshots.shuffle(&mut random);
        self.risks.shuffle(&mut random);
    }

    /// Takes the later half out of every kind of record.
    fn split_off_half(&mut self) -> Self {
        fn half<R>(rows: &mut Vec<R>) -> Vec<R> {
            rows.split_off(rows.len() / 2)
        }
        Self {
            executions: half(&mut self.executions),
            checks: half(&mut self.checks),
            signals: half(&mut self.signals),
            proposals: half(&mut self.proposals),
            risks: half(&mut self.risks),
            events: half(&mut self.events),
            snapshots: half(&mut self.snapshots),
        }
    }

    async fn store(self, to: &Store) {
        store(to, self.executions).await;
        store(to, self.checks).await;
        store(to, self.signals).await;
        store(to, self.proposals).await;
        store(to, self.risks).await;
        store(to, self.events).await;
        store(to, self.snapshots).await;
    }
}

async fn refresh(db: &harness::Db) {
    for refreshed in db.store.aggregate_refresh().await.unwrap() {
        assert_eq!(refreshed.error, None, "{}", db.name);
    }
}

/// Every view's rows.
type Views = Vec<Vec<Value>>;

async fn views(db: &harness::Db) -> Views {
    let mut all = Vec::new();
    for (view, order) in VIEWS {
        let found = rows(&db.store, view, order).await;
        assert!(!found.is_empty(), "{}: {view} is empty", db.name);
        all.push(found);
    }
    all
}

fn assert_same(when: &str, a_name: &str, a: &[Vec<Value>], b_name: &str, b: &[Vec<Value>]) {
    for ((view, _), (a, b)) in VIEWS.iter().zip(a.iter().zip(b)) {
        assert_eq!(a.len(), b.len(), "{when}: rows of {view} on {a_name} and {b_name}");
        for (a, b) in a.iter().zip(b) {
            assert!(same(a, b), "{when}: {view} differs:\n{a_name}: {a}\n{b_name}: {b}");
        }
    }
}

#[tokio::test]
async fn the_same_records_give_the_same_rows_in_every_view_on_every_engine() {
    let start = Utc.with_ymd_and_hms(2026, 3, 27, 0, 0, 0).unwrap();
    let mut first: Option<(&str, Views, Views)> = None;
    for (number, db) in harness::all().await.into_iter().enumerate() {
        let mut records = Records::random(42, start);
        let mut rest = records.split_off_half();
        records.shuffle(number as u64);
        rest.shuffle(number as u64);
        records.store(&db.store).await;
        let half = views(&db).await;
        // What was aggregated when read is the same when it is served as refreshed.
        refresh(&db).await;
        assert_same("refreshed", db.name, &half, db.name, &views(&db).await);
        // The rest falls into ranges that are materialised already.
        rest.store(&db.store).await;
        refresh(&db).await;
        let whole = views(&db).await;
        match &first {
            Some((name, first_half, first_whole)) => {
                assert_same("half of them", name, first_half, db.name, &half);
                assert_same("all of them", name, first_whole, db.name, &whole);
            }
            None => first = Some((db.name, half, whole)),
        }
    }
}

#[tokio::test]
async fn a_restored_server_whose_transactions_count_anew_is_refreshed_all_the_same() {
    for db in harness::all().await.into_iter().filter(|db| db.store.capabilities().engine == hitherto::Engine::Timescaledb) {
        let old = Utc::now() - TimeDelta::days(20);
        store(&db.store, vec![ModuleExecution::new("m", 1.0).at(old)]).await;
        refresh(&db).await;
        let client = db.store.client().await.unwrap();
        client
            .batch_execute(
                "SET session_replication_role = replica; UPDATE hitherto.ingest_batch SET xid = '4000000000'; RESET session_replication_role;
                 UPDATE hitherto.aggregate SET refreshed_snapshot = '4000000001:4000000001:'",
            )
            .await
            .unwrap();
        drop(client);
        for expected in [2, 3] {
            store(&db.store, vec![ModuleExecution::new("m", 2.0).at(old)]).await;
            refresh(&db).await;
            let client = db.store.client().await.unwrap();
            let row = client
                .query_one(
                    "SELECT (SELECT sum(executions)::bigint FROM hitherto.module_execution_hour),
                            (SELECT count(stale_from) FROM hitherto.aggregate_freshness)",
                    &[],
                )
                .await
                .unwrap();
            assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1)), (expected, 0), "{}", db.name);
        }
    }
}

#[tokio::test]
async fn last_years_rows_show_in_aggregates_whose_policies_have_run() {
    for db in harness::all().await {
        let timescaledb = db.store.capabilities().engine == hitherto::Engine::Timescaledb;
        let now = Utc::now();
        for table in ["module_execution", "health_check", "signal"] {
            db.store.retention_set(table, None).await.unwrap();
        }
        let runs = |from: DateTime<Utc>, count: i64| {
            (0..count).map(|n| ModuleExecution::new("m", n as f64).at(from + TimeDelta::minutes(n))).collect::<Vec<_>>()
        };
        store(&db.store, runs(now - TimeDelta::hours(6), 100)).await;
        if timescaledb {
            db.run_refresh_policies().await;
        }
        // History is loaded: a year old, past every policy's window and behind the watermark.
        store(&db.store, runs(now - TimeDelta::days(365), 500)).await;
        let count = async || {
            let client = db.store.client().await.unwrap();
            client
                .query_one("SELECT coalesce(sum(executions), 0)::bigint FROM hitherto.module_execution_minute", &[])
                .await
                .unwrap()
                .get::<_, i64>(0)
        };
        let stale = |all: &[hitherto::store::Freshness]| {
            all.iter().filter(|f| f.stale_from.is_some()).map(|f| f.view_name.clone()).collect::<Vec<_>>()
        };
        if timescaledb {
            assert_eq!(count().await, 100, "{}: hidden behind the watermark", db.name);
            let freshness = db.store.aggregate_freshness().await.unwrap();
            assert!(stale(&freshness).contains(&"module_execution_minute".to_owned()), "{}: {freshness:?}", db.name);
        }
        let refreshed = db.store.aggregate_refresh().await.unwrap();
        assert!(refreshed.iter().all(|r| r.error.is_none()), "{refreshed:?}");
        assert_eq!(count().await, 600, "{}", db.name);
        assert_eq!(stale(&db.store.aggregate_freshness().await.unwrap()), Vec::<String>::new(), "{}", db.name);
        // Nothing new was written: the next time nothing is due.
        assert!(db.store.aggregate_refresh().await.unwrap().iter().all(|r| r.ranges == 0), "{}", db.name);
        // More of the same days, later still.
        store(&db.store, runs(now - TimeDelta::days(365), 50)).await;
        db.store.aggregate_refresh().await.unwrap();
        assert_eq!(count().await, 650, "{}", db.name);
    }
}

#[tokio::test]
async fn rows_of_an_open_bucket_show_and_go_on_showing() {
    for db in harness::all().await {
        let now = Utc::now();
        let count = async || {
            let client = db.store.client().await.unwrap();
            client
                .query_one("SELECT coalesce(sum(executions), 0)::bigint FROM hitherto.module_execution_day", &[])
                .await
                .unwrap()
                .get::<_, i64>(0)
        };
        for expected in 1..4 {
            store(&db.store, vec![ModuleExecution::new("m", 1.0).at(now)]).await;
            store(&db.store, vec![ModuleExecution::new("m", 1.0).at(now - TimeDelta::days(3))]).await;
            db.store.aggregate_refresh().await.unwrap();
            assert_eq!(count().await, 2 * expected, "{}", db.name);
        }
    }
}

#[tokio::test]
async fn latency_percentiles_are_within_one_percent_over_any_range() {
    for db in harness::all().await {
        let mut random = StdRng::seed_from_u64(7);
        let start = Utc::now() - TimeDelta::days(3);
        let runs = (0..4000)
            .map(|n| {
                let ms = match n % 40 {
                    0 => 0.0,
                    1 => random.random_range(1e4..1e7),
                    _ => random.random_range(-7.0f64..7.0).exp(),
                };
                ModuleExecution::new("m", ms).at(start + TimeDelta::seconds(random.random_range(0..200_000)))
            })
            .collect();
        store(&db.store, runs).await;
        db.store.aggregate_refresh().await.unwrap();
        let client = db.store.client().await.unwrap();
        for _ in 0..60 {
            let from = start + TimeDelta::seconds(random.random_range(0..190_000));
            let to = from + TimeDelta::seconds(random.random_range(60..150_000));
            let fraction = *[0.0, 0.01, 0.5, 0.9, 0.95, 0.99, 1.0, random.random_range(0.0..1.0)].choose(&mut random).unwrap();
            let row = client
                .query_one(
                    "SELECT hitherto.latency_percentile($1, 'm', $2, $3), (SELECT percentile_cont($1) WITHIN GROUP (ORDER BY duration_ms) FROM hitherto.module_execution WHERE started_at >= $2 AND started_at < $3)",
                    &[&fraction, &from, &to],
                )
                .await
                .unwrap();
            match (row.get::<_, Option<f64>>(0), row.get::<_, Option<f64>>(1)) {
                (Some(answer), Some(exact)) => {
                    assert!(
                        (answer - exact).abs() <= 0.01 * exact + 1e-6,
                        "{}: {fraction} of {from} to {to}: {answer}, exactly {exact}",
                        db.name
                    );
                }
                (answer, exact) => assert_eq!(answer, exact, "{}", db.name),
            }
        }
        assert!(client.query_one("SELECT hitherto.latency_percentile(1.5, 'm', now(), now())", &[]).await.is_err());
        let unknown: Option<f64> =
            client.query_one("SELECT hitherto.latency_percentile(0.5, 'nobody', $1, now())", &[&start]).await.unwrap().get(0);
        assert_eq!(unknown, None);
    }
}

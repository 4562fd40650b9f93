//! Whatever a record can hold is refused before it is sent, stored as it is, or in quarantine with a reason; and its
//! neighbours are stored, once.

use std::collections::BTreeSet;

use chrono::{DateTime, TimeDelta, Utc};
use hitherto::records::{
    Decimal, EventType, Fields, HealthCheck, Json, Kind, Limits, Module, ModuleExecution, ModuleStatus, OrderEvent, PortfolioSnapshot,
    Proposal, Record, Regime, RegimeState, RiskEvaluation, RiskLevel, Side, Signal, Verdict,
};
use hitherto::writer::Batch;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::{BoxedStrategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use crate::harness::{self, Db};

/// Draws a record's values: good ones, but for those whose turn is in `poison`.
struct Draw<'a> {
    runner: &'a mut TestRunner,
    poison: BTreeSet<usize>,
    turn: usize,
    /// Tells this record's ids from others'.
    id: String,
}

impl Draw<'_> {
    fn is_poison(&mut self) -> bool {
        self.turn += 1;
        self.poison.contains(&(self.turn - 1))
    }

    fn of<T: std::fmt::Debug>(&mut self, strategy: BoxedStrategy<T>) -> T {
        strategy.new_tree(self.runner).unwrap().current()
    }

    fn id(&mut self) -> String {
        if self.is_poison() { self.of(texts()) } else { self.id.clone() }
    }

    fn text(&mut self, good: &str) -> String {
        if self.is_poison() { self.of(texts()) } else { good.to_owned() }
    }

    fn some_text(&mut self) -> Option<String> {
        Some(self.text("some words"))
    }

    fn float(&mut self) -> f64 {
        if self.is_poison() { self.of(floats()) } else { 0.5 }
    }

    fn json(&mut self, good: &str) -> Json {
        let text = if self.is_poison() { self.of(jsons()) } else { good.to_owned() };
        // What is no JSON at all no record can hold.
        Json::parse(&text).unwrap_or_else(|_| Json::parse(good).unwrap())
    }

    fn decimal(&mut self) -> Decimal {
        if self.is_poison() { self.of(decimals()) } else { "1.5".parse().unwrap() }
    }

    fn time(&mut self) -> DateTime<Utc> {
        let good = chrono::SubsecRound::trunc_subsecs(Utc::now(), 6) - TimeDelta::hours(1);
        if self.is_poison() { self.of(times(good)) } else { good }
    }

    fn int8(&mut self) -> i64 {
        if self.is_poison() { self.of(prop_oneof![select(vec![i64::MIN, i64::MAX, 0, -1]), any::<i64>()].boxed()) } else { 7 }
    }

    fn int4(&mut self) -> i32 {
        if self.is_poison() { self.of(prop_oneof![select(vec![i32::MIN, i32::MAX, -1]), any::<i32>()].boxed()) } else { 7 }
    }
}

fn floats() -> BoxedStrategy<f64> {
    let odd = vec![
        f64::NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
        -0.0,
        f64::MIN_POSITIVE,
        f64::from_bits(1),
        f64::MAX,
        f64::MIN,
        1e15,
        -1e15,
        1.000_000_000_000_001e15,
        1.0 + f64::EPSILON,
    ];
    prop_oneof![select(odd), proptest::num::f64::ANY].boxed()
}

fn texts() -> BoxedStrategy<String> {
    let odd = vec![
        String::new(),
        " ".to_owned(),
        "\u{a0}\t".to_owned(),
        "a\0b".to_owned(),
        "\0".to_owned(),
        "n".repeat(200),
        "n".repeat(201),
        "\u{1F4A5}".repeat(200),
        "x".repeat(300_000),
        "\u{202e}\u{5d0}\u{5d1}\u{200f} e\u{301} \u{1F468}\u{200d}\u{1F469}\u{200d}\u{1F467}".to_owned(),
        "'; DROP TABLE hitherto.module; -- \\ \" $1 %s {}".to_owned(),
        "\\N\t\r\n\u{7f}\u{85}\u{feff}\u{fffd}\u{10ffff}".to_owned(),
        "NULL".to_owned(),
    ];
    prop_oneof![select(odd), any::<String>(), "\\PC{1,40}".prop_map(|text| text)].boxed()
}

fn jsons() -> BoxedStrategy<String> {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let odd = vec![
        r#"{"a":"\u0000"}"#.to_owned(),
        r#"{"\u0000":1}"#.to_owned(),
        r#"["\ud800"]"#.to_owned(),
        r#"["\udc00\ud800"]"#.to_owned(),
        r#"{"a":"\ud83d\ude00 \\u0000"}"#.to_owned(),
        "1e200000".to_owned(),
        "[-1e-20000]".to_owned(),
        "1e9223372036854775807".to_owned(),
        "1e99999999999999999999".to_owned(),
        format!("[{}.{}]", "9".repeat(20_000), "1".repeat(15_000)),
        "[1e100, -0, -0.0, 0e5, 1E+2, 0.1000]".to_owned(),
        r#"{"b":1,"a":2,"b":{"c":[1e2]},"":0}"#.to_owned(),
        "null".to_owned(),
        "\"text\"".to_owned(),
        nested(128),
        nested(129),
        nested(900),
        nested(100_000),
        format!("\"{}\"", "x".repeat(300_000)),
        " {\n\"k\" :\t[ true , false ]\r}".to_owned(),
    ];
    prop_oneof![3 => select(odd), 1 => any::<String>().prop_map(|text| serde_json::json!({ "text": text }).to_string())].boxed()
}

fn decimals() -> BoxedStrategy<Decimal> {
    let edge = 10i128.pow(38) - 1;
    let odd: Vec<Decimal> = [edge, -edge, 1, -1, 0, 10i128.pow(18)].into_iter().map(|units| Decimal::from_units(units).unwrap()).collect();
    prop_oneof![select(odd), (-edge..=edge).prop_map(|units| Decimal::from_units(units).unwrap())].boxed()
}

fn times(good: DateTime<Utc>) -> BoxedStrategy<DateTime<Utc>> {
    let read = |text: &str| text.parse::<DateTime<Utc>>().unwrap();
    let odd = vec![
        DateTime::<Utc>::MIN_UTC,
        DateTime::<Utc>::MAX_UTC,
        read("9999-12-31T23:59:59.999999Z"),
        read("1970-01-01T00:00:00Z"),
        read("1999-12-31T23:59:59.999999Z"),
        read("-4712-01-01T00:00:00Z"),
        read("-4800-01-01T00:00:00Z"),
        read("0000-01-01T00:00:00Z"),
        read("2016-12-31T23:59:60Z"),
        good + TimeDelta::nanoseconds(1),
        good + TimeDelta::minutes(119),
        good + TimeDelta::days(20),
        good - TimeDelta::days(3651),
        good - TimeDelta::days(3700),
    ];
    prop_oneof![
        select(odd),
        (-60_000_000_000i64..200_000_000_000).prop_map(|second| DateTime::from_timestamp(second, 999_999_000).unwrap())
    ]
    .boxed()
}

/// A kind of record: how one is drawn, and what of it stays as it was written.
trait Kinds: Record {
    fn draw(draw: &mut Draw<'_>) -> Self;
    /// The column that tells rows apart where they carry no batch.
    const KEY: Option<&'static str> = None;
    /// Its value.
    fn key(&self) -> String {
        String::new()
    }
    /// Columns that the database decides on.
    const DECIDED: &'static [&'static str] = &[];
    /// Each regime puts the one before out of force: a thousand are a lot of work.
    const NEIGHBOURS: usize = 999;
    /// Times finer than the database keeps are cut: only those that nobody checked reach it.
    fn cut(&mut self) {}
}

fn micros(time: &mut DateTime<Utc>) {
    *time = DateTime::from_timestamp_micros(time.timestamp_micros()).unwrap();
}

impl Kinds for Module {
    const KEY: Option<&'static str> = Some("name");
    fn key(&self) -> String {
        self.name.clone()
    }
    fn draw(d: &mut Draw<'_>) -> Self {
        Self { name: d.id(), version: d.text("1"), status: ModuleStatus::Active, config: Some(d.json("{}")), error_message: d.some_text() }
    }
}

impl Kinds for ModuleExecution {
    fn draw(d: &mut Draw<'_>) -> Self {
        let mut record = Self::new(d.text("technical"), d.float());
        (record.started_at, record.execution_id) = (d.time(), d.id());
        (record.error_message, record.details) = (d.some_text(), Some(d.json("[1]")));
        record
    }
    fn cut(&mut self) {
        micros(&mut self.started_at);
    }
}

impl Kinds for HealthCheck {
    fn draw(d: &mut Draw<'_>) -> Self {
        let mut record = Self::new(d.text("technical"), d.text("healthy"));
        (record.checked_at, record.response_time_ms, record.error_count) = (d.time(), Some(d.float()), d.int4());
        (record.memory_usage_mb, record.cpu_usage_percent, record.details) = (Some(d.float()), Some(d.float()), Some(d.json("{}")));
        record
    }
    fn cut(&mut self) {
        micros(&mut self.checked_at);
    }
}

impl Kinds for Signal {
    fn draw(d: &mut Draw<'_>) -> Self {
        let mut record = Self::new(d.text("technical"), d.text("trend"));
        (record.emitted_at, record.signal_id, record.asset) = (d.time(), d.id(), d.some_text());
        (record.score, record.confidence, record.payload) = (Some(d.float()), Some(d.float()), Some(d.json("{}")));
        record
    }
    fn cut(&mut self) {
        micros(&mut self.emitted_at);
    }
}

impl Kinds for Proposal {
    fn draw(d: &mut Draw<'_>) -> Self {
        let mut record = Self::new(d.text("overseer"));
        (record.proposal_id, record.proposed_at, record.asset, record.payload) = (d.id(), d.time(), d.some_text(), Some(d.json("{}")));
        record
    }
    fn cut(&mut self) {
        micros(&mut self.proposed_at);
    }
}

impl Kinds for RiskEvaluation {
    fn draw(d: &mut Draw<'_>) -> Self {
        let mut record = Self::new(d.text("risk"), d.text("p"), RiskLevel::Low, Verdict::Approved);
        (record.evaluated_at, record.evaluation_id, record.var_99, record.expected_shortfall) =
            (d.time(), d.id(), Some(d.float()), Some(d.float()));
        (record.max_drawdown, record.sharpe_ratio, record.flags) = (Some(d.float()), Some(d.float()), Some(d.json("[]")));
        (record.recommendations, record.method, record.model_version) = (Some(d.json("[]")), d.some_text(), d.some_text());
        record
    }
    fn cut(&mut self) {
        micros(&mut self.evaluated_at);
    }
}

impl Kinds for OrderEvent {
    fn draw(d: &mut Draw<'_>) -> Self {
        let mut record = Self::new(d.text("order"), EventType::Fill).side(Side::Buy);
        (record.event_at, record.event_id, record.sequence, record.proposal_id) = (d.time(), d.id(), Some(d.int8()), d.some_text());
        (record.asset, record.order_type, record.quantity, record.price) =
            (d.some_text(), d.some_text(), Some(d.decimal()), Some(d.decimal()));
        (record.last_quantity, record.last_price, record.commission) = (Some(d.decimal()), Some(d.decimal()), Some(d.decimal()));
        (record.broker, record.reason, record.ref_event_id, record.details) =
            (d.some_text(), d.some_text(), d.some_text(), Some(d.json("{}")));
        record
    }
    fn cut(&mut self) {
        micros(&mut self.event_at);
    }
}

impl Kinds for PortfolioSnapshot {
    fn draw(d: &mut Draw<'_>) -> Self {
        let mut record = Self::new(d.json(r#"{"A": "1"}"#), d.decimal(), d.decimal());
        (record.taken_at, record.snapshot_id, record.portfolio_var) = (d.time(), d.id(), Some(d.float()));
        (record.portfolio_volatility, record.max_position_concentration) = (Some(d.float()), Some(d.float()));
        (record.correlation_risk, record.reason, record.market_hours) = (Some(d.float()), d.some_text(), Some(true));
        record
    }
    fn cut(&mut self) {
        micros(&mut self.taken_at);
    }
}

impl Kinds for RegimeState {
    const KEY: Option<&'static str> = Some("regime_id");
    fn key(&self) -> String {
        self.regime_id.clone()
    }
    const DECIDED: &'static [&'static str] =
        &["requires_confirmation", "status", "decided_at", "decided_by", "effective_from", "effective_until"];
    const NEIGHBOURS: usize = 99;
    fn draw(d: &mut Draw<'_>) -> Self {
        let mut record = Self::new(Regime::Bull, d.float(), d.text("overseer"));
        (record.regime_id, record.proposed_at, record.decide_by) = (d.id(), d.time(), Some(d.time() + TimeDelta::zero()));
        (record.method, record.reasoning, record.notes, record.context) = (d.some_text(), d.some_text(), d.some_text(), Some(d.json("{}")));
        record
    }
    fn cut(&mut self) {
        micros(&mut self.proposed_at);
        if let Some(time) = &mut self.decide_by {
            micros(time);
        }
    }
}

/// A record's values as text, bit by bit.
#[derive(Default)]
struct Written {
    module: String,
    values: Vec<String>,
}

impl Written {
    fn put<T: std::fmt::Debug>(&mut self, value: Option<T>) {
        self.values.push(value.map_or("NULL".to_owned(), |value| format!("{value:?}")));
    }
}

impl Fields for Written {
    fn time(&mut self, value: Option<DateTime<Utc>>) {
        self.put(value.map(|time| (time.timestamp_micros() - 946_684_800_000_000).to_be_bytes().to_vec()));
    }
    fn int8(&mut self, value: Option<i64>) {
        match value {
            // A module's number is the database's.
            Some(MODULE) => self.put(Some(self.module.clone())),
            value => self.put(value),
        }
    }
    fn int4(&mut self, value: Option<i32>) {
        self.put(value);
    }
    fn float8(&mut self, value: Option<f64>) {
        self.put(value.map(f64::to_bits));
    }
    fn bool(&mut self, value: Option<bool>) {
        self.put(value);
    }
    fn text(&mut self, value: Option<&str>) {
        self.put(value);
    }
    fn numeric(&mut self, value: Option<Decimal>) {
        self.put(value.map(Decimal::units));
    }
    fn json(&mut self, value: Option<&Json>) {
        self.put(value.map(Json::printed));
    }
}

const MODULE: i64 = -987_654_321;

fn written<R: Kinds>(record: &R) -> String {
    let mut written = Written { module: record.module().unwrap_or_default().to_owned(), values: Vec::new() };
    record.fields(MODULE, &mut written);
    let columns = R::COLUMNS.iter().zip(&written.values).filter(|(column, _)| !R::DECIDED.contains(&column.name));
    columns.map(|(column, value)| format!("{}={value}", column.name)).collect::<Vec<_>>().join(" ")
}

/// The rows that are there, as [`written`] would say them.
async fn stored<R: Kinds>(db: &Db, batch: &Batch<R>) -> Vec<String> {
    let columns: Vec<_> = R::COLUMNS.iter().filter(|column| !R::DECIDED.contains(&column.name)).collect();
    let list: Vec<String> = columns
        .iter()
        .map(|column| match column.kind {
            Kind::Timestamptz => format!("timestamptz_send(t.{})", column.name),
            Kind::Jsonb => format!("t.{}::text", column.name),
            Kind::Int8 if column.name == "module_id" => {
                "(SELECT m.name::text FROM hitherto.module m WHERE m.module_id = t.module_id)".to_owned()
            }
            _ => format!("t.{}", column.name),
        })
        .collect();
    let client = db.store.client().await.unwrap();
    let select = format!("SELECT {} FROM hitherto.{} t", list.join(", "), R::TABLE);
    let rows = match R::KEY {
        None => client.query(&format!("{select} WHERE t.batch_id = $1"), &[&batch.id()]).await,
        Some(key) => {
            // A key that text can't hold is in no row.
            let keys: Vec<String> = batch.rows().iter().map(R::key).filter(|key| !key.contains('\0')).collect();
            client.query(&format!("{select} WHERE t.{key} = ANY ($1)"), &[&keys]).await
        }
    }
    .unwrap();
    let mut all = Vec::new();
    for row in rows {
        let mut said = Written::default();
        for (at, column) in columns.iter().enumerate() {
            match column.kind {
                Kind::Timestamptz => said.put(row.get::<_, Option<Vec<u8>>>(at)),
                Kind::Int8 if column.name == "module_id" => said.put(row.get::<_, Option<String>>(at)),
                Kind::Int8 => said.put(row.get::<_, Option<i64>>(at)),
                Kind::Int4 => said.put(row.get::<_, Option<i32>>(at)),
                Kind::Float8 => said.put(row.get::<_, Option<f64>>(at).map(f64::to_bits)),
                Kind::Bool => said.put(row.get::<_, Option<bool>>(at)),
                Kind::Text | Kind::Jsonb => said.put(row.get::<_, Option<String>>(at)),
                Kind::Numeric => said.put(row.get::<_, Option<Decimal>>(at).map(Decimal::units)),
            }
        }
        all.push(columns.iter().zip(&said.values).map(|(column, value)| format!("{}={value}", column.name)).collect::<Vec<_>>().join(" "));
    }
    all.sort();
    all
}

async fn try_kind<R: Kinds>(db: &Db, runner: &mut TestRunner, cases: usize) {
    for case in 0..cases {
        let what = format!("{}: {}, case {case}", db.name, R::TABLE);
        // How many draws a record takes.
        let turns = {
            let mut draw = Draw { runner, poison: BTreeSet::new(), turn: 0, id: "x".to_owned() };
            R::draw(&mut draw);
            draw.turn
        };
        let poison: BTreeSet<usize> = (0..2).map(|_| (0..turns).boxed().new_tree(runner).unwrap().current()).collect();
        let run = uuid::Uuid::now_v7();
        let mut bad = R::draw(&mut Draw { runner, poison, turn: 0, id: format!("{run}-bad") });
        let invalid = bad.validate(&Limits::default(), Utc::now()).err();
        if invalid.is_none() {
            // Whoever wrote it is told nothing later: it must be stored.
            assert!(Batch::new("poison", vec![bad.clone()]).is_ok(), "{what}");
        } else {
            let error = Batch::new("poison", vec![bad.clone()]).unwrap_err();
            assert_eq!(error.kind(), hitherto::ErrorKind::Invalid, "{what}");
        }
        bad.cut();
        let mut rows: Vec<R> =
            (0..R::NEIGHBOURS).map(|n| R::draw(&mut Draw { runner, poison: BTreeSet::new(), turn: 0, id: format!("{run}-{n}") })).collect();
        let place = (0..=R::NEIGHBOURS).boxed().new_tree(runner).unwrap().current();
        rows.insert(place, bad);
        let batch = Batch::unchecked("poison", rows);
        let bad = &batch.rows()[place];
        let outcome = db.store.batch_store(&batch).await.unwrap_or_else(|e| panic!("{what}: {e}\n{bad:?}"));
        assert_eq!((outcome.rows + outcome.quarantined, outcome.duplicates), (R::NEIGHBOURS as u64 + 1, 0), "{what}: {:.600?}", bad);
        assert!(outcome.quarantined <= 1, "{what}");
        assert!(invalid.is_some() || outcome.quarantined == 0, "{what}: what was let through is not stored: {:.600?}", bad);
        let mut expected: Vec<String> = batch
            .rows()
            .iter()
            .enumerate()
            .filter(|(at, _)| *at != place || outcome.quarantined == 0)
            .map(|(_, row)| written(row))
            .collect();
        expected.sort();
        let found = stored(db, &batch).await;
        let differ = expected.iter().zip(&found).find(|(a, b)| a != b);
        assert!(differ.is_none() && expected.len() == found.len(), "{what}: {} rows for {}; {:.900?}", found.len(), expected.len(), differ);
        let client = db.store.client().await.unwrap();
        let ledger: i64 =
            client.query_one("SELECT row_count FROM hitherto.ingest_batch WHERE batch_id = $1", &[&batch.id()]).await.unwrap().get(0);
        assert_eq!(ledger as usize, found.len(), "{what}");
        let reasons = client.query("SELECT reason, sqlstate FROM hitherto.quarantine WHERE batch_id = $1", &[&batch.id()]).await.unwrap();
        assert_eq!(reasons.len() as u64, outcome.quarantined, "{what}");
        for row in reasons {
            assert!(row.get::<_, &str>(0).len() > 10 && row.get::<_, &str>(1).len() == 5, "{what}");
        }
        drop(client);
        // Sent again it is found, and nothing is stored twice.
        let again = db.store.batch_store(&batch).await.unwrap_or_else(|e| panic!("{what}: again: {e}"));
        assert_eq!((again.rows, again.quarantined, again.already), (outcome.rows, outcome.quarantined, true), "{what}");
    }
}

async fn try_all(db: &Db, cases: usize) {
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let runner = &mut TestRunner::new_with_rng(Config::default(), rng);
    try_kind::<Module>(db, runner, cases).await;
    try_kind::<ModuleExecution>(db, runner, cases).await;
    try_kind::<HealthCheck>(db, runner, cases).await;
    try_kind::<Signal>(db, runner, cases).await;
    try_kind::<Proposal>(db, runner, cases).await;
    try_kind::<RiskEvaluation>(db, runner, cases).await;
    try_kind::<OrderEvent>(db, runner, cases).await;
    try_kind::<PortfolioSnapshot>(db, runner, cases).await;
    try_kind::<RegimeState>(db, runner, cases / 2).await;
}

/// More of them: `HITHERTO_POISON=200`.
fn cases(usual: usize) -> usize {
    std::env::var("HITHERTO_POISON").ok().and_then(|n| n.parse().ok()).unwrap_or(usual)
}

#[tokio::test]
async fn whatever_a_record_holds_its_neighbours_are_stored() {
    let mut dbs = vec![harness::native().await];
    dbs.extend(harness::native_timescaledb().await);
    dbs.extend(harness::named().await);
    for db in dbs {
        try_all(&db, cases(12)).await;
    }
}

#[tokio::test]
async fn the_embedded_engine_stands_poison_too() {
    try_all(&harness::embedded().await, cases(2)).await;
}

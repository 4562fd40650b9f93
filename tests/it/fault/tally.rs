//! What was written, and a count of what is there.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hitherto::records::{EventType, HealthCheck, Module, ModuleExecution, OrderEvent, RiskEvaluation, RiskLevel, Side, Signal, Verdict};
use hitherto::writer::WriterStats;
use hitherto::{Store, Writer};
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

use crate::order;

/// Tables, and what tells their rows apart in these tests.
const KEYS: [(&str, &str); 5] = [
    ("health_check", "SELECT m.name || ' ' || r.error_count FROM hitherto.health_check r JOIN hitherto.module m USING (module_id)"),
    (
        "module_execution",
        "SELECT m.name || ' ' || r.execution_id FROM hitherto.module_execution r JOIN hitherto.module m USING (module_id)",
    ),
    ("signal", "SELECT m.name || ' ' || r.kind FROM hitherto.signal r JOIN hitherto.module m USING (module_id)"),
    ("risk_evaluation", "SELECT m.name || ' ' || r.evaluation_id FROM hitherto.risk_evaluation r JOIN hitherto.module m USING (module_id)"),
    ("order_event", "SELECT order_id || ' ' || event_id FROM hitherto.order_event r"),
];

/// Records that a writer took, each under a name of its own. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct Tally {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    /// By table, what tells a record from all others.
    keys: HashMap<&'static str, Vec<String>>,
    events: Vec<OrderEvent>,
    evaluations: Vec<RiskEvaluation>,
    /// The version that a module registered last.
    modules: BTreeMap<String, String>,
    /// Records handed over, those that came a second time among them.
    taken: u64,
}

/// What a count came to.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) rows: u64,
    pub(crate) lost: u64,
    pub(crate) twice: u64,
    /// Rows that nobody wrote.
    pub(crate) strange: u64,
}

impl Tally {
    fn note(&self, table: &'static str, key: String) {
        let mut inner = self.inner.lock().unwrap();
        inner.taken += 1;
        inner.keys.entry(table).or_default().push(key);
    }

    pub(crate) fn taken(&self) -> u64 {
        self.inner.lock().unwrap().taken
    }

    /// Notes records that were taken.
    pub(crate) fn health_checks(&self, records: &[HealthCheck]) {
        records.iter().for_each(|r| self.note("health_check", format!("{} {}", r.module, r.error_count)));
    }

    pub(crate) fn modules(&self, records: &[Module]) {
        let mut inner = self.inner.lock().unwrap();
        inner.taken += records.len() as u64;
        inner.modules.extend(records.iter().map(|r| (r.name.clone(), r.version.clone())));
    }

    pub(crate) fn order_events(&self, records: &[OrderEvent]) {
        for event in records {
            self.note("order_event", format!("{} {}", event.order_id, event.event_id));
            self.inner.lock().unwrap().events.push(event.clone());
        }
    }

    /// Writes a record of some kind, one in eight a second time, and notes it once it was taken.
    pub(crate) async fn write_one(&self, writer: &Writer, name: &str, n: i32, random: &mut StdRng) {
        let module = format!("{name}-{}", n % 5);
        match random.random_range(0..10) {
            0..=2 => {
                let record = HealthCheck::new(module, "healthy").error_count(n).response_time_ms(f64::from(n));
                writer.write(record.clone()).await.unwrap();
                self.health_checks(&[record]);
            }
            3 => {
                let record = ModuleExecution::new(module, f64::from(n));
                let key = format!("{} {}", record.module, record.execution_id);
                writer.write(record).await.unwrap();
                self.note("module_execution", key);
            }
            4 => {
                let record = Signal::new(&*module, format!("k{n}"));
                writer.write(record).await.unwrap();
                self.note("signal", format!("{module} k{n}"));
            }
            5..=7 => {
                let again = random.random_ratio(1, 8).then(|| self.inner.lock().unwrap().events.choose(random).cloned()).flatten();
                let record = match again {
                    Some(event) => {
                        writer.write(event).await.unwrap();
                        self.inner.lock().unwrap().taken += 1;
                        return;
                    }
                    None => self.event(n, random),
                };
                writer.write(record.clone()).await.unwrap();
                self.order_events(&[record]);
            }
            8 => {
                let again = random.random_ratio(1, 8).then(|| self.inner.lock().unwrap().evaluations.choose(random).cloned()).flatten();
                let record = match again {
                    Some(evaluation) => {
                        writer.write(evaluation).await.unwrap();
                        self.inner.lock().unwrap().taken += 1;
                        return;
                    }
                    None => RiskEvaluation::new(module, format!("p{n}"), RiskLevel::Low, Verdict::Approved).var_99(0.01),
                };
                writer.write(record.clone()).await.unwrap();
                self.note("risk_evaluation", format!("{} {}", record.module, record.evaluation_id));
                self.inner.lock().unwrap().evaluations.push(record);
            }
            _ => {
                let record = Module::new(format!("{name}-registry"), n.to_string());
                writer.write(record.clone()).await.unwrap();
                self.modules(&[record]);
            }
        }
    }

    /// An event of an order that other writers write to as well.
    fn event(&self, n: i32, random: &mut StdRng) -> OrderEvent {
        let order_id = format!("o{}", n / 40 + random.random_range(0..4));
        let kind = *[EventType::Submitted, EventType::Fill, EventType::Fill, EventType::Fill, EventType::Accepted].choose(random).unwrap();
        let event = OrderEvent::new(order_id, kind).sequence(i64::from(n)).asset("A").side(Side::Buy);
        match kind {
            EventType::Submitted => event.quantity(random.random_range(100..10_000)),
            EventType::Fill => event
                .last_quantity(random.random_range(1..50))
                .last_price(random.random_range(1..500))
                .commission(order::decimal(random.random_range(1..1000) * 10i128.pow(15))),
            _ => event,
        }
    }

    /// Whatever was written, by table, and what tells it from all others.
    pub(crate) fn keys(&self) -> Vec<(&'static str, String)> {
        let inner = self.inner.lock().unwrap();
        inner.keys.iter().flat_map(|(table, keys)| keys.iter().map(|key| (*table, key.clone()))).collect()
    }

    /// Every event that was written.
    pub(crate) fn events(&self) -> Vec<OrderEvent> {
        self.inner.lock().unwrap().events.clone()
    }

    /// Counts what is there and checks all that must hold whatever went wrong before.
    pub(crate) async fn check(&self, store: &Store, what: &str) -> Count {
        let mut found = found(store).await;
        let mut count = Count { rows: found.values().sum(), ..Count::default() };
        let mut differing = Vec::new();
        for (table, key) in self.keys() {
            match found.remove(&(table, key.clone())) {
                Some(1) => {}
                Some(n) => {
                    count.twice += n - 1;
                    differing.push(format!("{table} {key} is there {n} times"));
                }
                None => {
                    count.lost += 1;
                    differing.push(format!("{table} {key} is lost"));
                }
            }
        }
        count.strange = found.values().sum();
        differing.extend(found.keys().map(|(table, key)| format!("{table} {key} was not written")));
        differing.truncate(10);
        assert_eq!((count.lost, count.twice, count.strange), (0, 0, 0), "{what}: {differing:#?}");
        let modules = self.inner.lock().unwrap().modules.clone();
        for (name, version) in modules {
            let found = store.module_get(&name).await.unwrap().map(|m| m.version);
            assert_eq!(found, Some(version), "{what}: {name} is as it registered last");
        }
        agrees(store, &self.events(), what).await;
        count
    }
}

/// What is there, and how often.
pub(crate) async fn found(store: &Store) -> HashMap<(&'static str, String), u64> {
    let client = store.client().await.unwrap();
    let mut found = HashMap::new();
    for (table, query) in KEYS {
        for row in client.query(query, &[]).await.unwrap() {
            *found.entry((table, row.get(0))).or_default() += 1;
        }
    }
    found
}

/// The parts of the database agree with one another: rows with the ledger, reports with these events, nothing
/// is in quarantine, and the audit finds nothing.
pub(crate) async fn agrees(store: &Store, events: &[OrderEvent], what: &str) {
    let client = store.client().await.unwrap();
    let number = async |query: &str| client.query_one(query, &[]).await.unwrap().get::<_, i64>(0);
    for (table, _) in KEYS {
        let query = format!(
            "SELECT count(*) FROM (SELECT batch_id, count(*) AS n FROM hitherto.{table} GROUP BY 1) r
             FULL JOIN (SELECT batch_id, row_count FROM hitherto.ingest_batch WHERE table_name = '{table}' AND row_count > 0) b USING (batch_id)
             WHERE r.n IS DISTINCT FROM b.row_count"
        );
        assert_eq!(number(&query).await, 0, "{what}: batches of {table} whose rows are not those of the ledger");
    }
    assert_eq!(number("SELECT count(*) FROM hitherto.quarantine").await, 0, "{what}: good rows are in quarantine");
    let mut orders: BTreeMap<&str, Vec<OrderEvent>> = BTreeMap::new();
    for event in events {
        orders.entry(&event.order_id).or_default().push(event.clone());
    }
    assert_eq!(number("SELECT count(*) FROM hitherto.execution_report").await, orders.len() as i64, "{what}: a report an order");
    for (order_id, events) in orders {
        assert_eq!(order::reported(store, order_id).await, order::fold(&events), "{what}: {order_id}");
    }
    drop(client);
    let audit = store.audit_verify(&[]).await.unwrap();
    assert_eq!(audit.findings, vec![], "{what}: the audit agrees");
}

/// Closes writers and checks that what they say of themselves adds up to what they took.
pub(crate) async fn close(writers: &[Writer], what: &str) -> WriterStats {
    let mut sum = WriterStats::default();
    for writer in writers {
        let stats = writer.close_within(Duration::from_secs(60)).await.unwrap_or_else(|e| panic!("{what}: {e}"));
        assert_eq!((stats.queued_rows, stats.queued_bytes), (0, 0), "{what}: {stats:?}");
        sum.accepted += stats.accepted;
        sum.stored += stats.stored;
        sum.duplicates += stats.duplicates;
        sum.quarantined += stats.quarantined;
        sum.retries += stats.retries;
        sum.batches += stats.batches;
    }
    sum
}

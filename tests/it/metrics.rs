//! What is counted and spanned for whoever watches from outside.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hitherto::WriterConfig;
use hitherto::metrics as names;
use hitherto::records::{EventType, HealthCheck, OrderEvent};
use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString, Unit, with_local_recorder,
};

use crate::harness;

/// Keeps every value by name and labels.
#[derive(Default)]
struct Values(Mutex<BTreeMap<String, Arc<Value>>>);

#[derive(Default)]
struct Value {
    sum: Mutex<f64>,
    times: AtomicU64,
}

impl Value {
    fn add(&self, value: f64) {
        *self.sum.lock().unwrap() += value;
        self.times.fetch_add(1, Ordering::Relaxed);
    }
}

impl CounterFn for Value {
    fn increment(&self, value: u64) {
        self.add(value as f64);
    }
    fn absolute(&self, value: u64) {
        *self.sum.lock().unwrap() = value as f64;
    }
}

impl GaugeFn for Value {
    fn increment(&self, value: f64) {
        self.add(value);
    }
    fn decrement(&self, value: f64) {
        self.add(-value);
    }
    fn set(&self, value: f64) {
        *self.sum.lock().unwrap() = value;
    }
}

impl HistogramFn for Value {
    fn record(&self, value: f64) {
        self.add(value);
    }
}

impl Values {
    fn of(&self, key: &Key) -> Arc<Value> {
        let labels: Vec<String> = key.labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
        self.0.lock().unwrap().entry(format!("{} {}", key.name(), labels.join(","))).or_default().clone()
    }

    fn get(&self, name: &str, labels: &str) -> Option<f64> {
        self.0.lock().unwrap().get(&format!("{name} {labels}")).map(|value| *value.sum.lock().unwrap())
    }

    fn times(&self, name: &str, labels: &str) -> u64 {
        self.0.lock().unwrap().get(&format!("{name} {labels}")).map_or(0, |value| value.times.load(Ordering::Relaxed))
    }

    fn touched(&self) -> u64 {
        self.0.lock().unwrap().values().map(|value| value.times.load(Ordering::Relaxed)).sum()
    }
}

impl Recorder for Values {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.of(key))
    }
    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.of(key))
    }
    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(self.of(key))
    }
}

/// Runs a test on one thread, so that what it counts is seen by its own recorder alone.
fn recorded<F: Future<Output = ()>>(test: impl FnOnce(Arc<Values>) -> F) {
    let values = Arc::new(Values::default());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    with_local_recorder(&*values, || runtime.block_on(test(values.clone())));
}

const CHECKS: &str = "table=health_check";

#[test]
fn a_writer_counts_what_it_stores_and_nothing_while_it_is_idle() {
    recorded(async |values| {
        let db = harness::native().await;
        let client = db.store.client().await.unwrap();
        client.batch_execute("ALTER TABLE hitherto.health_check ADD CONSTRAINT no_thirteen CHECK (error_count <> 13)").await.unwrap();
        drop(client);
        let mut config = WriterConfig::new("test");
        config.max_age = Duration::from_secs(600);
        let writer = db.store.writer(config);
        for n in 0..100 {
            writer.write(HealthCheck::new("m", "healthy").error_count(n)).await.unwrap();
        }
        assert_eq!(values.get(names::WRITER_QUEUE_ROWS, CHECKS), Some(100.0));
        assert_eq!(values.get(names::WRITER_QUEUE_BYTES, CHECKS), Some(writer.stats().queued_bytes as f64));
        let bytes = writer.stats().queued_bytes as f64;
        writer.flush().await.unwrap();
        let event = OrderEvent::new("o", EventType::Pending);
        for _ in 0..2 {
            writer.write(event.clone()).await.unwrap();
            writer.flush().await.unwrap();
        }
        for (name, labels, expected) in [
            (names::WRITER_ROWS, CHECKS, 99.0),
            (names::WRITER_BYTES, CHECKS, bytes),
            (names::WRITER_BATCHES, CHECKS, 1.0),
            (names::WRITER_QUARANTINED, CHECKS, 1.0),
            (names::WRITER_DUPLICATES, CHECKS, 0.0),
            (names::WRITER_QUEUE_ROWS, CHECKS, 0.0),
            (names::WRITER_QUEUE_BYTES, CHECKS, 0.0),
            (names::WRITER_ROWS, "table=order_event", 1.0),
            (names::WRITER_DUPLICATES, "table=order_event", 1.0),
            (names::WRITER_BATCHES, "table=order_event", 2.0),
        ] {
            assert_eq!(values.get(name, labels), Some(expected), "{name} {labels}");
        }
        assert_eq!(values.times(names::WRITER_COMMIT_SECONDS, CHECKS), 1);
        assert!(values.get(names::WRITER_COMMIT_SECONDS, CHECKS).unwrap() > 0.0);
        let touched = values.touched();
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert_eq!(values.touched(), touched, "nothing ticks when idle");
        writer.close().await.unwrap();
    });
}

#[test]
fn retries_are_counted_by_their_class() {
    recorded(async |values| {
        let db = harness::native().await;
        let mut config = WriterConfig::new("test");
        config.deadline = Duration::from_millis(300);
        let writer = db.store.writer(config);
        writer.write(HealthCheck::new("m", "healthy")).await.unwrap();
        writer.flush().await.unwrap();
        let blocker = db.config.clone().with_application_name("blocker").connect().await.unwrap();
        blocker.batch_execute("BEGIN; LOCK TABLE hitherto.health_check IN ACCESS EXCLUSIVE MODE").await.unwrap();
        writer.write(HealthCheck::new("m", "healthy")).await.unwrap();
        // The server's own timeout (57014) and this side's come at the same time: either is seen.
        let late = |values: &Values| {
            let count = |class: &str| values.get(names::WRITER_RETRIES, &format!("{CHECKS},class={class}")).unwrap_or_default();
            count("57") + count("timeout")
        };
        while late(&values) < 1.0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        blocker.batch_execute("COMMIT").await.unwrap();
        writer.flush().await.unwrap();
        let before = writer.stats().retries;
        let kill = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'hitherto' AND datname = current_database() AND state LIKE 'idle%'";
        blocker.execute(kill, &[]).await.unwrap();
        // However the connection's end is felt, a batch that is sent again is counted once.
        writer.write(HealthCheck::new("m", "healthy")).await.unwrap();
        writer.close().await.unwrap();
        let all: f64 = ["57", "timeout", "connection"]
            .iter()
            .filter_map(|class| values.get(names::WRITER_RETRIES, &format!("{CHECKS},class={class}")))
            .sum();
        assert_eq!(all, writer.stats().retries as f64);
        assert!(writer.stats().retries >= before);
        assert_eq!(values.get(names::WRITER_ROWS, CHECKS), Some(3.0));
    });
}

/// Keeps the names of spans.
#[derive(Clone, Default)]
struct Spans(Arc<Mutex<Vec<&'static str>>>);

impl tracing::Subscriber for Spans {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, span: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        let mut names = self.0.lock().unwrap();
        names.push(span.metadata().name());
        tracing::span::Id::from_u64(names.len() as u64)
    }
    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn event(&self, _: &tracing::Event<'_>) {}
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

#[test]
fn a_batch_has_spans_of_its_own() {
    // While there is but one subscriber, a thread without it that comes upon a span first turns that span
    // off for all.
    let _another = tracing::Dispatch::new(Spans::default());
    let spans = Spans::default();
    let seen = spans.0.clone();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tracing::subscriber::with_default(spans, || {
        runtime.block_on(async {
            let db = harness::native().await;
            let writer = db.store.writer(WriterConfig::new("test"));
            writer.write(HealthCheck::new("m", "healthy")).await.unwrap();
            writer.close().await.unwrap();
        });
    });
    let seen: Vec<&str> = seen.lock().unwrap().iter().copied().filter(|name| name.starts_with("writer.")).collect();
    assert_eq!(seen, ["writer.batch", "writer.attempt", "writer.rows", "writer.commit"]);
}

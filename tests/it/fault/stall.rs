//! Servers that take everything and answer nothing.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use hitherto::records::{HealthCheck, Module};
use hitherto::{Config, ErrorKind, Store, WriterConfig};
use rand::seq::SliceRandom;
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::cut::{What, patient};
use super::proxy::{Fault, From, Plan, Proxy};
use super::tally::{Tally, close};
use super::{Seed, long, say};
use crate::harness;

/// How long things may take in these tests.
const SHORT: Duration = Duration::from_millis(1_000);

/// What a batch that must get through in the end may take, on a machine that is busy with other tests.
const ENOUGH: Duration = Duration::from_secs(3);

/// Far longer than any sum of deadlines, for machines that are busy.
const BOUND: Duration = Duration::from_secs(40);

fn impatient(mut config: Config, limit: Duration) -> Config {
    (config.connect_timeout, config.statement_timeout, config.max_attempts) = (limit, limit, 1);
    config
}

/// The proxy lets everything through again: waits until that has got about.
async fn awake(store: &Store) {
    let end = Instant::now() + BOUND;
    while let Err(error) = store.module_list().await {
        assert!(Instant::now() < end, "{error}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn connected(config: &Config) -> Store {
    let end = Instant::now() + BOUND;
    loop {
        match Store::connect(config.clone()).await {
            Ok(store) => return store,
            Err(error) => assert!(Instant::now() < end, "{error}"),
        }
    }
}

/// From every message of a batch on nothing is answered: the writer says so in time, keeps its records,
/// and has them stored once when the server is back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_hangs_from_any_message_on_is_told_in_time() {
    let seed = Seed::new("stalls");
    let db = Arc::new(harness::native().await);
    let tally = Tally::default();
    let mut plans = Vec::new();
    let proxy = Proxy::start(harness::server().port).await;
    for what in What::ALL {
        let writer = patient(&impatient(proxy.config(&db.config), ENOUGH), ENOUGH).await;
        proxy.arm(None);
        what.write(&writer, &tally, 50).await;
        close(&[writer], "stalls").await;
        for from in [From::Client, From::Server] {
            plans.extend((0..proxy.seen(from)).map(|message| (what, Plan { from, message, fault: Fault::Swallow })));
        }
    }
    plans.shuffle(&mut seed.random());
    if !long() {
        plans.truncate(32);
    }
    let count = plans.len();
    let plans = Arc::new(Mutex::new(plans));
    // Nearly all of the time is spent in deadlines.
    let lanes = (0..16).map(|lane| {
        let (plans, db, tally) = (plans.clone(), db.clone(), tally.clone());
        tokio::spawn(async move {
            let proxy = Proxy::start(harness::server().port).await;
            while let Some((what, plan)) = { plans.lock().await.pop() } {
                let told = format!("{what:?}, {plan:?}");
                let writer = patient(&impatient(proxy.config(&db.config), ENOUGH), ENOUGH).await;
                proxy.arm(Some(plan));
                what.write(&writer, &tally, 50).await;
                let began = Instant::now();
                let error = writer.close_within(ENOUGH * 2).await.expect_err(&told);
                assert!(began.elapsed() < BOUND, "{told}: {:?}", began.elapsed());
                assert_eq!(error.kind(), ErrorKind::Timeout, "{told}: {error}");
                assert!(proxy.fired(), "{told}: the message came");
                // Half of them stay half-open: nobody ever says that they are gone. But for a server that hangs amid a question
                // no timeout of its own ticks, and its locks would hold up the batch for as long as TCP takes.
                proxy.heal(lane % 2 == 0 || !proxy.asked());
                let stats = close(&[writer], &told).await;
                assert!(stats.retries > 0, "{told}: {stats:?}");
            }
        })
    });
    for lane in join_all(lanes).await {
        lane.unwrap();
    }
    let found = tally.check(&db.store, "stalls").await;
    if long() {
        say(&format!("seed {}: {count} stalls, {} rows, lost {}, twice {}", seed.value, found.rows, found.lost, found.twice));
    }
}

/// Whatever else is asked of a server that hangs ends in an error that says so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_question_to_a_server_that_hangs_has_a_deadline() {
    let db = harness::native().await;
    let proxy = Proxy::start(harness::server().port).await;
    let config = impatient(proxy.config(&db.config), SHORT);
    // Of one try: a machine that is busy may need more than one.
    let patient = impatient(proxy.config(&db.config), BOUND);
    let count = loop {
        proxy.arm(None);
        if Store::connect(patient.clone()).await.is_ok() {
            break [proxy.seen(From::Client), proxy.seen(From::Server)];
        }
    };
    join_all((0..8).map(async |lane| {
        let proxy = Proxy::start(harness::server().port).await;
        let config = impatient(proxy.config(&db.config), SHORT);
        for from in [From::Client, From::Server] {
            for message in (lane..count[from as usize]).step_by(8) {
                let plan = Plan { from, message, fault: Fault::Swallow };
                proxy.arm(Some(plan));
                let connecting = timeout(BOUND, Store::connect(config.clone())).await;
                match connecting.unwrap_or_else(|_| panic!("connecting hangs, {plan:?}")) {
                    Err(error) => assert!(matches!(error.kind(), ErrorKind::Timeout | ErrorKind::Unreachable), "{plan:?}: {error}"),
                    // Rows hold their statement. The last two statements are closed when their rows are dropped, and nobody waits
                    // for that: four messages each way.
                    Ok(_) => assert!(message + 4 >= count[from as usize], "{plan:?}: it can't have connected"),
                }
                proxy.heal(true);
            }
        }
    }))
    .await;
    proxy.heal(true);
    let store = connected(&config).await;
    for held in [true, false] {
        if held {
            // The pool has a connection, which goes silent.
            awake(&store).await;
        }
        for (name, asked) in questions(&store) {
            proxy.heal(true);
            if held {
                awake(&store).await;
            }
            proxy.arm(Some(Plan { from: From::Client, message: 0, fault: Fault::Swallow }));
            let answer = timeout(BOUND, asked).await;
            let error = answer.unwrap_or_else(|_| panic!("{name} hangs, connection held: {held}")).expect_err("nobody answered");
            assert!(matches!(error.kind(), ErrorKind::Timeout | ErrorKind::Unreachable), "{name}: {error}");
        }
    }
    proxy.heal(true);
    awake(&store).await;
}

type Question<'a> = std::pin::Pin<Box<dyn Future<Output = hitherto::Result<()>> + Send + 'a>>;

fn questions(store: &Store) -> Vec<(&'static str, Question<'_>)> {
    macro_rules! ask {
        ($($name:literal: $question:expr),* $(,)?) => { vec![$(($name, Box::pin(async move { $question.await.map(|_| ()) }))),*] };
    }
    ask![
        "module_list": store.module_list(),
        "module_get": store.module_get("m"),
        "module_register": store.module_register(Module::new("m", "1")),
        "module_stats": store.module_stats(),
        "execution_report": store.execution_report("o"),
        "aggregate_freshness": store.aggregate_freshness(),
        "upkeep_policies": store.upkeep_policies(),
    ]
}

/// The queue's bound holds while a server hangs, and those who write wait rather than pile up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_is_bounded_while_a_server_hangs() {
    let db = harness::native().await;
    let tally = Tally::default();
    let proxy = Proxy::start(harness::server().port).await;
    let store = connected(&impatient(proxy.config(&db.config), SHORT)).await;
    let mut config = WriterConfig::new("stall");
    (config.queue_bytes, config.deadline, config.max_age) = (64 << 10, SHORT, Duration::from_millis(10));
    let writer = store.writer(config);
    proxy.arm(Some(Plan { from: From::Client, message: 0, fault: Fault::Swallow }));
    let (taking, taken) = (writer.clone(), tally.clone());
    let task = tokio::spawn(async move {
        for n in 0..3_000 {
            let record = HealthCheck::new("m", "healthy").error_count(n);
            taking.write(record.clone()).await.unwrap();
            taken.health_checks(&[record]);
        }
    });
    let end = Instant::now() + SHORT * 4;
    while Instant::now() < end {
        let stats = writer.stats();
        assert!(stats.queued_bytes <= 64 << 10, "{stats:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(!task.is_finished(), "the queue is full");
    proxy.heal(false);
    task.await.unwrap();
    close(&[writer], "bounded").await;
    tally.check(&db.store, "bounded").await;
}

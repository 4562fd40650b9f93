//! Servers that are killed while writers write.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use hitherto::{Config, Store, Writer, WriterConfig};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use tokio_postgres::Client;

use super::server::{SETTINGS, kill_hard};
use super::tally::{Tally, close};
use super::{Seed, long, say};
use crate::harness::Server;

/// What a kill is to hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Aim {
    Anything,
    Copy,
    Commit,
}

/// How it hits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Blow {
    /// One backend is told to go.
    Terminate,
    /// One backend dies, and the postmaster restarts all the others.
    Backend,
    /// Everything dies at once, and is started again.
    Server,
}

#[derive(Debug, Default, Clone, Copy)]
struct Hits {
    kills: u64,
    in_copy: u64,
    at_commit: u64,
    servers: u64,
}

struct Killer<'a> {
    server: &'a Server,
    config: Config,
    random: StdRng,
    hits: Hits,
}

impl Killer<'_> {
    async fn client(&self) -> Client {
        let end = Instant::now() + Duration::from_secs(30);
        loop {
            match self.config.connect().await {
                Ok(client) => return client,
                Err(error) => assert!(Instant::now() < end, "the server does not come back: {error}"),
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Kills once.
    async fn strike(&mut self) {
        let aim = *[Aim::Anything, Aim::Copy, Aim::Commit].choose(&mut self.random).unwrap();
        let blow = *[Blow::Terminate, Blow::Terminate, Blow::Backend, Blow::Server].choose(&mut self.random).unwrap();
        let aimed = match aim {
            Aim::Anything => "true",
            Aim::Copy => "state = 'active' AND query LIKE 'COPY hitherto%'",
            // The ledger's line is written and COMMIT is on its way, or at work.
            Aim::Commit => "(query LIKE 'COMMIT%' AND state = 'active' OR query LIKE '-- ledger_insert%')",
        };
        let act = if blow == Blow::Terminate { "pg_terminate_backend(pid)" } else { "true" };
        let query = |aimed: &str| {
            format!(
                "SELECT pid, query, {act} FROM (
                     SELECT pid, query FROM pg_stat_activity
                     WHERE application_name = 'hitherto' AND datname = current_database() AND {aimed} ORDER BY random() LIMIT 1) victim"
            )
        };
        let client = self.client().await;
        let statement = client.prepare(&query(aimed)).await.unwrap();
        let end = Instant::now() + Duration::from_secs(2);
        let mut victim = None;
        while victim.is_none() && Instant::now() < end {
            victim = client.query_opt(&statement, &[]).await.unwrap();
        }
        if victim.is_none() {
            victim = client.query_opt(&query("true"), &[]).await.unwrap();
        }
        let (pid, doing) = victim.map(|row| (row.get::<_, i32>(0), row.get::<_, String>(1))).unzip();
        match (blow, pid) {
            (Blow::Backend, Some(pid)) => kill_hard(pid),
            (Blow::Server, _) => {
                self.server.kill();
                // Now and then it is away for longer.
                tokio::time::sleep(Duration::from_millis(self.random.random_range(0..150))).await;
                self.server.start_again();
                self.hits.servers += 1;
            }
            _ => {}
        }
        let doing = doing.unwrap_or_default();
        self.hits.kills += 1;
        self.hits.in_copy += u64::from(doing.starts_with("COPY"));
        self.hits.at_commit += u64::from(doing.starts_with("COMMIT") || doing.starts_with("-- ledger_insert"));
    }
}

/// Three writers write all kinds of records while the killer strikes; then everything is counted.
async fn run(server: &Server, seed: u64, kills: u64) {
    let what = format!("seed {seed}");
    let config = server.database().await;
    let mut random = StdRng::seed_from_u64(seed);
    let (tally, stop) = (Tally::default(), Arc::new(AtomicBool::new(false)));
    let mut writers = Vec::new();
    let mut tasks = Vec::new();
    for n in 0..3 {
        let store = Store::connect(config.clone()).await.unwrap();
        // Two of the three go by one name.
        let mut writer_config = WriterConfig::new(format!("producer {}", n / 2));
        writer_config.max_batch_rows = random.random_range(20..1500);
        writer_config.max_age = Duration::from_millis(random.random_range(1..30));
        writer_config.queue_bytes = 1 << 20;
        writer_config.deadline = Duration::from_secs(5);
        let writer = store.writer(writer_config);
        writers.push(writer.clone());
        tasks.push(tokio::spawn(write(writer, format!("w{n}"), tally.clone(), stop.clone(), random.random())));
    }
    let killer_config = config.clone().with_application_name("killer");
    let mut killer = Killer { server, config: killer_config, random: StdRng::seed_from_u64(random.random()), hits: Hits::default() };
    for _ in 0..kills {
        // A writer that is amid a pause can't be hit: wait until they are at work again.
        let stored = |writers: &[Writer]| writers.iter().map(|w| w.stats().stored).collect::<Vec<_>>();
        let (before, end) = (stored(&writers), Instant::now() + Duration::from_secs(6));
        while stored(&writers).iter().zip(&before).any(|(now, then)| now <= then) && Instant::now() < end {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        tokio::time::sleep(Duration::from_millis(random.random_range(0..60))).await;
        killer.strike().await;
    }
    drop(killer.client().await);
    stop.store(true, Relaxed);
    for task in tasks {
        task.await.unwrap();
    }
    let taken = tally.taken();
    let stats = close(&writers, &what).await;
    let store = Store::connect(config).await.unwrap();
    let count = tally.check(&store, &what).await;
    // A module that registers twice in one batch is one row: stored and duplicates still add up.
    assert_eq!(stats.accepted, taken, "{what}");
    assert_eq!(stats.stored + stats.duplicates + stats.quarantined, taken, "{what}: {stats:?}");
    assert!(stats.retries > 0, "{what}: the kills were felt");
    let Hits { kills, in_copy, at_commit, servers } = killer.hits;
    if long() {
        say(&format!(
            "{what}: {kills} kills ({servers} of the whole server, {in_copy} amid a COPY, {at_commit} around a COMMIT), {} rows in {} batches, {} sent again, lost {}, twice {}",
            count.rows, stats.batches, stats.retries, count.lost, count.twice
        ));
    }
}

async fn write(writer: Writer, name: String, tally: Tally, stop: Arc<AtomicBool>, seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    for n in 0.. {
        if stop.load(Relaxed) {
            break;
        }
        tally.write_one(&writer, &name, n, &mut random).await;
        if n % 64 == 0 {
            tokio::time::sleep(Duration::from_millis(random.random_range(1..8))).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_lose_and_double_nothing() {
    let seed = Seed::new("kills");
    let server = Server::lone(SETTINGS);
    let (runs, kills) = if long() { (10, 20) } else { (1, 12) };
    for n in 0..runs {
        run(&server, seed.value + n, kills).await;
    }
}

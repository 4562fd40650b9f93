//! The same again: batches sent more than once, writers of one name, events by several ways.

use std::time::Duration;

use futures_util::future::join_all;
use hitherto::records::{EventType, HealthCheck, Module, OrderEvent, Side};
use hitherto::writer::{Batch, Stored};
use hitherto::{Store, WriterConfig};
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{Rng, SeedableRng};
use tokio::sync::Semaphore;

use super::tally::{Tally, close};
use super::{Seed, long};
use crate::harness;
use crate::order;

enum Any {
    Checks(Batch<HealthCheck>),
    Events(Batch<OrderEvent>),
    Modules(Batch<Module>),
}

impl Any {
    /// Stores it, and says whether this send was the one that did.
    async fn store(&self, store: &Store) -> bool {
        let (stored, rows) = match self {
            Self::Checks(batch) => (store.batch_store(batch).await.unwrap(), batch.rows().len()),
            Self::Events(batch) => (store.batch_store(batch).await.unwrap(), batch.rows().len()),
            Self::Modules(batch) => (store.batch_store(batch).await.unwrap(), batch.rows().len()),
        };
        assert_eq!(stored.rows + stored.duplicates + stored.quarantined, rows as u64, "{stored:?}");
        !stored.already
    }
}

fn fills(random: &mut impl Rng, orders: i32, count: i32) -> Vec<OrderEvent> {
    let mut events = Vec::new();
    for n in 0..count {
        let order = format!("o{}", random.random_range(0..orders));
        let kind = *[EventType::Submitted, EventType::Fill, EventType::Fill, EventType::Fill].choose(random).unwrap();
        let event = OrderEvent::new(order, kind).sequence(i64::from(n)).asset("A").side(Side::Buy);
        events.push(match kind {
            EventType::Submitted => event.quantity(random.random_range(100..10_000)),
            _ => event
                .last_quantity(random.random_range(1..50))
                .last_price(random.random_range(1..500))
                .commission(order::decimal(random.random_range(1..1000) * 10i128.pow(15))),
        });
    }
    events
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_batch_sent_up_to_five_times_over_eight_connections_is_stored_once() {
    let seed = Seed::new("duplicates");
    let mut random = seed.random();
    let db = harness::native().await;
    let tally = Tally::default();
    let mut sends = Vec::new();
    let all = fills(&mut random, 40, if long() { 20_000 } else { 2_000 });
    tally.order_events(&all);
    let mut batches: Vec<Any> = all.chunks(50).map(|rows| Any::Events(Batch::new("test", rows.to_vec()).unwrap())).collect();
    for n in 0..batches.len() as i32 {
        let rows: Vec<_> = (0..60).map(|row| HealthCheck::new(format!("m{}", row % 3), "healthy").error_count(n * 60 + row)).collect();
        tally.health_checks(&rows);
        batches.push(Any::Checks(Batch::new("test", rows).unwrap()));
        let rows = vec![Module::new(format!("r{n}"), "1"), Module::new(format!("r{n}"), "2")];
        tally.modules(&rows);
        batches.push(Any::Modules(Batch::new("test", rows).unwrap()));
    }
    for (place, _) in batches.iter().enumerate() {
        sends.extend(std::iter::repeat_n(place, random.random_range(1..=5)));
    }
    sends.shuffle(&mut random);
    let eight = Semaphore::new(8);
    let stored = join_all(sends.iter().map(async |place| {
        let _one = eight.acquire().await.unwrap();
        batches[*place].store(&db.store).await
    }))
    .await;
    assert_eq!(stored.into_iter().filter(|is| *is).count(), batches.len(), "seed {}: one send of each stores it", seed.value);
    tally.check(&db.store, &format!("seed {}", seed.value)).await;
}

/// Batches of new events alone are stored another way than those in which an id comes again: within the batch, from
/// an earlier one, or from one that is under way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_that_come_again_among_new_ones_are_stored_once_over_eight_connections() {
    let seed = Seed::new("again among new");
    let mut random = seed.random();
    let db = harness::native().await;
    let tally = Tally::default();
    let all = fills(&mut random, 60, if long() { 20_000 } else { 4_000 });
    tally.order_events(&all);
    let mut batches = Vec::new();
    for new in all.chunks(80) {
        let mut rows = new.to_vec();
        match random.random_range(0..4) {
            0 => {}
            1 => rows.extend(new.choose_multiple(&mut random, 5).cloned()),
            2 => rows.extend(all.choose_multiple(&mut random, 5).cloned()),
            // A replay of the batch, with or without something new.
            _ => batches.push(new[random.random_range(0..2)..].to_vec()),
        }
        if random.random_bool(0.5) {
            rows.shuffle(&mut random);
        }
        batches.push(rows);
    }
    batches.shuffle(&mut random);
    let sent: usize = batches.iter().map(Vec::len).sum();
    assert!(sent > all.len(), "seed {}: something comes again", seed.value);
    let eight = Semaphore::new(8);
    let stored = join_all(batches.into_iter().map(async |rows| {
        let _one = eight.acquire().await.unwrap();
        db.store.batch_store(&Batch::new("test", rows).unwrap()).await.unwrap()
    }))
    .await;
    let sum = |count: fn(&Stored) -> u64| stored.iter().map(count).sum::<u64>();
    let (rows, duplicates, quarantined) = (sum(|s| s.rows), sum(|s| s.duplicates), sum(|s| s.quarantined));
    assert_eq!((rows, duplicates, quarantined), (all.len() as u64, (sent - all.len()) as u64, 0), "seed {}", seed.value);
    // Every id that is taken is an event's: what was claimed and undone is free again.
    let query = "SELECT count(*) FROM hitherto.order_event_key k JOIN hitherto.order_event e USING (event_id, event_at, order_id)";
    let client = db.store.client().await.unwrap();
    for query in [query, "SELECT count(*) FROM hitherto.order_event_key"] {
        let count: i64 = client.query_one(query, &[]).await.unwrap().get(0);
        assert_eq!(count, all.len() as i64, "seed {}: {query}", seed.value);
    }
    drop(client);
    tally.check(&db.store, &format!("seed {}", seed.value)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_writers_of_one_name_do_not_hide_each_others_batches() {
    let seed = Seed::new("one name");
    let db = harness::native().await;
    let tally = Tally::default();
    let writers: Vec<_> = (0..2)
        .map(|_| {
            let mut config = WriterConfig::new("the same");
            (config.max_batch_rows, config.max_age) = (37, Duration::from_millis(5));
            db.store.writer(config)
        })
        .collect();
    join_all(writers.iter().enumerate().map(async |(place, writer)| {
        let mut random = rand::rngs::StdRng::seed_from_u64(seed.value + place as u64);
        for n in 0..3_000 {
            tally.write_one(writer, &format!("w{place}"), n, &mut random).await;
        }
    }))
    .await;
    let taken = tally.taken();
    let stats = close(&writers, "one name").await;
    assert_eq!((stats.stored + stats.duplicates, stats.accepted), (taken, taken), "{stats:?}");
    tally.check(&db.store, &format!("seed {}", seed.value)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_shuffled_over_several_writers_end_as_if_they_came_in_order() {
    let seed = Seed::new("shuffled");
    let mut random = seed.random();
    let (sorted, shuffled) = (harness::native().await, harness::native().await);
    let events = fills(&mut random, 25, 1_500);
    sorted.store.batch_store(&Batch::new("test", events.clone()).unwrap()).await.unwrap();
    let mut shares = vec![Vec::new(); 4];
    for event in &events {
        // Each goes by one way at least, some by all.
        let ways = *[1, 1, 2, 4].choose(&mut random).unwrap();
        for share in rand::seq::index::sample(&mut random, 4, ways) {
            shares[share].push(event.clone());
        }
    }
    shares.iter_mut().for_each(|share| share.shuffle(&mut random));
    let writers: Vec<_> = (0..4)
        .map(|n| {
            let mut config = WriterConfig::new(format!("w{n}"));
            config.max_batch_rows = random.random_range(5..80);
            shuffled.store.writer(config)
        })
        .collect();
    join_all(writers.iter().zip(shares).map(async |(writer, share)| {
        for event in share {
            writer.write(event).await.unwrap();
        }
    }))
    .await;
    close(&writers, "shuffled").await;
    for table in ["order_event", "execution_report"] {
        let query = format!("SELECT (to_jsonb(r) - '{{recorded_at,batch_id,legacy_id}}'::text[])::text FROM hitherto.{table} r ORDER BY 1");
        let rows = async |store: &Store| -> Vec<String> {
            store.client().await.unwrap().query(&query, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
        };
        let (found, expected) = (rows(&shuffled.store).await, rows(&sorted.store).await);
        let differing = found.iter().zip(&expected).find(|(found, expected)| found != expected);
        assert!(found.len() == expected.len() && differing.is_none(), "seed {}: {table} differs: {differing:#?}", seed.value);
    }
}

//! What it costs to keep execution reports: `make bench`.
//!
//! 20,000 events over 5,000 orders, as one batch: the COPY of those rows into the table against the fold
//! that follows it, the two taking turns; once for orders that are new, once for orders that have a report.
#![allow(clippy::print_stdout, reason = "printing is what it is for")]

#[path = "../tests/it/harness.rs"]
#[allow(dead_code, reason = "the tests use the rest of it")]
mod harness;

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::SinkExt;
use tokio_postgres::Client;

const ROUNDS: usize = 9;

const MAKE: &str = "CREATE TABLE made AS
SELECT now() - INTERVAL '1 day' + (o * 4 + k) * INTERVAL '1 ms' AS event_at, 'order-' || o AS order_id, 'order-' || o || '-' || k AS event_id, k::bigint AS sequence,
       'proposal-' || o AS proposal_id, (ARRAY['pending', 'submitted', 'fill', 'fill'])[k] AS event_type, 'A' || o % 20 AS asset, 'buy' AS side, 'limit' AS order_type,
       CASE WHEN k <= 2 THEN 100 + o % 7 END::numeric(38,18) AS quantity, 10.5::numeric(38,18) AS price,
       CASE WHEN k > 2 THEN 50 END::numeric(38,18) AS last_quantity, CASE WHEN k > 2 THEN 10.49 + o % 10 * 0.001 END::numeric(38,18) AS last_price,
       CASE WHEN k > 2 THEN 0.35 END::numeric(38,18) AS commission, 'paper' AS broker, NULL::text AS reason, NULL::text AS ref_event_id, NULL::jsonb AS details,
       gen_random_uuid() AS batch_id
FROM generate_series(1, 5000) o, generate_series(1, 4) k ORDER BY 1";

const COLUMNS: &str = "event_at, order_id, event_id, sequence, proposal_id, event_type, asset, side, order_type, quantity, price,
    last_quantity, last_price, commission, broker, reason, ref_event_id, details, batch_id";

#[tokio::main]
async fn main() {
    if std::env::args().any(|a| a == "--test") {
        return;
    }
    for db in harness::private().await {
        println!("{} (PostgreSQL {})", db.name, db.store.capabilities().server_version);
        let client = db.config.connect().await.unwrap();
        // As a writer does; and rows may go again, which triggers would refuse.
        client.batch_execute("SET hitherto.set_based = 'on'; SET session_replication_role = replica").await.unwrap();
        client.batch_execute(MAKE).await.unwrap();
        let body = body(&client).await;
        let (mut copies, mut new, mut known) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            client.batch_execute("TRUNCATE hitherto.order_event; TRUNCATE hitherto.execution_report; CHECKPOINT").await.unwrap();
            copies.push(copy(&client, &body).await);
            new.push(fold(&client).await);
            known.push(fold(&client).await);
        }
        let (copy, new, known) = (median(copies), median(new), median(known));
        println!("  COPY of 20,000 order events    {:>6.1} ms", copy * 1000.0);
        println!("  fold of 5,000 new orders       {:>6.1} ms, / COPY: {:.2} (aim 2 at most)", new * 1000.0, new / copy);
        println!("  fold of 5,000 known orders     {:>6.1} ms, / COPY: {:.2} (aim 2 at most)", known * 1000.0, known / copy);
    }
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort();
    times[times.len() / 2].as_secs_f64()
}

/// The rows as the body of a binary COPY.
async fn body(client: &Client) -> Bytes {
    use futures_util::TryStreamExt;
    let stream = client.copy_out(&format!("COPY (SELECT {COLUMNS} FROM made) TO STDOUT (FORMAT binary)")).await.unwrap();
    let pieces: Vec<Bytes> = stream.try_collect().await.unwrap();
    pieces.concat().into()
}

async fn copy(client: &Client, body: &Bytes) -> Duration {
    let began = Instant::now();
    let sink = client.copy_in(&format!("COPY hitherto.order_event ({COLUMNS}) FROM STDIN (FORMAT binary)")).await.unwrap();
    let mut sink = std::pin::pin!(sink);
    sink.send(body.clone()).await.unwrap();
    assert_eq!(sink.finish().await.unwrap(), 20_000);
    began.elapsed()
}

async fn fold(client: &Client) -> Duration {
    let orders: Vec<String> = (1..=5000).map(|n| format!("order-{n}")).collect();
    let began = Instant::now();
    client.execute("SELECT hitherto.execution_report_fold($1)", &[&orders]).await.unwrap();
    began.elapsed()
}

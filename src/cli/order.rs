//! `hitherto order`

use serde::Serialize;

use super::Ending;
use super::connect::Database;
use super::output::{Output, table};
use crate::error::{Error, ErrorKind, Result};
use crate::records::Decimal;
use crate::store::{ExecutionReport, OrderEventRow};

/// Show where an order stands, and its events.
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// The order
    order_id: String,
}

#[derive(Serialize)]
struct Order {
    report: ExecutionReport,
    events: Vec<OrderEventRow>,
}

pub(super) async fn run(args: Args, database: &Database, output: Output) -> Result<Ending> {
    let store = database.store().await?;
    let Some(report) = store.execution_report(&args.order_id).await? else {
        return Err(Error::new(ErrorKind::NotFound, format!("there is no order '{}'", args.order_id)));
    };
    let events = store.order_events(&args.order_id).await?;
    output.print(&Order { report, events }, |order| {
        let r = &order.report;
        let word = |w: &Option<String>| w.clone().unwrap_or_default();
        let number = |n: &Option<Decimal>| n.map(|n| n.to_string()).unwrap_or_default();
        let rows: Vec<Vec<String>> = order
            .events
            .iter()
            .map(|e| {
                let quantity = e.last_quantity.or(e.quantity);
                let at = e.event_at.format("%Y-%m-%d %H:%M:%S%.3f").to_string();
                vec![at, e.event_type.clone(), number(&quantity), number(&e.last_price), number(&e.commission), word(&e.reason)]
            })
            .collect();
        format!(
            "{} {} {} {}: {}, {} filled at {}, {} left{}\n\n{}",
            r.order_id,
            word(&r.side),
            number(&r.quantity),
            word(&r.asset),
            r.status,
            r.filled_quantity,
            number(&r.average_fill_price),
            number(&r.leaves_quantity),
            if r.anomalies.is_empty() { String::new() } else { format!("; anomalies: {}", r.anomalies.join(", ")) },
            table(&["time (UTC)", "event", "quantity", "price", "commission", "reason"], &rows)
        )
    })?;
    Ok(Ending::Done)
}

//! Whether the rate holds as the table grows: fifty million rows over six days.

use chrono::TimeDelta;
use hitherto::WriterConfig;

use crate::harness::Db;
use crate::rows::{check, start, truncate, write};
use crate::{ROWS, median};

const MILLIONS: usize = 50;

pub(crate) async fn run(db: &Db) {
    truncate(&db.store, "health_check").await;
    let start = start();
    let mut seconds = Vec::with_capacity(MILLIONS);
    for million in 0..MILLIONS {
        let records = (0..ROWS).map(|n| million * ROWS + n).map(|n| check(n, start + TimeDelta::milliseconds(n as i64 * 10))).collect();
        seconds.push(write(&db.store, WriterConfig::new("bench"), records).await);
    }
    // Three millions each: one alone may meet a checkpoint.
    let (first, last) = (median(seconds[..3].to_vec()), median(seconds[MILLIONS - 3..].to_vec()));
    println!(
        "  {MILLIONS} million health checks: {:.0} rows/s at the first, {:.0} at the last: {:.2} (aim 0.9)",
        ROWS as f64 / first,
        ROWS as f64 / last,
        first / last
    );
    truncate(&db.store, "health_check").await;
}

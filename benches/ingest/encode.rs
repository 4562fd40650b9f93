//! Encoding alone, on one core, its allocations counted.

use std::hint::black_box;
use std::time::Instant;

use hitherto::records::Record;
use hitherto::writer::{DEFAULT_MAX_BATCH_ROWS, encode_rows};

use crate::rows::{checks, events, executions};
use crate::{ROWS, median};

pub(crate) fn run(asked: &dyn Fn(&str) -> bool) {
    println!("encoding on one core, batches of {DEFAULT_MAX_BATCH_ROWS} rows");
    table(asked, checks);
    table(asked, executions);
    table(asked, events);
}

fn table<R: Record>(asked: &dyn Fn(&str) -> bool, records: fn(usize) -> Vec<R>) {
    if !asked(R::TABLE) {
        return;
    }
    let records = records(ROWS);
    let ids = vec![7; DEFAULT_MAX_BATCH_ROWS];
    let all = |digests: bool| -> usize { records.chunks(ids.len()).map(|rows| encode_rows(rows, &ids[..rows.len()], digests)).sum() };
    let rate = |digests: bool| {
        let times = (0..5).map(|_| {
            let began = Instant::now();
            black_box(all(digests));
            began.elapsed().as_secs_f64()
        });
        records.len() as f64 / median(times.collect()) / 1e6
    };
    let (encoded, digested) = (rate(false), rate(true));
    let mut bytes = 0;
    let counted = allocation_counter::measure(|| bytes = all(true));
    println!(
        "  {}: {encoded:.1} M rows/s (aim 5), {digested:.1} M with the ledger's digests; {} bytes a row, {:.4} allocations a row",
        R::TABLE,
        bytes / records.len(),
        counted.count_total as f64 / records.len() as f64
    );
}

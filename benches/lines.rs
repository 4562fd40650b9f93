//! What `hitherto ingest` does to lines before it sends them: `make bench`, without a database.
//!
//! Read, cut, chained, parsed, checked, encoded; against serde_json alone reading the same lines into the same
//! records, the two taking turns. Reader, parser and encoder are threads: a core's rate is that by the CPU time
//! of the whole process.
#![allow(clippy::print_stdout, reason = "printing is what it is for")]

use std::io::Cursor;
use std::time::Instant;

use hitherto::cli::ingest::parse_and_encode;
use hitherto::records::{HealthCheck, OrderEvent, Record};

const LINES: u64 = 1_000_000;
const ROUNDS: usize = 5;

fn main() {
    // Cargo hands flags to every bench.
    if std::env::args().any(|a| a == "--test") {
        return;
    }
    measure::<HealthCheck>(health_check);
    measure::<OrderEvent>(order_event);
}

fn time(n: u64) -> String {
    let start = chrono::Utc::now() - chrono::TimeDelta::days(6);
    (start + chrono::TimeDelta::milliseconds(n as i64 * 400)).to_rfc3339_opts(chrono::SecondsFormat::Micros, true)
}

fn health_check(n: u64) -> String {
    format!(
        r#"{{"module":"technical-{}","checked_at":"{}","status":"healthy","response_time_ms":{}.{},"error_count":{},"memory_usage_mb":{}.25,"cpu_usage_percent":{}.5,"details":{{"queue":{},"version":"1.4.2"}}}}"#,
        n % 16,
        time(n),
        n % 97,
        n % 10,
        n % 3,
        100 + n % 50,
        n % 100,
        n % 7
    )
}

fn order_event(n: u64) -> String {
    format!(
        r#"{{"event_at":"{}","order_id":"order-{}","event_id":"order-{}-fill-{}","sequence":{},"proposal_id":"proposal-{}","event_type":"fill","asset":"NVDA","side":"buy","order_type":"limit","last_quantity":"{}","last_price":"{}.{:04}","commission":"0.35","broker":"paper"}}"#,
        time(n),
        n / 4,
        n / 4,
        n % 4,
        n,
        n / 4,
        1 + n % 200,
        100 + n % 900,
        n % 10_000
    )
}

fn measure<R: Record>(line: impl Fn(u64) -> String) {
    let text: String = (0..LINES).map(|n| line(n) + "\n").collect();
    println!("{}, {LINES} lines of {} bytes", R::TABLE, text.len() as u64 / LINES);
    let (mut bare, mut wall, mut cpu, mut digested) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let (began, spent) = (Instant::now(), cpu_seconds());
        let rows = text.lines().map(|line| serde_json::from_str::<R>(line).map(std::hint::black_box).is_ok()).filter(|ok| *ok).count();
        let spent = cpu_seconds() - spent;
        // By the clock where the system doesn't tell CPU time.
        bare.push(if spent > 0.0 { spent } else { began.elapsed().as_secs_f64() });
        assert_eq!(rows as u64, LINES);
        for digests in [false, true] {
            let input = Cursor::new(text.clone());
            let (began, spent) = (Instant::now(), cpu_seconds());
            let (lines, rows, _) = parse_and_encode::<R>(input, digests);
            assert_eq!((lines, rows), (LINES, LINES));
            let spent = cpu_seconds() - spent;
            if digests {
                digested.push(spent);
            } else {
                wall.push(began.elapsed().as_secs_f64());
                cpu.push(spent);
            }
        }
    }
    let rate = |what: &str, seconds: f64| println!("  {what:<44} {seconds:>6.2} s  {:>9.0} lines/s", LINES as f64 / seconds);
    let (bare, wall, cpu, digested) = (median(bare), median(wall), median(cpu), median(digested));
    rate("serde_json alone, by CPU time", bare);
    rate("read, parsed and encoded, by the clock", wall);
    if cpu > 0.0 {
        rate("read, parsed and encoded, by CPU time", cpu);
        rate("the same with the ledger's digests", digested);
        println!(
            "  CPU time against serde_json alone: {:.2} times, with digests {:.2}; aim 500,000 lines/s a core",
            cpu / bare,
            digested / bare
        );
    }
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// CPU time that this process has used, all its threads together; 0 where the system doesn't say.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // Behind the program's name, which may hold spaces: fields 14 and 15, in hundredths of a second.
    let fields = stat.rsplit(')').next().unwrap_or_default();
    fields.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum::<f64>() / 100.0
}

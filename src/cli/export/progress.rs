//! How far an export is, for whoever watches it.

use std::borrow::Cow;
use std::time::Duration;

use hitherto_export::Progress;
use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressStyle};

use crate::cli::output::Output;

/// How often the clock is shown, come rows or not.
const TICK: Duration = Duration::from_millis(250);

/// A bar on a terminal, nothing elsewhere.
pub(super) struct Bar(ProgressBar);

impl Bar {
    pub(super) fn new(output: Output) -> Self {
        let bar = output.bar("export", 0);
        if !bar.is_hidden() {
            bar.enable_steady_tick(TICK);
        }
        Self(bar)
    }

    pub(super) fn show(&self, p: Progress<'_>) {
        if self.0.is_hidden() {
            return;
        }
        if let Some(total) = p.total_rows.filter(|total| *total > 0) {
            if self.0.length().is_none() {
                let template = "{prefix} {percent:>3} % [{bar:12}] {eta} left, {msg}";
                let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
                self.0.set_style(style.progress_chars("=> "));
            }
            self.0.set_length(total.max(p.rows));
        }
        self.0.set_position(p.rows);
        self.0.set_message(words(p));
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// As in "12,000 of 40,000 rows, 3.20 MiB read, 2 of 7 days, health_check 2026-01-31".
fn words(p: Progress<'_>) -> Cow<'static, str> {
    let of = |total: Option<u64>| total.map(|n| format!(" of {}", HumanCount(n))).unwrap_or_default();
    let days = if p.total_days > 0 { format!(", {} of {} days", p.days, p.total_days) } else { String::new() };
    let day = p.day.map(|day| format!(" {day}")).unwrap_or_default();
    let rows = format!("{}{} rows", HumanCount(p.rows), of(p.total_rows.filter(|total| *total >= p.rows)));
    format!("{rows}, {} read{days}, {}{day}", HumanBytes(p.bytes), p.dataset).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_is_told() {
        let day = chrono::NaiveDate::from_ymd_opt(2026, 1, 31);
        let mut p =
            Progress { dataset: "health_check", day, rows: 12_000, total_rows: Some(40_000), bytes: 3 << 20, days: 2, total_days: 7 };
        assert_eq!(words(p), "12,000 of 40,000 rows, 3.00 MiB read, 2 of 7 days, health_check 2026-01-31");
        // More than somebody knew of.
        p.rows = 50_000;
        assert_eq!(words(p), "50,000 rows, 3.00 MiB read, 2 of 7 days, health_check 2026-01-31");
        p = Progress { dataset: "query", day: None, total_rows: None, days: 0, total_days: 0, ..p };
        assert_eq!(words(p), "50,000 rows, 3.00 MiB read, query");
    }
}

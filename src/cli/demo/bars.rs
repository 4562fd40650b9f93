//! Price bars: read from CSV files, or made from a seed.

use std::collections::BTreeMap;
use std::path::Path;

use chrono::{DateTime, Datelike, Days, NaiveTime, TimeDelta, Utc, Weekday};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::platform::BAR_MINUTES;
use crate::error::{Error, ErrorKind, Result};
use crate::records::DEFAULT_OLDEST;

/// The made-up halt: day, asset, bars of the day.
const HALTED: (usize, usize, std::ops::Range<i64>) = (5, 2, 30..38);
/// Drawn volumes below this are no trades at all.
const THIN: f64 = 52_000.0;

/// One asset's trading within an interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Bar {
    pub(super) open: f64,
    pub(super) high: f64,
    pub(super) low: f64,
    pub(super) close: f64,
    pub(super) volume: f64,
}

impl Bar {
    /// What it was, as text: prices are no floats in the store.
    pub(super) fn told(&self, at: DateTime<Utc>) -> serde_json::Value {
        let price = |value: f64| format!("{value:.4}");
        serde_json::json!({"start": at.to_rfc3339(), "minutes": BAR_MINUTES, "open": price(self.open), "high": price(self.high),
                           "low": price(self.low), "close": price(self.close), "volume": self.volume.to_string()})
    }
}

/// Bars of all assets by the start of their interval.
pub(super) struct Market {
    pub(super) assets: Vec<String>,
    /// Each with (index of the asset, bar).
    pub(super) steps: BTreeMap<DateTime<Utc>, Vec<(usize, Bar)>>,
    pub(super) count: usize,
    seed: Option<u64>,
}

#[derive(Deserialize)]
struct Line {
    #[serde(rename = "Datetime")]
    datetime: String,
    #[serde(rename = "Open")]
    open: f64,
    #[serde(rename = "High")]
    high: f64,
    #[serde(rename = "Low")]
    low: f64,
    #[serde(rename = "Close")]
    close: f64,
    #[serde(rename = "Volume")]
    volume: f64,
}

impl Market {
    fn new(assets: Vec<String>) -> Self {
        Self { assets, steps: BTreeMap::new(), count: 0, seed: None }
    }

    fn add(&mut self, at: DateTime<Utc>, asset: usize, bar: Bar) {
        self.steps.entry(at).or_default().push((asset, bar));
        self.count += 1;
    }

    /// What tells these bars from others: the seed of those that were made, which move with the days.
    pub(super) fn mark(&self) -> String {
        if let Some(seed) = self.seed {
            return format!("seed {seed}");
        }
        let mut sha = Sha256::new();
        for (at, bars) in &self.steps {
            sha.update(at.timestamp_micros().to_be_bytes());
            for (asset, bar) in bars {
                sha.update(&self.assets[*asset]);
                [bar.open, bar.high, bar.low, bar.close, bar.volume].iter().for_each(|n| sha.update(n.to_be_bytes()));
            }
        }
        sha.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }

    /// Reads every `ASSET.csv` of a folder.
    pub(super) fn read(folder: &Path) -> Result<Self> {
        let bad = |why: String| Error::new(ErrorKind::Config, why);
        let entries = std::fs::read_dir(folder).map_err(|e| bad(format!("{} can't be read: {e}", folder.display())))?;
        let mut files: Vec<_> = entries
            .filter_map(|e| e.ok().map(|e| e.path()))
            .filter(|p| p.extension().is_some_and(|e| e.eq_ignore_ascii_case("csv")))
            .collect();
        files.sort();
        if files.is_empty() {
            return Err(bad(format!(
                "{} has no .csv files; one a symbol, with Datetime, Open, High, Low, Close, Volume",
                folder.display()
            )));
        }
        let name = |p: &std::path::PathBuf| p.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let mut market = Self::new(files.iter().map(name).collect());
        for (asset, file) in files.iter().enumerate() {
            let mut reader = csv::Reader::from_path(file).map_err(|e| bad(format!("{}: {e}", file.display())))?;
            for (at, line) in reader.deserialize::<Line>().enumerate() {
                let at_line = |why: String| bad(format!("{} line {}: {why}", file.display(), at + 2));
                let line = line.map_err(|e| at_line(e.to_string()))?;
                let time = DateTime::parse_from_str(&line.datetime, "%Y-%m-%d %H:%M:%S%:z")
                    .or_else(|_| DateTime::parse_from_rfc3339(&line.datetime))
                    .map_err(|e| at_line(format!("Datetime '{}': {e}; write 2025-08-04 09:30:00-04:00", line.datetime)))?;
                let bar = Bar { open: line.open, high: line.high, low: line.low, close: line.close, volume: line.volume };
                let sound = [bar.open, bar.high, bar.low, bar.close].iter().all(|p| p.is_finite() && *p > 0.0) && bar.volume >= 0.0;
                if !sound {
                    return Err(at_line("prices must be above 0 and volume not negative".to_owned()));
                }
                let (oldest, latest) = (Utc::now() - DEFAULT_OLDEST + TimeDelta::days(1), Utc::now() - TimeDelta::minutes(10));
                if time < oldest || time > latest {
                    return Err(at_line(format!(
                        "{time} is not within the last ten years, which is what the store takes; leave such bars out"
                    )));
                }
                market.add(time.to_utc(), asset, bar);
            }
        }
        if market.count == 0 {
            return Err(bad(format!("the .csv files of {} have no bars", folder.display())));
        }
        Ok(market)
    }

    /// Five assets over ten weekdays before today, each a random walk whose restlessness comes and goes. Now and then one is not
    /// traded in a bar, and one of them is halted for a while: its price stands still.
    pub(super) fn synthetic(seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let names = ["ALFA", "BRVO", "CHRL", "DLTA", "ECHO"];
        let mut market = Self { seed: Some(seed), ..Self::new(names.map(str::to_owned).to_vec()) };
        let mut prices = [180.0, 75.0, 310.0, 22.0, 140.0];
        let mut day = Utc::now().date_naive();
        let mut days = Vec::new();
        while days.len() < 10 {
            day = day - Days::new(1);
            if !matches!(day.weekday(), Weekday::Sat | Weekday::Sun) {
                days.push(day);
            }
        }
        let open = NaiveTime::from_hms_opt(14, 30, 0).unwrap_or_default();
        let mut volatility = 0.0015f64;
        for (number, day) in days.into_iter().rev().enumerate() {
            let drift = [0.0001, -0.0001, 0.0, 0.00015, -0.0002][number % 5];
            for step in 0..78 {
                let at = day.and_time(open).and_utc() + TimeDelta::minutes(5 * step);
                volatility = (volatility * (1.0 + random.random_range(-0.1..0.1))).clamp(0.0006, 0.006);
                let together = gauss(&mut random) * volatility * 0.6;
                for (asset, price) in prices.iter_mut().enumerate() {
                    // It opens near where it closed, and less near after a night.
                    let open = *price * (1.0 + gauss(&mut random) * volatility * if step == 0 { 3.0 } else { 0.2 });
                    let close = open * (1.0 + drift + together + gauss(&mut random) * volatility);
                    let (high, low) = (open.max(close) * (1.0 + volatility * 0.4), open.min(close) * (1.0 - volatility * 0.4));
                    let volume = random.random_range(50_000.0..900_000.0_f64).round();
                    let bar = match () {
                        () if number == HALTED.0 && asset == HALTED.1 && HALTED.2.contains(&step) => {
                            Bar { open: *price, high: *price, low: *price, close: *price, volume: 0.0 }
                        }
                        () if volume < THIN => Bar { open, high, low, close, volume: 0.0 },
                        () => Bar { open, high, low, close, volume },
                    };
                    let close = bar.close;
                    market.add(at, asset, bar);
                    *price = close;
                }
            }
        }
        market
    }
}

/// A standard normal, by Box and Muller.
fn gauss(random: &mut StdRng) -> f64 {
    let (u, v): (f64, f64) = (random.random_range(f64::EPSILON..1.0), random.random());
    (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
}

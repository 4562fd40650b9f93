//! A small trading platform: six modules that write what they do, as a user's would.

use std::collections::BTreeMap;
use std::time::Instant;

use chrono::{DateTime, TimeDelta, Timelike, Utc};
use serde_json::json;
use sysinfo::{Pid, ProcessRefreshKind, ProcessesToUpdate, System};

use super::bars::{Bar, Market};
use super::broker::{Broker, Ticket};
use super::provoked;
use super::statistics::{classify, correlation, deviation, max_drawdown, mean, value_at_risk, weighted};
use crate::error::Result;
use crate::records::{
    Decimal, HealthCheck, Json, Module, ModuleExecution, PortfolioSnapshot, Proposal, Regime, RegimeState, RiskEvaluation, RiskLevel, Side,
    Signal, Verdict,
};
use crate::store::Store;
use crate::writer::{Writer, WriterConfig, WriterStats};

/// The modules, in the order in which they work at each step.
pub(super) const MODULES: [&str; 6] = ["sentiment", "technical", "seasonality", "overseer", "risk_management", "execution"];
/// Who stands in the ledger.
pub(super) const PRODUCER: &str = "demo";
/// The module whose config says which bars were replayed to their end.
pub(super) const MARKED: &str = "overseer";
const START_CASH: i64 = 1_000_000;
pub(super) const BAR_MINUTES: i64 = 5;
/// Bars of a day: what the regime and the risk figures look back on.
const DAY_BARS: usize = 78;
/// Returns that risk management looks back on.
const RISK_BARS: usize = 390;

/// Notes that these bars were replayed to their end.
pub(super) async fn mark(store: &Store, bars: &str) -> Result<()> {
    store.module_register(Module::new(MARKED, env!("CARGO_PKG_VERSION")).config(json!({"demo_bars": bars}))).await?;
    Ok(())
}

/// One asset as the modules know it.
#[derive(Default)]
struct Asset {
    closes: Vec<f64>,
    returns: Vec<f64>,
    fast: f64,
    slow: f64,
    mood: f64,
    /// Sum and count of returns by minute of the day.
    season: BTreeMap<u32, (f64, u32)>,
}

pub(super) struct Platform {
    store: Store,
    writer: Writer,
    assets: Vec<Asset>,
    names: Vec<String>,
    broker: Broker,
    basket: Vec<f64>,
    regime: Option<Regime>,
    regimes: u32,
    proposals: u32,
    system: System,
    pid: Pid,
}

/// A module's opinion on an asset at a step.
struct Opinion {
    signal_id: String,
    score: f64,
}

impl Platform {
    pub(super) async fn new(store: Store, names: Vec<String>) -> Result<Self> {
        for name in MODULES {
            let mut module = Module::new(name, env!("CARGO_PKG_VERSION"));
            if name == "risk_management" {
                // A value at risk means nothing without its level, horizon and unit: researchers read them here.
                let unit = "fraction of value, positive for a loss";
                module = module.config(json!({"value_at_risk":
                    {"level": 0.99, "horizon_minutes": BAR_MINUTES, "lookback_bars": RISK_BARS, "unit": unit}}));
            }
            store.module_register(module).await?;
        }
        let writer = store.writer(WriterConfig::new(PRODUCER));
        let assets = names.iter().map(|_| Asset::default()).collect();
        let pid = Pid::from_u32(std::process::id());
        let broker = Broker::new(START_CASH);
        let system = System::new();
        Ok(Self { store, writer, assets, names, broker, basket: Vec::new(), regime: None, regimes: 0, proposals: 0, system, pid })
    }

    /// Replays the market bar by bar and waits until everything is stored.
    pub(super) async fn replay(mut self, market: &Market, mut on_step: impl FnMut(usize)) -> Result<WriterStats> {
        let mut last: Option<DateTime<Utc>> = None;
        for (number, (at, bars)) in market.steps.iter().enumerate() {
            if let Some(last) = last.filter(|last| last.date_naive() != at.date_naive()) {
                for event in self.broker.close_day(last + TimeDelta::minutes(BAR_MINUTES)) {
                    self.writer.write(event).await?;
                }
            }
            self.step(number, *at, bars).await?;
            last = Some(*at);
            on_step(number + 1);
        }
        if let Some(last) = last {
            let end = last + TimeDelta::minutes(BAR_MINUTES);
            tracing::info!("provoking what should not happen to orders: one event will go to quarantine");
            for event in self.broker.close_day(end).into_iter().chain(provoked::events(end)) {
                self.writer.write(event).await?;
            }
            self.store.regime_propose(provoked::regime(end)).await?;
        }
        self.writer.close().await
    }

    async fn step(&mut self, number: usize, at: DateTime<Utc>, bars: &[(usize, Bar)]) -> Result<()> {
        // A bar is known when it ends.
        let now = at + TimeDelta::minutes(BAR_MINUTES);
        let began = Instant::now();
        let mut events = Vec::new();
        for (asset, bar) in bars {
            events.extend(self.broker.trade(at, *asset, bar));
        }
        let traded = began.elapsed();
        let mut moves = Vec::new();
        for (asset, bar) in bars {
            moves.extend(self.assets[*asset].learn(at, bar));
        }
        self.basket.extend((!moves.is_empty()).then(|| mean(&moves)));

        let mut opinions: BTreeMap<usize, Vec<Opinion>> = BTreeMap::new();
        for (place, module) in ["sentiment", "technical", "seasonality"].into_iter().enumerate() {
            self.opine(module, number, (at, now + TimeDelta::milliseconds(5 * place as i64)), bars, &mut opinions).await?;
        }
        let wishes = self.oversee(number, now + TimeDelta::milliseconds(20), bars, &opinions).await?;
        let allowed = self.judge(now + TimeDelta::milliseconds(30), number, wishes).await?;

        let began = Instant::now();
        let at_broker = now + TimeDelta::milliseconds(40);
        for ticket in allowed {
            events.extend(self.broker.submit(at_broker, &self.names[ticket.asset], &ticket));
        }
        let took = traded + began.elapsed();
        self.report("execution", number, at_broker, took, None).await?;
        for event in events {
            self.writer.write(event).await?;
        }
        self.snapshot(number, now + TimeDelta::milliseconds(50)).await?;
        if number.is_multiple_of(12) {
            self.check_health(number / 12, now + TimeDelta::milliseconds(60)).await?;
        }
        Ok(())
    }

    /// Tells how a module's work at this step went: its real duration in this process.
    async fn report(&self, module: &str, number: usize, at: DateTime<Utc>, took: std::time::Duration, error: Option<String>) -> Result<()> {
        let mut run = ModuleExecution::new(module, took.as_secs_f64() * 1000.0).at(at);
        run.execution_id = format!("demo-{module}-{number}");
        if let Some(error) = error {
            run = run.failed(error);
        }
        self.writer.write(run).await
    }

    async fn opine(
        &self,
        module: &'static str,
        number: usize,
        (at_bar, at): (DateTime<Utc>, DateTime<Utc>),
        bars: &[(usize, Bar)],
        opinions: &mut BTreeMap<usize, Vec<Opinion>>,
    ) -> Result<()> {
        let began = Instant::now();
        let mut signals = Vec::new();
        let mut silent = Vec::new();
        for (index, bar) in bars {
            let asset = &self.assets[*index];
            let (score, kind) = match module {
                "sentiment" if bar.volume == 0.0 => {
                    silent.push(self.names[*index].as_str());
                    continue;
                }
                "sentiment" => (asset.mood, "order_flow"),
                "technical" => (asset.trend(), "ema_crossover"),
                _ => (asset.season(at), "time_of_day"),
            };
            let mut signal = Signal::new(module, kind).at(at).asset(&self.names[*index]).score(score).confidence(score.abs().min(1.0));
            if module == "technical" {
                // What it looked at: the lake has no other prices to hold fills against.
                signal = signal.payload(json!({"bar": bar.told(at_bar)}));
            }
            signal.signal_id = format!("demo-{module}-{number}-{}", self.names[*index]);
            opinions.entry(*index).or_default().push(Opinion { signal_id: signal.signal_id.clone(), score });
            signals.push(signal);
        }
        let error = (!silent.is_empty()).then(|| format!("no volume in {}", silent.join(", ")));
        self.report(module, number, at, began.elapsed(), error).await?;
        for signal in signals {
            self.writer.write(signal).await?;
        }
        Ok(())
    }

    /// Weighs the signals into proposals, and says what the market is like.
    async fn oversee(
        &mut self,
        number: usize,
        at: DateTime<Utc>,
        bars: &[(usize, Bar)],
        opinions: &BTreeMap<usize, Vec<Opinion>>,
    ) -> Result<Vec<Ticket>> {
        let began = Instant::now();
        let mut wishes = Vec::new();
        let mut proposals = Vec::new();
        for (index, bar) in bars {
            let said = opinions.get(index).map(Vec::as_slice).unwrap_or_default();
            let score = mean(&said.iter().map(|o| o.score).collect::<Vec<_>>());
            let held = self.broker.account.positions.get(index).copied().unwrap_or_default();
            let busy = self.broker.open.iter().any(|order| order.asset == *index);
            let target = if matches!(self.regime, Some(Regime::Crisis | Regime::Bear)) { 90_000.0 } else { 270_000.0 };
            let (side, quantity) = match () {
                () if busy || number < DAY_BARS => continue,
                () if score > 0.35 && held == 0 => (Side::Buy, (target / bar.close) as i64),
                () if score < -0.3 && held > 0 => (Side::Sell, held),
                () => continue,
            };
            self.proposals += 1;
            let limit = bar.close * if side == Side::Buy { 1.0004 } else { 0.9996 };
            let ids: Vec<&str> = said.iter().map(|o| o.signal_id.as_str()).collect();
            let (limit_price, close) = (format!("{limit:.4}"), format!("{:.4}", bar.close));
            let payload = json!({"side": side.as_str(), "quantity": quantity, "limit": limit_price, "close": close,
                                 "score": score, "signal_ids": ids});
            let mut proposal = Proposal::new("overseer").at(at).asset(&self.names[*index]).payload(payload);
            proposal.proposal_id = format!("demo-proposal-{:05}", self.proposals);
            wishes.push(Ticket { proposal_id: proposal.proposal_id.clone(), asset: *index, side, quantity, limit });
            proposals.push(proposal);
        }
        let regime = number.is_multiple_of(13).then(|| self.classify(at)).flatten();
        self.report("overseer", number, at, began.elapsed(), None).await?;
        for proposal in proposals {
            self.writer.write(proposal).await?;
        }
        if let Some(state) = regime {
            self.store.regime_propose(state).await?;
        }
        Ok(wishes)
    }

    /// A regime to propose, when it is another one than before.
    fn classify(&mut self, at: DateTime<Utc>) -> Option<RegimeState> {
        let recent = self.basket.get(self.basket.len().checked_sub(DAY_BARS)?..)?;
        let (regime, confidence, t, ratio) = classify(recent, &self.basket);
        if self.regime == Some(regime) {
            return None;
        }
        self.regime = Some(regime);
        self.regimes += 1;
        let mut state = RegimeState::new(regime, confidence, "overseer")
            .at(at)
            .method("drift t statistic and volatility ratio, one day of 5 minute returns")
            .reasoning(format!("t = {t:.2}, volatility {ratio:.2} times the usual"))
            .context(json!({"t": t, "volatility_ratio": ratio, "bars": recent.len()}));
        state.regime_id = format!("demo-regime-{:04}", self.regimes);
        Some(state)
    }

    /// Risk management: historical value at risk and expected shortfall decide how much goes ahead.
    async fn judge(&self, at: DateTime<Utc>, number: usize, wishes: Vec<Ticket>) -> Result<Vec<Ticket>> {
        let began = Instant::now();
        let mut allowed = Vec::new();
        let mut evaluations = Vec::new();
        for mut wish in wishes {
            let returns = self.assets[wish.asset].recent(RISK_BARS);
            let (var, shortfall) = value_at_risk(returns);
            let volatility = deviation(returns);
            let level = match var {
                v if v < 0.006 => RiskLevel::Low,
                v if v < 0.010 => RiskLevel::Medium,
                v if v < 0.015 => RiskLevel::High,
                _ => RiskLevel::Critical,
            };
            // Selling lowers the risk whatever it is.
            let verdict = match (wish.side, level) {
                (Side::Sell, _) | (_, RiskLevel::Low | RiskLevel::Medium) => Verdict::Approved,
                (_, RiskLevel::High) => Verdict::Downgraded,
                (_, RiskLevel::Critical) => Verdict::Rejected,
            };
            let mut evaluation = RiskEvaluation::new("risk_management", &wish.proposal_id, level, verdict)
                .at(at)
                .var_99(var)
                .expected_shortfall(shortfall)
                .max_drawdown(max_drawdown(returns))
                .sharpe_ratio(if volatility > 0.0 { mean(returns) / volatility } else { 0.0 })
                .method("historical simulation, 5 minute returns")
                .model_version("1");
            evaluation.evaluation_id = format!("{}-risk", wish.proposal_id);
            if verdict == Verdict::Downgraded {
                wish.quantity = (wish.quantity / 2).max(1);
                evaluation = evaluation.recommendations(json!([format!("halve to {}", wish.quantity)]));
            }
            evaluations.push(evaluation);
            if verdict != Verdict::Rejected {
                allowed.push(wish);
            }
        }
        self.report("risk_management", number, at, began.elapsed(), None).await?;
        for evaluation in evaluations {
            self.writer.write(evaluation).await?;
        }
        Ok(allowed)
    }

    async fn snapshot(&self, number: usize, at: DateTime<Utc>) -> Result<()> {
        let account = &self.broker.account;
        let mut positions = serde_json::Map::new();
        let mut total = account.cash;
        let mut values = Vec::new();
        for (asset, quantity) in &account.positions {
            let price = Decimal::round_f64(self.assets[*asset].closes.last().copied().unwrap_or_default(), 4).unwrap_or_default();
            let value = Decimal::from(*quantity).checked_mul_half_even(price).unwrap_or_default();
            total = total.checked_add(value).unwrap_or(total);
            values.push((value.to_f64(), self.assets[*asset].recent(RISK_BARS)));
            positions.insert(self.names[*asset].clone(), json!({"quantity": quantity.to_string(), "price": price.to_string()}));
        }
        let held: Vec<&[f64]> = account.positions.keys().map(|a| self.assets[*a].recent(DAY_BARS)).collect();
        let pairs: Vec<f64> =
            (0..held.len()).flat_map(|i| (0..i).map(move |j| (i, j))).map(|(i, j)| correlation(held[i], held[j])).collect();
        let worth = total.to_f64().max(1.0);
        let largest = values.iter().map(|(value, _)| *value).fold(0.0, f64::max);
        // Historical simulation: what these holdings would have returned over the bars before, cash standing still.
        let simulated = weighted(&values.iter().map(|(value, returns)| (value / worth, *returns)).collect::<Vec<_>>());
        let mut snapshot = PortfolioSnapshot::new(Json::from(serde_json::Value::Object(positions)), account.cash, total)
            .at(at)
            .portfolio_var(value_at_risk(&simulated).0)
            .portfolio_volatility(deviation(&simulated))
            .max_position_concentration(largest / worth)
            .correlation_risk(mean(&pairs))
            .reason("bar")
            .market_hours(true);
        snapshot.snapshot_id = format!("demo-snapshot-{number}");
        self.writer.write(snapshot).await
    }

    /// Health checks with this process's real memory and CPU.
    async fn check_health(&mut self, number: usize, at: DateTime<Utc>) -> Result<()> {
        for module in MODULES.into_iter().filter(|module| !provoked::is_silent(module, number)) {
            let began = Instant::now();
            self.system.refresh_processes_specifics(
                ProcessesToUpdate::Some(&[self.pid]),
                false,
                ProcessRefreshKind::nothing().with_memory().with_cpu(),
            );
            let mut check = HealthCheck::new(module, "healthy").at(at);
            match self.system.process(self.pid) {
                Some(process) => {
                    check = check.memory_usage_mb(process.memory() as f64 / 1e6).cpu_usage_percent(f64::from(process.cpu_usage()));
                }
                None => check.status = "degraded".to_owned(),
            }
            self.writer.write(check.response_time_ms(began.elapsed().as_secs_f64() * 1000.0)).await?;
        }
        Ok(())
    }
}

impl Asset {
    /// Takes in a bar; gives its return.
    fn learn(&mut self, at: DateTime<Utc>, bar: &Bar) -> Option<f64> {
        let before = self.closes.last().copied();
        self.closes.push(bar.close);
        let smooth =
            |average: f64, bars: f64| if average == 0.0 { bar.close } else { average + (bar.close - average) * 2.0 / (bars + 1.0) };
        (self.fast, self.slow) = (smooth(self.fast, 12.0), smooth(self.slow, 36.0));
        let r = bar.close / before? - 1.0;
        self.returns.push(r);
        // Where in its range the bar closed: buyers' or sellers' hour.
        let range = bar.high - bar.low;
        let flow = if range > 0.0 { (2.0 * bar.close - bar.high - bar.low) / range } else { 0.0 };
        self.mood += (flow - self.mood) * 0.15;
        let season = self.season.entry(at.hour() * 60 + at.minute()).or_default();
        *season = (season.0 + r, season.1 + 1);
        Some(r)
    }

    fn recent(&self, bars: usize) -> &[f64] {
        &self.returns[self.returns.len().saturating_sub(bars)..]
    }

    /// Distance of the fast from the slow average in standard deviations of a bar, squashed to -1..1.
    fn trend(&self) -> f64 {
        let volatility = deviation(self.recent(DAY_BARS));
        if volatility > 0.0 { ((self.fast / self.slow - 1.0) / volatility / 2.0).tanh() } else { 0.0 }
    }

    /// How the next five minutes went on the days before, squashed to -1..1.
    fn season(&self, at: DateTime<Utc>) -> f64 {
        let volatility = deviation(self.recent(DAY_BARS));
        match self.season.get(&(at.hour() * 60 + at.minute())) {
            Some((sum, days)) if *days >= 2 && volatility > 0.0 => (sum / f64::from(*days) / volatility).tanh(),
            _ => 0.0,
        }
    }
}

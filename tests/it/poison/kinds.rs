//! The records, drawn.

use chrono::{DateTime, TimeDelta, Utc};
use hitherto::records::{
    EventType, HealthCheck, Module, ModuleExecution, ModuleStatus, OrderEvent, PortfolioSnapshot, Proposal, Record, Regime, RegimeState,
    RiskEvaluation, RiskLevel, Side, Signal, Verdict,
};

use super::draw::Draw;

/// A kind of record: how one is drawn, and what of it stays as it was written.
pub(super) trait Kinds: Record {
    fn draw(draw: &mut Draw<'_>) -> Self;
    /// The column that tells rows apart where they carry no batch.
    const KEY: Option<&'static str> = None;
    /// Its value.
    fn key(&self) -> String {
        String::new()
    }
    /// Columns that the database decides on.
    const DECIDED: &'static [&'static str] = &[];
    /// Each regime puts the one before out of force: a thousand are a lot of work.
    const NEIGHBOURS: usize = 999;
    /// Times finer than the database keeps are cut: only those that nobody checked reach it.
    fn cut(&mut self) {}
}

fn micros(time: &mut DateTime<Utc>) {
    *time = DateTime::from_timestamp_micros(time.timestamp_micros()).unwrap();
}

impl Kinds for Module {
    const KEY: Option<&'static str> = Some("name");
    fn key(&self) -> String {
        self.name.clone()
    }
    fn draw(d: &mut Draw<'_>) -> Self {
        Self { name: d.id(), version: d.text("1"), status: ModuleStatus::Active, config: Some(d.json("{}")), error_message: d.some_text() }
    }
}

impl Kinds for ModuleExecution {
    fn draw(d: &mut Draw<'_>) -> Self {
        let mut record = Self::new(d.text("technical"), d.float());
        (record.started_at, record.execution_id) = (d.time(), d.id());
        (record.error_message, record.details) = (d.some_text(), Some(d.json("[1]")));
        record
    }
    fn cut(&mut self) {
        micros(&mut self.started_at);
    }
}

impl Kinds for HealthCheck {
    fn draw(d: &mut Draw<'_>) -> Self {
        let mut record = Self::new(d.text("technical"), d.text("healthy"));
        (record.checked_at, record.response_time_ms, record.error_count) = (d.time(), Some(d.float()), d.int4());
        (record.memory_usage_mb, record.cpu_usage_percent, record.details) = (Some(d.float()), Some(d.float()), Some(d.json("{}")));
        record
    }
    fn cut(&mut self) {
        micros(&mut self.checked_at);
    }
}

impl Kinds for Signal {
    fn draw(d: &mut Draw<'_>) -> Self {
        let mut record = Self::new(d.text("technical"), d.text("trend"));
        (record.emitted_at, record.signal_id, record.asset) = (d.time(), d.id(), d.some_text());
        (record.score, record.confidence, record.payload) = (Some(d.float()), Some(d.float()), Some(d.json("{}")));
        record
    }
    fn cut(&mut self) {
        micros(&mut self.emitted_at);
    }
}

impl Kinds for Proposal {
    fn draw(d: &mut Draw<'_>) -> Self {
        let mut record = Self::new(d.text("overseer"));
        (record.proposal_id, record.proposed_at, record.asset, record.payload) = (d.id(), d.time(), d.some_text(), Some(d.json("{}")));
        record
    }
    fn cut(&mut self) {
        micros(&mut self.proposed_at);
    }
}

impl Kinds for RiskEvaluation {
    fn draw(d: &mut Draw<'_>) -> Self {
        let mut record = Self::new(d.text("risk"), d.text("p"), RiskLevel::Low, Verdict::Approved);
        (record.evaluated_at, record.evaluation_id, record.var_99, record.expected_shortfall) =
            (d.time(), d.id(), Some(d.float()), Some(d.float()));
        (record.max_drawdown, record.sharpe_ratio, record.flags) = (Some(d.float()), Some(d.float()), Some(d.json("[]")));
        (record.recommendations, record.method, record.model_version) = (Some(d.json("[]")), d.some_text(), d.some_text());
        record
    }
    fn cut(&mut self) {
        micros(&mut self.evaluated_at);
    }
}

impl Kinds for OrderEvent {
    fn draw(d: &mut Draw<'_>) -> Self {
        let mut record = Self::new(d.text("order"), EventType::Fill).side(Side::Buy);
        (record.event_at, record.event_id, record.sequence, record.proposal_id) = (d.time(), d.id(), Some(d.int8()), d.some_text());
        (record.asset, record.order_type, record.quantity, record.price) =
            (d.some_text(), d.some_text(), Some(d.decimal()), Some(d.decimal()));
        (record.last_quantity, record.last_price, record.commission) = (Some(d.decimal()), Some(d.decimal()), Some(d.decimal()));
        (record.broker, record.reason, record.ref_event_id, record.details) =
            (d.some_text(), d.some_text(), d.some_text(), Some(d.json("{}")));
        record
    }
    fn cut(&mut self) {
        micros(&mut self.event_at);
    }
}

impl Kinds for PortfolioSnapshot {
    fn draw(d: &mut Draw<'_>) -> Self {
        let mut record = Self::new(d.json(r#"{"A": "1"}"#), d.decimal(), d.decimal());
        (record.taken_at, record.snapshot_id, record.portfolio_var) = (d.time(), d.id(), Some(d.float()));
        (record.portfolio_volatility, record.max_position_concentration) = (Some(d.float()), Some(d.float()));
        (record.correlation_risk, record.reason, record.market_hours) = (Some(d.float()), d.some_text(), Some(true));
        record
    }
    fn cut(&mut self) {
        micros(&mut self.taken_at);
    }
}

impl Kinds for RegimeState {
    const KEY: Option<&'static str> = Some("regime_id");
    fn key(&self) -> String {
        self.regime_id.clone()
    }
    const DECIDED: &'static [&'static str] =
        &["requires_confirmation", "status", "decided_at", "decided_by", "effective_from", "effective_until"];
    const NEIGHBOURS: usize = 99;
    fn draw(d: &mut Draw<'_>) -> Self {
        let mut record = Self::new(Regime::Bull, d.float(), d.text("overseer"));
        (record.regime_id, record.proposed_at, record.decide_by) = (d.id(), d.time(), Some(d.time() + TimeDelta::zero()));
        (record.method, record.reasoning, record.notes, record.context) = (d.some_text(), d.some_text(), d.some_text(), Some(d.json("{}")));
        record
    }
    fn cut(&mut self) {
        micros(&mut self.proposed_at);
        if let Some(time) = &mut self.decide_by {
            micros(time);
        }
    }
}

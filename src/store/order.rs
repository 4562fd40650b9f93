//! Where orders stand.

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::Store;
use crate::error::{Error, Result};
use crate::records::Decimal;

/// A row of `hitherto.execution_report`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ExecutionReport {
    /// The order.
    pub order_id: String,
    /// Proposal it carries out.
    pub proposal_id: Option<String>,
    /// What is traded.
    pub asset: Option<String>,
    /// `buy` or `sell`.
    pub side: Option<String>,
    /// Type, as the broker calls it.
    pub order_type: Option<String>,
    /// Ordered quantity.
    pub quantity: Option<Decimal>,
    /// `pending`, `submitted`, `partially_filled`, `filled`, `cancelled`, `rejected` or `expired`.
    pub status: String,
    /// Sum of its fills.
    pub filled_quantity: Decimal,
    /// Still to be filled.
    pub leaves_quantity: Option<Decimal>,
    /// Mean price of its fills.
    pub average_fill_price: Option<Decimal>,
    /// Sum of commissions.
    pub total_commission: Decimal,
    /// First submitted event.
    pub submitted_at: Option<DateTime<Utc>>,
    /// When the fills reached the quantity.
    pub filled_at: Option<DateTime<Utc>>,
    /// When it was filled, cancelled, rejected or expired.
    pub closed_at: Option<DateTime<Utc>>,
    /// Names of what should not have happened.
    pub anomalies: Vec<String>,
    /// Distinct events.
    pub event_count: i64,
}

/// One event of an order, as it is stored.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OrderEventRow {
    /// When it happened.
    pub event_at: DateTime<Utc>,
    /// The event's own id.
    pub event_id: String,
    /// What happened.
    pub event_type: String,
    /// Ordered quantity.
    pub quantity: Option<Decimal>,
    /// Quantity of this fill.
    pub last_quantity: Option<Decimal>,
    /// Price of this fill.
    pub last_price: Option<Decimal>,
    /// Commission on this fill.
    pub commission: Option<Decimal>,
    /// Why.
    pub reason: Option<String>,
}

impl Store {
    /// Where an order stands.
    ///
    /// # Errors
    /// Whatever the database answers.
    pub async fn execution_report(&self, order_id: &str) -> Result<Option<ExecutionReport>> {
        let row = self
            .asking()
            .await?
            .query_opt(
                "-- execution_report
                 SELECT order_id, proposal_id, asset, side, order_type, quantity, status, filled_quantity, leaves_quantity, average_fill_price,
                        total_commission, submitted_at, filled_at, closed_at, anomalies, event_count
                 FROM hitherto.execution_report WHERE order_id = $1",
                &[&order_id],
            )
            .await
            .map_err(|e| Error::unanswered("reading an execution report", e))?;
        Ok(row.map(|row| ExecutionReport {
            order_id: row.get(0),
            proposal_id: row.get(1),
            asset: row.get(2),
            side: row.get(3),
            order_type: row.get(4),
            quantity: row.get(5),
            status: row.get(6),
            filled_quantity: row.get(7),
            leaves_quantity: row.get(8),
            average_fill_price: row.get(9),
            total_commission: row.get(10),
            submitted_at: row.get(11),
            filled_at: row.get(12),
            closed_at: row.get(13),
            anomalies: row.get(14),
            event_count: row.get(15),
        }))
    }

    /// An order's events in the order that the report folds them in.
    ///
    /// # Errors
    /// Whatever the database answers.
    pub async fn order_events(&self, order_id: &str) -> Result<Vec<OrderEventRow>> {
        let rows = self
            .asking()
            .await?
            .query(
                "-- order_events
                 SELECT event_at, event_id, event_type, quantity, last_quantity, last_price, commission, reason
                 FROM hitherto.order_event WHERE order_id = $1
                 ORDER BY event_at, sequence NULLS FIRST, hitherto.order_event_rank(event_type), event_id",
                &[&order_id],
            )
            .await
            .map_err(|e| Error::unanswered("reading an order's events", e))?;
        Ok(rows
            .iter()
            .map(|row| OrderEventRow {
                event_at: row.get(0),
                event_id: row.get(1),
                event_type: row.get(2),
                quantity: row.get(3),
                last_quantity: row.get(4),
                last_price: row.get(5),
                commission: row.get(6),
                reason: row.get(7),
            })
            .collect())
    }
}

//! What a module can say: one noun a file, typed and validated. No I/O.
//!
//! Each record is a row of the table of the same name; its fields are the columns, with `module` (a
//! name) in place of `module_id`. Times are UTC with microseconds, quantities and money [`Decimal`],
//! latencies `f64` milliseconds. `new` takes what a record can't be without, the rest is set by
//! methods named after the fields. As JSON (NDJSON for `hitherto ingest`) a record without its own
//! id gets one that is derived from its content.
//!
//! ```
//! use hitherto::records::{OrderEvent, EventType, Side, Decimal};
//! let fill = OrderEvent::new("order-1", EventType::Fill)
//!     .asset("NVDA").side(Side::Buy)
//!     .last_quantity(Decimal::from(40)).last_price("175.53".parse::<Decimal>()?);
//! assert_eq!(fill.order_id, "order-1");
//! # Ok::<(), hitherto::records::DecimalError>(())
//! ```

mod check;
mod decimal;
mod json;
mod jsonb;
mod record;
mod time;

mod health_check;
mod module;
mod module_execution;
mod order_event;
mod portfolio_snapshot;
mod proposal;
mod regime_state;
mod risk_evaluation;
mod signal;

pub use check::{
    Check, DEFAULT_AHEAD, DEFAULT_JSON_BYTES, DEFAULT_OLDEST, DEFAULT_TEXT_BYTES, Invalid, Limits, MAX_MEASURE, MAX_NAME_CHARS,
};
pub(crate) use decimal::numeric_field;
pub use decimal::{Decimal, DecimalError};
pub use json::{Json, MAX_JSON_DEPTH};
pub use record::{Column, Fields, Kind, Record, TABLES};
pub(crate) use record::{WithRecord, with_record_of};

pub use health_check::HealthCheck;
pub use module::{Module, ModuleStatus};
pub use module_execution::ModuleExecution;
pub use order_event::{EventType, OrderEvent, Side};
pub use portfolio_snapshot::PortfolioSnapshot;
pub use proposal::Proposal;
pub use regime_state::{Regime, RegimeState, RegimeStatus};
pub use risk_evaluation::{RiskEvaluation, RiskLevel, Verdict};
pub use signal::Signal;

/// Builder methods for optional fields.
macro_rules! setters {
    ($record:ident { $($(#[$doc:meta])* $field:ident: $type:ty),* $(,)? }) => {
        impl $record {
            $($(#[$doc])*
            #[must_use]
            pub fn $field(mut self, $field: impl Into<$type>) -> Self {
                self.$field = Some($field.into());
                self
            })*
        }
    };
}
pub(crate) use setters;

/// An enum of lower-case words, the same in Rust, JSON and SQL.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$word_doc:meta])* $variant:ident = $word:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
        pub enum $name {
            $($(#[$word_doc])* #[serde(rename = $word)] $variant),*
        }

        impl $name {
            /// Every word there is.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The word as it stands in JSON and SQL.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),* }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = crate::Error;

            fn from_str(text: &str) -> Result<Self, crate::Error> {
                Self::ALL.iter().copied().find(|w| w.as_str() == text).ok_or_else(|| {
                    let known: Vec<&str> = Self::ALL.iter().map(|w| w.as_str()).collect();
                    crate::Error::new(
                        crate::ErrorKind::Invalid,
                        format!("'{text}' is none of {}", known.join(", ")),
                    )
                })
            }
        }
    };
}
pub(crate) use words;

/// Now, cut to the microseconds that the database keeps.
pub(crate) fn now() -> chrono::DateTime<chrono::Utc> {
    micros(chrono::Utc::now())
}

/// A clock's reading without what is finer than microseconds.
pub(crate) fn micros(time: chrono::DateTime<chrono::Utc>) -> chrono::DateTime<chrono::Utc> {
    chrono::SubsecRound::trunc_subsecs(time, 6)
}

/// A fresh id: a UUID of version 7, so that ids sort by the time they were made.
pub(crate) fn fresh_id() -> String {
    uuid::Uuid::now_v7().to_string()
}

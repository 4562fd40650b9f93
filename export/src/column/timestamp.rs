//! `timestamptz`, an instant, and `timestamp`, a reading of some clock: both in microseconds, from 4713 BC to 294246 AD.

use arrow::array::PrimitiveBuilder;
use arrow::datatypes::{DataType, TimeUnit, TimestampMicrosecondType};
use deltalake_core::kernel::{DataType as DeltaType, PrimitiveType};

use super::codec::{Codec, Mapping, Refused, fixed};

/// 2000-01-01 in microseconds since 1970: PostgreSQL counts from there.
const EPOCH_MICROS: i64 = 946_684_800_000_000;

#[derive(Debug)]
pub(super) enum Timestamp {
    /// `timestamptz`
    Instant,
    /// `timestamp`
    Clock,
}

impl Mapping for Timestamp {
    fn arrow(&self) -> DataType {
        match self {
            Self::Instant => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            Self::Clock => DataType::Timestamp(TimeUnit::Microsecond, None),
        }
    }

    fn delta(&self) -> Result<DeltaType, Refused> {
        Ok(DeltaType::Primitive(match self {
            Self::Instant => PrimitiveType::Timestamp,
            Self::Clock => PrimitiveType::TimestampNtz,
        }))
    }

    fn codec(&self) -> Box<dyn Codec> {
        fixed(PrimitiveBuilder::<TimestampMicrosecondType>::new().with_data_type(self.arrow()), |raw| {
            let micros = i64::from_be_bytes(raw);
            // Infinity overflows; minus infinity does not.
            micros.checked_add(EPOCH_MICROS).filter(|_| micros != i64::MIN).ok_or_else(|| refused(micros))
        })
    }
}

#[cold]
fn refused(micros: i64) -> Refused {
    match micros {
        i64::MAX => {
            "an infinite time (infinity) has no place among timestamps; in the query, write nullif(x, 'infinity') or x::text".to_owned()
        }
        i64::MIN => {
            "an infinite time (-infinity) has no place among timestamps; in the query, write nullif(x, '-infinity') or x::text".to_owned()
        }
        _ => {
            "a time after 294247-01-10 04:00:54.775807 UTC has no place in 64 bits of microseconds since 1970; in the query, write x::text"
                .to_owned()
        }
    }
}

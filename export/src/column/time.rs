//! `time`, and `timetz`.
//!
//! Delta has no time of day: in a lake it is text, as the server spells it. So is a `timetz` anywhere.

use std::fmt::Write as _;

use arrow::array::PrimitiveBuilder;
use arrow::datatypes::{DataType, Time64MicrosecondType, TimeUnit};
use deltalake_core::kernel::{DataType as DeltaType, PrimitiveType};

use super::codec::{Codec, Mapping, Parts, Place, Refused, Spelled, bytes, fixed};

const DAY: i64 = 86_400_000_000;

#[derive(Debug)]
pub(super) struct Time(pub(super) Place);

impl Mapping for Time {
    fn arrow(&self) -> DataType {
        match self.0 {
            Place::File => DataType::Time64(TimeUnit::Microsecond),
            Place::Lake => TIME.arrow(),
        }
    }

    fn delta(&self) -> Result<DeltaType, Refused> {
        Ok(DeltaType::Primitive(PrimitiveType::String))
    }

    fn codec(&self) -> Box<dyn Codec> {
        match self.0 {
            Place::File => fixed(PrimitiveBuilder::<Time64MicrosecondType>::new(), |raw| match i64::from_be_bytes(raw) {
                micros @ 0..DAY => Ok(micros),
                DAY => Err("24:00:00 has no place among times of day; in the query, write nullif(x, '24:00') or x::text".to_owned()),
                micros => Err(not_a_time(micros)),
            }),
            Place::Lake => TIME.codec(),
        }
    }
}

/// A `time` as text.
const TIME: Spelled = Spelled { name: "time", spell: |raw, out| spell_time(i64::from_be_bytes(bytes(raw)?), out) };

/// A `timetz` as text, such as `12:34:56.7+05:30`.
pub(super) const TIMETZ: Spelled = Spelled { name: "timetz", spell: spell_timetz };

fn spell_timetz(raw: &[u8], out: &mut String) -> Result<(), Refused> {
    let mut parts = Parts(raw);
    spell_time(parts.next().map(i64::from_be_bytes)?, out)?;
    // Seconds west of Greenwich.
    let west = parts.number()?;
    parts.end()?;
    let seconds = west.unsigned_abs();
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    // Writing to a String cannot fail.
    let _ = write!(out, "{}{hours:02}", if west > 0 { '-' } else { '+' });
    if minutes != 0 || seconds != 0 {
        let _ = write!(out, ":{minutes:02}");
    }
    if seconds != 0 {
        let _ = write!(out, ":{seconds:02}");
    }
    Ok(())
}

fn spell_time(micros: i64, out: &mut String) -> Result<(), Refused> {
    if !(0..=DAY).contains(&micros) {
        return Err(not_a_time(micros));
    }
    let (seconds, micros) = (micros / 1_000_000, micros % 1_000_000);
    let _ = write!(out, "{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
    if micros != 0 {
        let _ = write!(out, ".{micros:06}");
        out.truncate(out.trim_end_matches('0').len());
    }
    Ok(())
}

#[cold]
fn not_a_time(micros: i64) -> Refused {
    format!("the server sent a time of {micros} microseconds after midnight")
}

//! `bit` and `varbit`: their zeros and ones. `pg_lsn`: its text.

use std::fmt::Write as _;

use super::codec::{Parts, Refused, Spelled, bytes};

pub(super) const BITS: Spelled = Spelled { name: "bit", spell: spell_bits };

pub(super) const LSN: Spelled = Spelled { name: "pg_lsn", spell: spell_lsn };

fn spell_bits(raw: &[u8], out: &mut String) -> Result<(), Refused> {
    let mut parts = Parts(raw);
    let count = parts.number()?;
    let count = usize::try_from(count).ok().filter(|count| count.div_ceil(8) == parts.0.len());
    let count = count.ok_or("the server sent bits that are not as many as it says")?;
    out.reserve(count);
    out.extend((0..count).map(|at| if parts.0[at / 8] >> (7 - at % 8) & 1 == 0 { '0' } else { '1' }));
    Ok(())
}

fn spell_lsn(raw: &[u8], out: &mut String) -> Result<(), Refused> {
    let position = u64::from_be_bytes(bytes(raw)?);
    // Writing to a String cannot fail.
    let _ = write!(out, "{:X}/{:X}", position >> 32, position & 0xFFFF_FFFF);
    Ok(())
}

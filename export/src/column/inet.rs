//! `inet` and `cidr`, `macaddr` and `macaddr8`: their text.

use std::fmt::Write as _;
use std::net::Ipv4Addr;

use super::codec::{Parts, Refused, Spelled, bytes};

/// As the server says it, with the length of the network where that is not the whole address.
pub(super) const INET: Spelled = Spelled { name: "inet", spell: spell_inet };

pub(super) const MACADDR: Spelled = Spelled { name: "macaddr", spell: |raw, out| spell_mac(&bytes::<6>(raw)?, out) };

pub(super) const MACADDR8: Spelled = Spelled { name: "macaddr8", spell: |raw, out| spell_mac(&bytes::<8>(raw)?, out) };

/// Address families; see inet.h of PostgreSQL.
const IPV4: u8 = 2;
const IPV6: u8 = 3;

fn spell_inet(raw: &[u8], out: &mut String) -> Result<(), Refused> {
    let mut parts = Parts(raw);
    let [family, bits, is_cidr, length] = parts.next()?;
    // Writing to a String cannot fail.
    let whole = match (family, length) {
        (IPV4, 4) => {
            let _ = write!(out, "{}", Ipv4Addr::from(parts.next::<4>()?));
            32
        }
        (IPV6, 16) => {
            spell_ipv6(parts.next()?, out);
            128
        }
        _ => return Err(format!("the server sent an address of family {family} and {length} bytes")),
    };
    parts.end()?;
    if bits != whole || is_cidr != 0 {
        let _ = write!(out, "/{bits}");
    }
    Ok(())
}

/// As PostgreSQL does, which writes the end of an address as IPv4 in more cases than Rust.
fn spell_ipv6(address: [u8; 16], out: &mut String) {
    let words: Vec<u16> = address.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect();
    // The first of the longest stretches of two zeros or more.
    let mut zeros = 0..0;
    for start in 0..8 {
        let length = words[start..].iter().take_while(|word| **word == 0).count();
        if length >= 2 && length > zeros.len() {
            zeros = start..start + length;
        }
    }
    let holds_ipv4 = zeros.start == 0 && (zeros.len() == 6 || zeros.len() == 5 && words[5] == 0xFFFF);
    for at in 0..8 {
        if zeros.contains(&at) {
            if at == zeros.start {
                out.push(':');
            }
            continue;
        }
        if at != 0 {
            out.push(':');
        }
        if at == 6 && holds_ipv4 {
            let _ = write!(out, "{}", Ipv4Addr::new(address[12], address[13], address[14], address[15]));
            return;
        }
        let _ = write!(out, "{:x}", words[at]);
    }
    if zeros.end == 8 && !zeros.is_empty() {
        out.push(':');
    }
}

fn spell_mac(address: &[u8], out: &mut String) -> Result<(), Refused> {
    for (at, byte) in address.iter().enumerate() {
        let _ = write!(out, "{}{byte:02x}", if at == 0 { "" } else { ":" });
    }
    Ok(())
}

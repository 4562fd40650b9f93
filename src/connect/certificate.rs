//! The little that must be read of a certificate by hand: the key it is for, and how it was signed.

use sha2::{Digest, Sha256, Sha384, Sha512};

/// What of a certificate (X.509, DER) matters here.
pub(super) struct Certificate<'a> {
    /// Its public key: SubjectPublicKeyInfo as a whole.
    pub(super) key: &'a [u8],
    /// How it was signed: an object identifier.
    algorithm: &'a [u8],
}

const SEQUENCE: u8 = 0x30;
const OBJECT_IDENTIFIER: u8 = 0x06;
const VERSION: u8 = 0xa0;

impl<'a> Certificate<'a> {
    /// Reads a certificate of any version; version 1 too, which the verifier of chains does not take.
    pub(super) fn read(der: &'a [u8]) -> Option<Self> {
        let (certificate, _) = of(SEQUENCE, der)?;
        let (mut signed, rest) = of(SEQUENCE, certificate)?;
        let (algorithm, _) = of(OBJECT_IDENTIFIER, of(SEQUENCE, rest)?.0)?;
        if signed.first() == Some(&VERSION) {
            signed = item(signed)?.rest;
        }
        // Serial number, signature, issuer, validity, subject.
        for _ in 0..5 {
            signed = item(signed)?.rest;
        }
        let key = item(signed).filter(|key| key.kind == SEQUENCE)?.whole;
        Some(Self { key, algorithm })
    }
}

/// A piece of DER.
struct Item<'a> {
    kind: u8,
    whole: &'a [u8],
    content: &'a [u8],
    /// What follows it.
    rest: &'a [u8],
}

fn item(der: &[u8]) -> Option<Item<'_>> {
    let [kind, short, ..] = *der else { return None };
    let (length, head) = match usize::from(short) {
        length @ ..0x80 => (length, 2),
        long => {
            let digits = der.get(2..2 + (long & 0x7f))?;
            if digits.is_empty() || digits.len() > 4 {
                return None;
            }
            (digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit)), 2 + digits.len())
        }
    };
    let end = head.checked_add(length)?;
    Some(Item { kind, whole: der.get(..end)?, content: der.get(head..end)?, rest: der.get(end..)? })
}

/// Content and rest, if it is of this type.
fn of(wanted: u8, der: &[u8]) -> Option<(&[u8], &[u8])> {
    let item = item(der).filter(|item| item.kind == wanted)?;
    Some((item.content, item.rest))
}

/// What the login is bound to (RFC 5929, `tls-server-end-point`): the certificate's digest by the function
/// that it was signed with, SHA-256 for MD5 and SHA-1. None where the signature has no such function.
pub(super) fn end_point(der: &[u8]) -> Option<Vec<u8>> {
    const RSA: [u8; 8] = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01];
    const ECDSA: [u8; 7] = [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03];
    let algorithm = Certificate::read(der)?.algorithm;
    let function = match (algorithm.strip_prefix(&RSA), algorithm.strip_prefix(&ECDSA)) {
        (Some([4 | 5 | 11]), _) | (_, Some([2])) => 256,
        (Some([12]), _) | (_, Some([3])) => 384,
        (Some([13]), _) | (_, Some([4])) => 512,
        _ if algorithm == [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x01] => 256,
        _ => return None,
    };
    Some(match function {
        256 => Sha256::digest(der).to_vec(),
        384 => Sha384::digest(der).to_vec(),
        _ => Sha512::digest(der).to_vec(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificates_key_is_found_and_broken_ones_are_turned_down() {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::new(vec!["h".to_owned()]).unwrap().self_signed(&key).unwrap();
        let der = certificate.der();
        assert_eq!(Certificate::read(der).unwrap().key, rcgen::PublicKeyData::subject_public_key_info(&key));
        assert_eq!(end_point(der).unwrap(), Sha256::digest(der).to_vec());
        for end in 0..der.len() {
            assert!(Certificate::read(&der[..end]).is_none(), "{end}");
        }
        for place in 0..der.len().min(200) {
            for bit in 0..8 {
                let mut broken = der.to_vec();
                broken[place] ^= 1 << bit;
                let _ = Certificate::read(&broken);
            }
        }
    }
}

//! Messages of the protocol, as bytes.

use std::io;

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// The length that stands before a message.
pub(super) fn number(bytes: &[u8]) -> usize {
    bytes.first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes) as usize)
}

/// Bytes on their way in.
#[derive(Default)]
pub(super) struct Incoming {
    pub(super) bytes: BytesMut,
    /// Of the message under way, to be passed on as it is.
    passing: usize,
}

impl Incoming {
    /// The next whole message of one of these types; others are passed on.
    pub(super) fn next(&mut self, types: &[u8], out: &mut BytesMut) -> io::Result<Option<(u8, Bytes)>> {
        loop {
            if self.passing > 0 {
                let n = self.passing.min(self.bytes.len());
                out.put(self.bytes.split_to(n));
                self.passing -= n;
            }
            if self.passing > 0 || self.bytes.len() < 5 {
                return Ok(None);
            }
            let (kind, length) = (self.bytes[0], number(&self.bytes[1..5]));
            if length < 4 {
                return Err(broken("a message is shorter than its own length"));
            }
            if !types.contains(&kind) {
                self.passing = length + 1;
            } else if self.bytes.len() > length {
                let mut message = self.bytes.split_to(length + 1).freeze();
                message.advance(5);
                return Ok(Some((kind, message)));
            } else {
                return Ok(None);
            }
        }
    }
}

/// What came is no message of the protocol.
pub(super) fn broken(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.to_owned())
}

/// Writes a message.
pub(super) fn put(out: &mut BytesMut, kind: u8, parts: &[&[u8]]) {
    let length: usize = parts.iter().map(|part| part.len()).sum::<usize>() + 4;
    out.put_u8(kind);
    out.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    parts.iter().for_each(|part| out.put_slice(part));
}

/// A message by itself.
#[cfg(test)]
pub(super) fn message(kind: u8, parts: &[&[u8]]) -> Vec<u8> {
    let mut out = BytesMut::new();
    put(&mut out, kind, parts);
    out.to_vec()
}

/// Takes a text off the front, its zero left out.
pub(super) fn text(message: &mut Bytes) -> io::Result<Bytes> {
    let end = message.iter().position(|byte| *byte == 0).ok_or_else(|| broken("a text has no end"))?;
    let text = message.split_to(end);
    message.advance(1);
    Ok(text)
}

//! Where messages begin and end, and the process number among them.

use super::message::number;

/// Follows messages without changing them, and finds the process number that is told at login.
#[derive(Default)]
pub(super) struct Frames {
    head: Vec<u8>,
    rest: usize,
}

/// The longest message that is kept: BackendKeyData.
const KEY_DATA: usize = 13;

impl Frames {
    /// Looks at what came; the process number, if this is where it stands.
    pub(super) fn look(&mut self, mut bytes: &[u8]) -> Option<u32> {
        let mut found = None;
        while let Some((first, after)) = bytes.split_first() {
            if self.rest > 0 && !(self.head.first() == Some(&b'K') && self.head.len() < KEY_DATA) {
                let n = self.rest.min(bytes.len());
                self.rest -= n;
                bytes = &bytes[n..];
            } else {
                self.head.push(*first);
                self.rest = self.rest.saturating_sub(1);
                bytes = after;
                if let (5, [_, length @ ..]) = (self.head.len(), &self.head[..]) {
                    self.rest = number(length).saturating_sub(4);
                }
            }
            if self.rest == 0 && self.head.len() >= 5 {
                if let [b'K', _, _, _, _, process_id @ ..] = &self.head[..] {
                    found = process_id.first_chunk().map(|bytes| u32::from_be_bytes(*bytes));
                }
                self.head.clear();
            }
        }
        found
    }

    /// Whether the last message is whole.
    pub(super) fn at_boundary(&self) -> bool {
        self.head.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connect::message::message;

    #[test]
    fn the_process_number_is_found_however_its_bytes_come() {
        let login = [
            message(b'R', &[&[0; 4]]),
            message(b'S', &[b"a\0b\0"]),
            message(b'K', &[&7u32.to_be_bytes(), &[9; 4]]),
            message(b'Z', b"I".chunks(1).collect::<Vec<_>>().as_slice()),
        ];
        for piece in [1, 2, 3, 5, 13, 100] {
            let mut frames = Frames::default();
            let found: Vec<u32> = login.concat().chunks(piece).filter_map(|bytes| frames.look(bytes)).collect();
            assert_eq!(found, [7], "{piece}");
            assert!(frames.at_boundary());
            frames.look(b"S");
            assert!(!frames.at_boundary());
        }
    }
}

//! Lines, whatever their length and bytes.

/// The longest line that is read; of a longer one the rest is skipped.
pub(super) const MAX_LINE_BYTES: usize = 1 << 20;

/// Cuts blocks into lines.
#[derive(Default)]
pub(super) struct Lines {
    number: u64,
    /// The beginning of a line whose end is in a later block.
    begun: Vec<u8>,
    /// Bytes of that line so far.
    length: usize,
}

pub(super) struct Line<'a> {
    /// Counted from 1.
    pub(super) number: u64,
    /// Without line end and surrounding white space.
    pub(super) bytes: &'a [u8],
    /// It was too long; only its beginning is here.
    pub(super) cut: bool,
    /// A line end followed.
    pub(super) ended: bool,
}

impl Line<'_> {
    pub(super) fn is_blank(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The line's text; bytes that are no text are U+FFFD.
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(self.bytes).into_owned()
    }
}

impl Lines {
    /// Hands over every line that ends in this block.
    pub(super) fn cut(&mut self, block: &[u8], mut each: impl FnMut(&Line<'_>)) {
        let mut at = 0;
        for end in memchr::memchr_iter(b'\n', block) {
            let rest = &block[at..end];
            at = end + 1;
            self.number += 1;
            if self.length == 0 {
                let whole = &rest[..rest.len().min(MAX_LINE_BYTES)];
                each(&line(self.number, whole, rest.len() > MAX_LINE_BYTES, true));
            } else {
                self.begin(rest);
                each(&line(self.number, &self.begun, self.length > MAX_LINE_BYTES, true));
                self.begun.clear();
                self.length = 0;
            }
        }
        self.begin(&block[at..]);
    }

    fn begin(&mut self, part: &[u8]) {
        let room = MAX_LINE_BYTES - self.begun.len();
        self.begun.extend_from_slice(&part[..part.len().min(room)]);
        self.length += part.len();
    }

    /// What stands behind the last line end, if anything does.
    pub(super) fn rest(&mut self) -> Option<Line<'_>> {
        self.number += 1;
        (self.length > 0).then(|| line(self.number, &self.begun, self.length > MAX_LINE_BYTES, false))
    }
}

fn line(number: u64, mut bytes: &[u8], cut: bool, ended: bool) -> Line<'_> {
    if number == 1 {
        // A byte order mark, as some editors write it.
        bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    }
    Line { number, bytes: bytes.trim_ascii(), cut, ended }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Number, bytes, cut and ended of every line.
    fn all(text: &[u8], block: usize) -> Vec<(u64, Vec<u8>, bool, bool)> {
        let (mut lines, mut all) = (Lines::default(), Vec::new());
        let mut note = |line: &Line<'_>| all.push((line.number, line.bytes.to_vec(), line.cut, line.ended));
        text.chunks(block).for_each(|block| lines.cut(block, &mut note));
        if let Some(line) = lines.rest() {
            note(&line);
        }
        all
    }

    #[test]
    fn lines_are_the_same_wherever_blocks_are_cut() {
        let text = b"\xef\xbb\xbf{} \r\n\n  null\n\n\nabc\ndef";
        let whole = all(text, 1000);
        let said: Vec<(u64, &[u8], bool)> = whole.iter().map(|(n, bytes, _, ended)| (*n, &bytes[..], *ended)).collect();
        let expected: [(u64, &[u8], bool); 7] =
            [(1, b"{}", true), (2, b"", true), (3, b"null", true), (4, b"", true), (5, b"", true), (6, b"abc", true), (7, b"def", false)];
        assert_eq!(said, expected);
        for block in 1..text.len() {
            assert_eq!(all(text, block), whole, "{block}");
        }
        assert!(all(b"", 1).is_empty());
        assert_eq!(all(b"a\n", 1).len(), 1);
    }

    #[test]
    fn of_a_line_that_is_too_long_the_beginning_is_kept() {
        for (length, cut) in [(MAX_LINE_BYTES, false), (MAX_LINE_BYTES + 1, true), (3 * MAX_LINE_BYTES, true)] {
            let text = [&vec![b'x'; length][..], b"\nnext\n"].concat();
            for block in [100_000, MAX_LINE_BYTES, 10 * MAX_LINE_BYTES] {
                let lines = all(&text, block);
                assert_eq!((lines[0].1.len(), lines[0].2, lines[1].1.as_slice()), (MAX_LINE_BYTES, cut, &b"next"[..]));
            }
        }
    }
}

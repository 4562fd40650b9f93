//! JSON as the server prints it once it is `jsonb`: what a digest is taken of must not depend on spaces,
//! on the order of keys or on how a number was written.

use std::collections::BTreeMap;

/// `text::jsonb::text`, for text that is JSON and that `jsonb` does not refuse.
pub(super) fn printed(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    let mut reader = Reader { text, at: 0, depth: 0 };
    reader.value(&mut out);
    // Nobody checked it, and the server will not take it.
    if reader.depth > MAX_DEPTH { text.to_owned() } else { out }
}

/// Arrays and objects within each other, at most; records allow fewer.
const MAX_DEPTH: usize = 1_000;

/// Reads the text from one end to the other.
struct Reader<'a> {
    text: &'a str,
    at: usize,
    /// How deep it is in arrays and objects; past [`MAX_DEPTH`] it has given up.
    depth: usize,
}

impl<'a> Reader<'a> {
    /// The next byte that is no space.
    fn peek(&mut self) -> u8 {
        let bytes = self.text.as_bytes();
        while bytes.get(self.at).is_some_and(u8::is_ascii_whitespace) {
            self.at += 1;
        }
        bytes.get(self.at).copied().unwrap_or_default()
    }

    /// The text up to where `goes_on` no longer holds.
    fn take(&mut self, goes_on: impl Fn(u8) -> bool) -> &'a str {
        let start = self.at;
        let bytes = self.text.as_bytes();
        while bytes.get(self.at).is_some_and(|b| goes_on(*b)) {
            self.at += 1;
        }
        &self.text[start..self.at]
    }

    fn value(&mut self, out: &mut String) {
        match self.peek() {
            b'{' | b'[' if self.depth >= MAX_DEPTH => {
                self.depth = MAX_DEPTH + 1;
                self.at = self.text.len();
            }
            b'{' => self.within(|reader| reader.object(out)),
            b'[' => self.within(|reader| reader.array(out)),
            b'"' => put_string(&self.string(), out),
            b'-' | b'0'..=b'9' => put_number(self.take(|b| matches!(b, b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9')), out),
            _ => out.push_str(self.take(|b| b.is_ascii_lowercase())),
        }
    }

    fn within(&mut self, mut read: impl FnMut(&mut Self)) {
        self.depth += 1;
        read(self);
        if self.depth <= MAX_DEPTH {
            self.depth -= 1;
        }
    }

    fn array(&mut self, out: &mut String) {
        self.at += 1;
        out.push('[');
        while self.peek() != b']' && self.depth <= MAX_DEPTH {
            if self.peek() == b',' {
                self.at += 1;
                out.push_str(", ");
            }
            self.value(out);
        }
        self.at += 1;
        out.push(']');
    }

    fn object(&mut self, out: &mut String) {
        self.at += 1;
        // Short keys first, then by their bytes; of two with one key the later counts.
        let mut members = BTreeMap::new();
        while self.peek() != b'}' && self.depth <= MAX_DEPTH {
            if self.peek() == b',' {
                self.at += 1;
                self.peek();
            }
            let key = self.string();
            self.peek();
            self.at += 1; // The colon.
            let mut value = String::new();
            self.value(&mut value);
            members.insert((key.len(), key), value);
        }
        self.at += 1;
        out.push('{');
        for (place, ((_, key), value)) in members.iter().enumerate() {
            if place > 0 {
                out.push_str(", ");
            }
            put_string(key, out);
            out.push_str(": ");
            out.push_str(value);
        }
        out.push('}');
    }

    /// What the string at this place says.
    fn string(&mut self) -> String {
        self.at += 1;
        let mut said = String::new();
        loop {
            said.push_str(self.take(|b| b != b'"' && b != b'\\'));
            let escaped = self.text.as_bytes().get(self.at + 1).copied();
            self.at += 1;
            if self.text.as_bytes().get(self.at - 1) != Some(&b'\\') {
                return said;
            }
            self.at += 1;
            said.push(match escaped.unwrap_or_default() {
                b'b' => '\u{8}',
                b'f' => '\u{c}',
                b'n' => '\n',
                b'r' => '\r',
                b't' => '\t',
                b'u' => self.code_point(),
                itself => char::from(itself),
            });
        }
    }

    /// The character of `XXXX`, or of `XXXX\uXXXX` where that is a surrogate pair.
    fn code_point(&mut self) -> char {
        let unit = |at: usize| self.text.get(at..at + 4).and_then(|hex| u16::from_str_radix(hex, 16).ok()).unwrap_or_default();
        let (high, low) = (unit(self.at), unit(self.at + 6));
        let pair = (0xD800..0xDC00).contains(&high) && self.text.get(self.at + 4..self.at + 6) == Some("\\u");
        self.at += if pair { 10 } else { 4 };
        let units = if pair { vec![high, low] } else { vec![high] };
        char::decode_utf16(units).next().and_then(Result::ok).unwrap_or(char::REPLACEMENT_CHARACTER)
    }
}

/// As PostgreSQL's `escape_json`: characters past ASCII stay as they are.
fn put_string(said: &str, out: &mut String) {
    out.push('"');
    for c in said.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            control if control < ' ' => out.push_str(&format!("\\u{:04x}", control as u32)),
            _ => out.push(c),
        }
    }
    out.push('"');
}

/// As `numeric` prints it: no exponent, the digits after the point kept, no negative zero.
fn put_number(number: &str, out: &mut String) {
    let (sign, body) = number.strip_prefix('-').map_or(("", number), |body| ("-", body));
    let (mantissa, exponent) = body.split_once(['e', 'E']).unwrap_or((body, "0"));
    let exponent: i64 = exponent.parse().unwrap_or(i64::MAX);
    // Past numeric's range: nobody checked it, and the server will not take it.
    if exponent.unsigned_abs() > 200_000 && body.bytes().any(|b| b.is_ascii_digit()) {
        out.push_str(number);
        return;
    }
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = [whole, fraction].concat();
    let scale = usize::try_from(fraction.len() as i64 - exponent).unwrap_or_default();
    // Where the point stands among the digits; outside of them there are zeros.
    let point = whole.len() as i64 + exponent;
    let zeros = |count: i64| "0".repeat(usize::try_from(count).unwrap_or_default());
    let cut = usize::try_from(point).unwrap_or_default().min(digits.len());
    let before = [&digits[..cut], &zeros(point - digits.len() as i64)].concat();
    let before = before.trim_start_matches('0');
    if digits.bytes().any(|b| b != b'0') {
        out.push_str(sign);
    }
    out.push_str(if before.is_empty() { "0" } else { before });
    if scale > 0 {
        out.push('.');
        out.push_str(&zeros(-point));
        out.push_str(&digits[cut..]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_reads_as_the_server_prints_it() {
        for (text, expected) in [
            (r#"{"b":1,"aa":2,"a":3,"b":4}"#, r#"{"a": 3, "b": 4, "aa": 2}"#),
            (" [ ] ", "[]"),
            ("{ }", "{}"),
            ("[1,[2,{}],\ttrue , null]", "[1, [2, {}], true, null]"),
            (r#""A\/\u00e9\ud83d\ude00\u0001\b\"""#, "\"A/é😀\\u0001\\b\\\"\""),
            ("1e5", "100000"),
            ("-0", "0"),
            ("-0.00", "0.00"),
            ("1.10", "1.10"),
            ("1E-7", "0.0000001"),
            ("-1.50e1", "-15.0"),
            ("1.5e3", "1500"),
            ("12.345e-2", "0.12345"),
            ("0.001e2", "0.1"),
            ("0e3", "0"),
            ("0e-3", "0.000"),
            ("0.0012e3", "1.2"),
            ("123.4e+1", "1234"),
        ] {
            assert_eq!(printed(text), expected, "{text}");
        }
    }

    #[test]
    fn what_the_server_refuses_is_left_as_it_is() {
        let deep = format!("{}{}", "[{\"a\":".repeat(50_000), "}]".repeat(50_000));
        for text in ["1e9223372036854775807", "-1e-99999999999999999999", &deep, &"[".repeat(100_000)] {
            assert_eq!(printed(text), text);
        }
        for half in [r#"["\ud800"]"#, r#"["\udc00\ud800"]"#, r#"{"\ud800":"\ud800\u0041"}"#] {
            assert!(printed(half).contains(char::REPLACEMENT_CHARACTER), "{half}");
        }
    }
}

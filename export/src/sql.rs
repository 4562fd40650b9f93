//! As much of SQL's lexical structure as it takes to find a statement's ends.

/// Why a text is not one statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotOne {
    Empty,
    Several,
}

/// The one statement of a text, without what is around it: white space, comments, semicolons. What it is
/// put into can go on behind it, as that can't behind a comment to the line's end.
pub(crate) fn only_statement(text: &str) -> Result<&str, NotOne> {
    let (mut start, mut end, mut closed) = (None, 0, false);
    for (at, token) in tokens(text) {
        if token == ";" {
            closed = start.is_some();
        } else if closed {
            return Err(NotOne::Several);
        } else {
            start.get_or_insert(at);
            end = at + token.len();
        }
    }
    start.map(|start| &text[start..end]).ok_or(NotOne::Empty)
}

/// The first word, behind brackets.
pub(crate) fn first_word(statement: &str) -> &str {
    tokens(statement).map(|(_, token)| token).find(|token| *token != "(").unwrap_or_default()
}

/// The tokens with where they begin, nearly: words, quoted things and semicolons are whole, other signs
/// and digits stand alone.
fn tokens(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        loop {
            let rest = &text[at..];
            let next = rest.chars().next()?;
            let (length, passed_over) = match next {
                c if c.is_ascii_whitespace() || c == '\x0b' => (1, true),
                '-' if rest.starts_with("--") => (rest.find(['\n', '\r']).unwrap_or(rest.len()), true),
                '/' if rest.starts_with("/*") => (comment(rest), true),
                '\'' => (quoted(rest, '\'', false), false),
                '"' => (quoted(rest, '"', false), false),
                'e' | 'E' if rest[1..].starts_with('\'') => (1 + quoted(&rest[1..], '\'', true), false),
                '$' => (dollar_quoted(rest).unwrap_or(1), false),
                c if is_word(c) && !c.is_ascii_digit() => (rest.find(|c| !is_word(c) && c != '$').unwrap_or(rest.len()), false),
                c => (c.len_utf8(), false),
            };
            let start = at;
            at += length;
            if !passed_over {
                return Some((start, &text[start..at]));
            }
        }
    })
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || !c.is_ascii()
}

/// The length of what begins with a quote, up to the one that ends it. A doubled one stands for itself,
/// as does, where backslashes escape, one behind a backslash.
fn quoted(text: &str, quote: char, backslashes: bool) -> usize {
    let mut chars = text.char_indices().skip(1).peekable();
    while let Some((at, c)) = chars.next() {
        if c == '\\' && backslashes || c == quote && chars.peek().is_some_and(|(_, next)| *next == quote) {
            chars.next();
        } else if c == quote {
            return at + quote.len_utf8();
        }
    }
    text.len()
}

/// The length of a comment; one may hold others.
fn comment(text: &str) -> usize {
    let (mut depth, mut at) = (0usize, 0);
    while let Some(found) = text[at..].find(['/', '*']) {
        at += found;
        match text.get(at..at + 2) {
            Some("/*") => (depth, at) = (depth + 1, at + 2),
            Some("*/") => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    text.len()
}

/// The length of `$tag$...$tag$`, where that is what it is.
fn dollar_quoted(text: &str) -> Option<usize> {
    let tag = &text[..text[1..].find(|c| !is_word(c))? + 2];
    if !tag.ends_with('$') || tag[1..].starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    Some(text[tag.len()..].find(tag).map_or(text.len(), |end| tag.len() + end + tag.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_is_found_among_comments_and_semicolons() {
        for text in [
            "SELECT 1",
            " \n; SELECT 1 ; ; ",
            "-- all of it\nSELECT 1 -- the last (",
            "SELECT 1; -- done; really",
            "/* a /* nested ; */ one; */ SELECT 1 /* open to the end ;",
        ] {
            assert_eq!(only_statement(text), Ok("SELECT 1"), "{text}");
        }
        for text in [
            "SELECT ';' AS \"a;b\"\"--\", 'it''s; --'",
            "SELECT E'\\'; --' AS e, some_e'\\'",
            "SELECT $$ ; -- $$, $tag$ $$ ; $tag$, a$b$c",
            "SELECT 1 - -1, 2 * 3 / 4, '/*', 5 -- why\n + 1",
            "SELECT 'ü', ü FROM t WHERE a = $1",
            "(TABLE t)",
        ] {
            assert_eq!(only_statement(&format!("{text} ; -- end")), Ok(text), "{text}");
        }
    }

    #[test]
    fn none_and_several_are_told_apart() {
        for text in ["", " \n\t", ";", "-- nothing", "/* ; */ ;;"] {
            assert_eq!(only_statement(text), Err(NotOne::Empty), "{text}");
        }
        for text in ["SELECT 1; SELECT 2", "SELECT 1;;x", ";SELECT ';'; DROP TABLE t; --"] {
            assert_eq!(only_statement(text), Err(NotOne::Several), "{text}");
        }
    }

    #[test]
    fn what_does_not_end_goes_to_the_end() {
        for text in ["SELECT 'a; b", "SELECT \"a; b", "SELECT $$ a; b", "SELECT E'\\", "SELECT $t$ $", "SELECT $"] {
            assert_eq!(only_statement(text), Ok(text), "{text}");
        }
    }

    #[test]
    fn the_first_word_stands_behind_brackets() {
        for (text, word) in [("( (select 1))", "select"), ("/* x */ Values (1)", "Values"), ("TABLE t", "TABLE"), ("(", ""), ("", "")] {
            assert_eq!(first_word(text), word, "{text}");
        }
    }
}

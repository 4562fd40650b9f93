//! Cuts a SQL file into its statements, so that an error can name the one that failed.

/// The statements of a file, comments before them included, without the closing semicolon.
///
/// Knows quotes, dollar quotes and comments; nested block comments it does not, and the files of
/// `sql/` have none.
pub(super) fn split(sql: &str) -> Vec<&str> {
    let bytes = sql.as_bytes();
    let mut statements = Vec::new();
    let (mut start, mut i) = (0, 0);
    while i < bytes.len() {
        match bytes[i] {
            b'\'' | b'"' => i = after(sql, i + 1, &sql[i..=i]),
            b'-' if sql[i..].starts_with("--") => i = after(sql, i, "\n"),
            b'/' if sql[i..].starts_with("/*") => i = after(sql, i, "*/"),
            b'$' => match dollar_tag(&sql[i..]) {
                Some(tag) => i = after(sql, i + tag.len(), tag),
                None => i += 1,
            },
            b';' => {
                statements.push(sql[start..i].trim());
                i += 1;
                start = i;
            }
            _ => i += 1,
        }
    }
    let rest = sql[start..].trim();
    if rest.lines().any(|line| !line.trim().is_empty() && !line.trim_start().starts_with("--")) {
        statements.push(rest);
    }
    statements
}

/// The statement's first line that is not a comment: enough for a person to find it.
pub(super) fn headline(statement: &str) -> &str {
    statement.lines().find(|line| !line.trim().is_empty() && !line.trim_start().starts_with("--")).unwrap_or(statement).trim()
}

fn after(sql: &str, from: usize, end: &str) -> usize {
    sql[from..].find(end).map_or(sql.len(), |at| from + at + end.len())
}

/// `$tag$` at the head of the text, if that is what stands there.
fn dollar_tag(text: &str) -> Option<&str> {
    let end = text[1..].find('$')? + 2;
    let tag = &text[..end];
    let word = &tag[1..end - 1];
    (word.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') && !word.starts_with(|c: char| c.is_ascii_digit())).then_some(tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn semicolons_inside_quotes_and_bodies_do_not_cut() {
        let sql = "-- one; two\nSELECT ';', \"a;b\";\nCREATE FUNCTION f() AS $$ BEGIN; END; $$;\nDO $x$ ';$$;' $x$;\nSELECT $1 /* ; */";
        let cut = split(sql);
        assert_eq!(cut.len(), 4);
        assert_eq!(headline(cut[0]), "SELECT ';', \"a;b\"");
        assert!(cut[1].ends_with("END; $$"));
        assert!(cut[2].ends_with("$x$"));
        assert_eq!(cut[3], "SELECT $1 /* ; */");
    }

    #[test]
    fn a_comment_at_the_end_is_no_statement() {
        assert_eq!(split("SELECT 1;\n-- that was all\n").len(), 1);
        assert!(split("").is_empty());
    }

    #[test]
    fn doubled_quotes_stay_inside() {
        assert_eq!(split("COMMENT ON TABLE t IS 'it''s; here'; SELECT 2;").len(), 2);
    }
}

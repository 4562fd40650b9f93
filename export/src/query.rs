//! A query that somebody has typed: looked at before it runs.

use tokio_postgres::error::{ErrorPosition, SqlState};
use tokio_postgres::{Client, Statement};

use crate::dataset::Dataset;
use crate::error::{ExportError, ExportErrorKind, Result};
use crate::sql;

/// Characters of a line that are shown around an error.
const SHOWN: usize = 60;

impl Dataset {
    /// A plain table of a query's rows, in the query's order. The query is one SELECT, WITH, VALUES or TABLE, as one would
    /// type it: comments and semicolons around it are left out, whatever order it asks for is kept. What it reads
    /// is locked against being dropped or rewritten meanwhile. Nothing is run yet.
    ///
    /// # Errors
    /// `Config` when that is not what it is, with the place where the server can't read it; `Writes` when it
    /// is a statement that writes. Those that write in other ways are refused when they run.
    pub async fn from_query(client: &mut Client, name: &str, text: &str) -> Result<Self> {
        let doing = format!("dataset {name}");
        let refuse = |kind, why: &str| Err(ExportError::new(kind, format!("{doing}: {why}")));
        let query = match sql::only_statement(text) {
            Ok(query) => query,
            Err(sql::NotOne::Empty) => return refuse(ExportErrorKind::Config, "the query is empty; write a SELECT"),
            Err(sql::NotOne::Several) => {
                return refuse(ExportErrorKind::Config, "these are several statements; an export takes one query, a file each");
            }
        };
        let failed = |e| ExportError::database(&doing, e);
        let tx = client.build_transaction().read_only(true).start().await.map_err(failed)?;
        let statement = tx.prepare(text).await.map_err(|e| unreadable(&doing, text, e))?;
        let first = sql::first_word(query).to_ascii_uppercase();
        match first.as_str() {
            "SELECT" | "WITH" | "VALUES" | "TABLE" => {}
            "INSERT" | "UPDATE" | "DELETE" | "MERGE" => {
                return refuse(ExportErrorKind::Writes, &format!("{first} writes, and an export only reads; write a SELECT"));
            }
            _ => {
                let why = format!("{first} is no query; one begins with SELECT, WITH, VALUES or TABLE");
                return refuse(ExportErrorKind::Config, &why);
            }
        }
        check(&statement).map_err(|why| ExportError::new(ExportErrorKind::Config, format!("{doing}: {why}")))?;
        let tables = tx.query(TABLES, &[]).await.map_err(failed)?.iter().map(|row| row.get(0)).collect();
        tx.rollback().await.map_err(failed)?;
        Ok(Self { name: name.to_owned(), query: query.to_owned(), tables, ..Self::default() })
    }
}

/// What reading the query has locked and an export may lock as well.
const TABLES: &str = "
    SELECT DISTINCT format('%I.%I', n.nspname, c.relname)
    FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_class c ON c.oid = l.relation JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE l.pid = pg_catalog.pg_backend_pid() AND l.locktype = 'relation' AND c.relkind IN ('r', 'p', 'v')
      AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
      AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND pg_catalog.has_table_privilege(c.oid, 'SELECT')";

fn check(statement: &Statement) -> std::result::Result<(), String> {
    if !statement.params().is_empty() {
        return Err("the query has parameters ($1), and there is nothing to put there; write the value itself".to_owned());
    }
    if statement.columns().is_empty() {
        return Err("the query has no columns (SELECT without a list, or SELECT INTO, which writes a table)".to_owned());
    }
    for column in statement.columns().iter().filter(|column| column.name() == "?column?") {
        let same = statement.columns().iter().filter(|other| other.name() == column.name()).count();
        if same > 1 {
            return Err(format!("{same} columns have no name (?column?); give them one: ... AS name"));
        }
        tracing::warn!("a column has no name and is called ?column?; give it one: ... AS name");
    }
    Ok(())
}

/// The server's words, with the place that it means.
fn unreadable(doing: &str, text: &str, error: tokio_postgres::Error) -> ExportError {
    let db = error.as_db_error();
    let place = match db.and_then(|db| db.position()) {
        Some(ErrorPosition::Original(at)) => place(text, *at as usize),
        _ => None,
    };
    let parameter = db.is_some_and(|db| *db.code() == SqlState::INDETERMINATE_DATATYPE) && text.contains("$1");
    let kind = match db.map(|db| db.code().code()) {
        // The text is to blame, or what it names is not there.
        Some(code) if code.starts_with("42") && code != "42501" => Some(ExportErrorKind::Config),
        Some(code) if matches!(&code[..2], "0A" | "22" | "3F" | "54") => Some(ExportErrorKind::Config),
        _ => None,
    };
    let mut error = ExportError::database(doing, error);
    if parameter {
        error = error.with("there is nothing to put in place of a parameter; write the value itself");
    }
    if let Some(place) = place {
        error = error.with(&place);
    }
    match kind {
        Some(kind) => error.of_kind(kind),
        None => error,
    }
}

/// Line and column of a character, counted from 1, and a look at it.
fn place(text: &str, at: usize) -> Option<String> {
    let at = at.checked_sub(1).filter(|at| *at <= text.chars().count())?;
    let before: String = text.chars().take(at).collect();
    let line = before.matches('\n').count();
    let column = before.chars().rev().take_while(|c| *c != '\n').count();
    let shown: Vec<char> = text.lines().nth(line).unwrap_or_default().chars().map(|c| if c == '\t' { ' ' } else { c }).collect();
    let first = column.saturating_sub(SHOWN);
    let part: String = shown.iter().skip(first).take(2 * SHOWN).collect();
    Some(format!("line {}, column {}:\n  {}\n  {}^", line + 1, column + 1, part.trim_end(), " ".repeat(column - first)))
}

#[cfg(test)]
mod tests {
    use super::place;

    #[test]
    fn places_are_counted_in_characters_and_shown() {
        assert_eq!(place("SELECT 1", 8).unwrap(), "line 1, column 8:\n  SELECT 1\n         ^");
        assert_eq!(place("SELECT 'ü',\n\tx\nFROM t", 14).unwrap(), "line 2, column 2:\n   x\n   ^");
        assert_eq!(place("SELECT (", 9).unwrap(), "line 1, column 9:\n  SELECT (\n          ^", "the end");
        let long = format!("SELECT {}", "x".repeat(1000));
        let shown = place(&long, 500).unwrap();
        assert!(shown.lines().nth(1).unwrap().len() == 2 + 120 && shown.ends_with(&format!("\n  {}^", " ".repeat(60))), "{shown}");
        assert_eq!((place("", 5), place("x", 0)), (None, None));
    }
}

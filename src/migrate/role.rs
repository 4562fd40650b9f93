//! The roles of this store: groups that a server's databases share, and that logins are put into.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;
use tokio_postgres::{Row, Transaction};

use super::owner::strayed;
use crate::error::{Error, ErrorKind, Result};

/// A role that `migrate` makes. What it may do stands in `sql/role/400_wanted.sql`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Runs the platform: decides regimes, resolves quarantine, seals the audit, and all that the others do.
    Owner,
    /// Writes records, and reads none.
    Writer,
    /// Reads records, views and aggregates.
    Analyst,
    /// Reads what an export and an audit need.
    Exporter,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 4] = [Self::Owner, Self::Writer, Self::Analyst, Self::Exporter];

    /// Its name in the database.
    pub fn name(self) -> &'static str {
        match self {
            Self::Owner => "hitherto_owner",
            Self::Writer => "hitherto_writer",
            Self::Analyst => "hitherto_analyst",
            Self::Exporter => "hitherto_exporter",
        }
    }

    /// Every role's name.
    pub(crate) fn names() -> Vec<&'static str> {
        Self::ALL.iter().map(|role| role.name()).collect()
    }

    /// What whoever has it may do, in a few words.
    pub fn may(self) -> &'static str {
        match self {
            Self::Owner => {
                "read everything; write records; decide regimes and set their rule; set a module's status; retry and drop quarantined rows; seal the audit; run old code on the schema legacy"
            }
            Self::Writer => "write records, and read none",
            Self::Analyst => "read records, views and aggregates",
            Self::Exporter => "read what hitherto export and hitherto audit verify read",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Role {
    type Err = Error;

    fn from_str(word: &str) -> Result<Self> {
        Self::ALL
            .into_iter()
            .find(|role| role.name() == word || role.name().strip_prefix("hitherto_") == Some(word))
            .ok_or_else(|| Error::new(ErrorKind::Config, format!("'{word}' is no role; the roles are owner, writer, analyst, exporter")))
    }
}

macro_rules! missing {
    () => {
        "ARRAY(SELECT w.name FROM unnest($1::text[]) WITH ORDINALITY AS w (name, n)
               WHERE NOT EXISTS (SELECT FROM pg_roles r WHERE r.rolname = w.name) ORDER BY w.n)"
    };
}

/// Makes the roles that are missing. They are the server's, so that another database's migrator may be at it too.
/// Without the privilege nothing is made: [`flaws`] says so.
pub(super) async fn create(tx: &Transaction<'_>) -> Result<()> {
    let missing = concat!("-- role_missing\nSELECT ", missing!());
    let row = tx.query_one(missing, &[&Role::names()]).await.map_err(|e| Error::database("looking for the roles", e))?;
    for role in row.get::<_, Vec<&str>>(0) {
        let role: Role = role.parse()?;
        let comment = role.may().replace('\'', "''");
        let make = format!(
            "DO $do$ BEGIN CREATE ROLE {role} NOLOGIN; COMMENT ON ROLE {role} IS 'Hitherto store: may {comment}';
             EXCEPTION WHEN duplicate_object OR unique_violation OR insufficient_privilege THEN NULL; END $do$"
        );
        tx.batch_execute(&make).await.map_err(|e| Error::database(&format!("creating role {role}"), e))?;
    }
    Ok(())
}

/// What [`flaws`] tells of; wants [`Role::names`].
pub(crate) const FLAWS: &str = concat!(
    "-- role_flaws
     SELECT ",
    missing!(),
    ", d.count, d.first, o.count, o.first, s.count, s.first
     FROM (SELECT count(*), min(statement) AS first FROM hitherto.role_difference()) d,
          (SELECT count(*), min(statement) AS first FROM hitherto.role_open()) o,
          (SELECT count(*), min(statement) AS first FROM (",
    strayed!(),
    ") AS t) s"
);

/// Roles that are missing, privileges that differ, what TimescaleDB leaves open, and objects that are not the
/// owner's, each with what to do about it.
pub(crate) fn flaws(row: &Row) -> Vec<String> {
    let mut flaws = Vec::new();
    let missing: Vec<String> = row.get(0);
    if !missing.is_empty() {
        let statements: Vec<String> = missing.iter().map(|role| format!("CREATE ROLE {role};")).collect();
        flaws.push(format!(
            "{} roles are missing; run as somebody with CREATEROLE: {} then: hitherto migrate",
            missing.len(),
            statements.join(" ")
        ));
    }
    let mut add = |at: usize, words: &str, what_to_do: &str| {
        let (count, first): (i64, Option<String>) = (row.get(at), row.get(at + 1));
        flaws.extend(first.map(|first| format!("{count} {words}; {what_to_do}, the first: {first}")));
    };
    let either = |who: &str, function: &str| {
        format!("run hitherto migrate as {who}, or the statements that SELECT * FROM hitherto.{function}() gives")
    };
    add(1, "privileges are not as docs/roles.md says", &either("the owner", "role_difference"));
    add(3, "things of TimescaleDB are open to everybody: jobs, chunks, its catalogue", &either("a superuser", "role_open"));
    add(5, "objects are not the schema's owner's", "run hitherto migrate as a superuser, or give each to the owner");
    flaws
}

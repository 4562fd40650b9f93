//! The roles of this store: groups that a server's databases share, and that logins are put into.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

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

/// Makes the roles that are missing. They are the server's, so that another database's migrator may be at it too.
/// Without the privilege nothing is made: [`flaws`] says so.
pub(super) async fn create(client: &Client) -> Result<()> {
    for role in missing(client).await? {
        let doing = || format!("creating role {role}");
        let comment = role.may().replace('\'', "''");
        let made =
            client.batch_execute(&format!("CREATE ROLE {role} NOLOGIN; COMMENT ON ROLE {role} IS 'Hitherto store: may {comment}'")).await;
        match made.as_ref().map_err(|e| e.code()) {
            Ok(()) | Err(Some(&SqlState::DUPLICATE_OBJECT | &SqlState::UNIQUE_VIOLATION | &SqlState::INSUFFICIENT_PRIVILEGE)) => {}
            Err(_) => made.map_err(|e| Error::database(&doing(), e))?,
        }
    }
    Ok(())
}

async fn missing(client: &Client) -> Result<Vec<Role>> {
    let rows = client.query("SELECT rolname::text FROM pg_roles WHERE rolname LIKE 'hitherto\\_%'", &[]).await;
    let there: Vec<String> = rows.map_err(|e| Error::database("looking for the roles", e))?.iter().map(|row| row.get(0)).collect();
    Ok(Role::ALL.into_iter().filter(|role| !there.iter().any(|name| name == role.name())).collect())
}

/// Roles that are missing, privileges that differ, and what TimescaleDB leaves open.
pub(super) async fn flaws(client: &Client) -> Result<Vec<String>> {
    let mut flaws = Vec::new();
    let missing = missing(client).await?;
    if !missing.is_empty() {
        let statements: Vec<String> = missing.iter().map(|role| format!("CREATE ROLE {role};")).collect();
        flaws.push(format!(
            "{} roles are missing; run as somebody with CREATEROLE: {} then: hitherto migrate",
            missing.len(),
            statements.join(" ")
        ));
    }
    for (function, words) in [
        ("role_difference", "privileges are not as docs/roles.md says"),
        ("role_open", "things of TimescaleDB are open to everybody: jobs, chunks, its catalogue"),
    ] {
        let query = format!("-- {function}\nSELECT count(*), min(statement) FROM hitherto.{function}()");
        let row = client.query_one(&query, &[]).await.map_err(|e| Error::database("looking at privileges", e))?;
        let (count, first): (i64, Option<String>) = (row.get(0), row.get(1));
        if let Some(first) = first {
            flaws.push(format!(
                "{count} {words}; run hitherto migrate as the owner (of TimescaleDB's: as a superuser), or the statements that SELECT * FROM hitherto.{function}() gives, the first: {first}"
            ));
        }
    }
    Ok(flaws)
}

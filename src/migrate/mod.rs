//! Creates and upgrades the schema.
//!
//! Files under `sql/schema` and the engine's own folder are applied once, in the order of the number
//! at the head of their names, each in one transaction with its line in `hitherto.schema_migration`:
//! a migration that dies leaves whole files behind and the next run goes on from there. Files under
//! `sql/views`, `sql/legacy` and `sql/role` are replayed every time, in one transaction.

mod files;
mod owner;
pub(crate) mod role;
mod statement;

pub use role::Role;

use std::collections::BTreeMap;

use serde::Serialize;
use sha2::{Digest, Sha256};
use tokio_postgres::{Client, GenericClient, IsolationLevel, Transaction};

use crate::engine::{Capabilities, Engine};
use crate::error::{Error, ErrorKind, Result};
use owner::Owner;

/// One SQL file.
#[derive(Debug, Clone, Copy)]
struct File {
    /// Folder and file, without `.sql`.
    name: &'static str,
    sql: &'static str,
}

impl File {
    fn version(&self) -> i32 {
        let file = self.name.rsplit('/').next().unwrap_or_default();
        file.split('_').next().and_then(|n| n.parse().ok()).unwrap_or_default()
    }

    fn checksum(&self) -> String {
        Sha256::digest(self.sql).iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// The migrations that an engine needs, by version.
fn wanted(engine: Engine) -> Vec<File> {
    let own = match engine {
        Engine::Timescaledb => files::TIMESCALEDB,
        Engine::Postgresql => files::POSTGRESQL,
    };
    let mut all: Vec<File> = files::SCHEMA.iter().chain(own).copied().collect();
    all.sort_by_key(File::version);
    all
}

/// The schema version that this program brings: the highest number of its migrations.
pub fn schema_version(engine: Engine) -> i32 {
    wanted(engine).last().map_or(0, File::version)
}

/// What a migration did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Migrated {
    /// The engine whose files were used.
    pub engine: Engine,
    /// The files applied now, in order; empty when the schema was up to date.
    pub applied: Vec<String>,
    /// The database's schema version from now on.
    pub schema_version: i32,
    /// What could not be done and is left to somebody with more privileges; the schema works without.
    pub warnings: Vec<String>,
}

/// How a database's schema stands towards this program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum SchemaState {
    /// No schema yet: run `hitherto migrate`.
    Empty,
    /// Files are missing: run `hitherto migrate`.
    Behind {
        /// The files that are missing.
        missing: Vec<String>,
    },
    /// As this program wants it.
    Current,
    /// It has migrations that this program does not know: use a newer program.
    Newer {
        /// The migrations that are not known here.
        unknown: Vec<String>,
    },
    /// A file was edited after it was applied.
    Diverged {
        /// The migrations whose checksums differ.
        edited: Vec<String>,
    },
}

impl SchemaState {
    /// Turns the states that a program must not work with into an error that says what to do.
    ///
    /// # Errors
    /// `Refused` for every state but [`SchemaState::Current`].
    pub fn require_current(&self) -> Result<()> {
        match self {
            Self::Current => Ok(()),
            Self::Empty => Err(refused("the database has no schema of this store yet; run: hitherto migrate".to_owned())),
            Self::Behind { missing } => Err(refused(format!("the database's schema lacks {}; run: hitherto migrate", missing.join(", ")))),
            _ => self.require_migratable(),
        }
    }

    fn require_migratable(&self) -> Result<()> {
        match self {
            Self::Newer { unknown } => Err(refused(format!(
                "the database's schema is newer than this program: it has {}; use a newer hitherto",
                unknown.join(", ")
            ))),
            Self::Diverged { edited } => Err(refused(format!(
                "{} changed after being applied to this database (checksums differ); restore the file or the database, an applied migration is never edited",
                edited.join(", ")
            ))),
            _ => Ok(()),
        }
    }
}

fn refused(message: String) -> Error {
    Error::new(ErrorKind::Refused, message)
}

/// "hitherto" as a number: the advisory lock that migrators take turns by, each transaction anew.
const LOCK: i64 = 0x6869_7468_6572_746f;

/// Compares the database's schema with this program's. Changes nothing.
///
/// # Errors
/// Whatever the database answers.
pub async fn schema_state(client: &Client, engine: Engine) -> Result<SchemaState> {
    let applied = applied(client).await?;
    Ok(compare(&applied, &wanted(engine)))
}

fn compare(applied: &BTreeMap<i32, (String, String)>, wanted: &[File]) -> SchemaState {
    if applied.is_empty() {
        return SchemaState::Empty;
    }
    let known = |version: &i32| wanted.iter().any(|file| file.version() == *version);
    let unknown: Vec<String> = applied.iter().filter(|(version, _)| !known(version)).map(|(_, (name, _))| name.clone()).collect();
    if !unknown.is_empty() {
        return SchemaState::Newer { unknown };
    }
    let edited: Vec<String> = wanted
        .iter()
        .filter(|file| applied.get(&file.version()).is_some_and(|(_, checksum)| *checksum != file.checksum()))
        .map(|file| file.name.to_owned())
        .collect();
    if !edited.is_empty() {
        return SchemaState::Diverged { edited };
    }
    let missing: Vec<String> =
        wanted.iter().filter(|file| !applied.contains_key(&file.version())).map(|file| file.name.to_owned()).collect();
    if missing.is_empty() { SchemaState::Current } else { SchemaState::Behind { missing } }
}

/// Version to (name, checksum).
async fn applied(client: &impl GenericClient) -> Result<BTreeMap<i32, (String, String)>> {
    let doing = "reading hitherto.schema_migration";
    // Read from the tables: what a session remembers of names may be older than what others committed.
    let there = client
        .query_one(
            "SELECT EXISTS (SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
                            WHERE n.nspname = 'hitherto' AND c.relname = 'schema_migration')",
            &[],
        )
        .await
        .map_err(|e| Error::database(doing, e))?;
    if !there.get::<_, bool>(0) {
        return Ok(BTreeMap::new());
    }
    let rows =
        client.query("SELECT version, name, checksum FROM hitherto.schema_migration", &[]).await.map_err(|e| Error::database(doing, e))?;
    Ok(rows.iter().map(|row| (row.get(0), (row.get(1), row.get(2)))).collect())
}

/// Brings the schema up to date, makes the roles and replays the views, as the role that owns the schema where the session
/// may be that: whoever migrates, the objects are one role's. Safe to run twice and by many at once: each file's
/// transaction takes an advisory lock and looks again at what is applied, so that one works while the
/// others wait for it. No lock and no setting outlives its transaction: a pooler may stand in between.
///
/// # Errors
/// `Refused` when the schema is newer than this program, when an applied file was edited, or when
/// privileges are missing; otherwise the error names the file and the statement. Files applied
/// before the one that failed stay, so that the next run goes on from there.
pub async fn migrate(client: &mut Client, capabilities: &Capabilities) -> Result<Migrated> {
    let engine = capabilities.engine;
    let wanted = wanted(engine);
    let mut now = Vec::new();
    loop {
        let tx = turn(client).await?;
        let owner = Owner::take(&tx).await?;
        let applied = applied(&tx).await?;
        compare(&applied, &wanted).require_migratable()?;
        let Some(file) = wanted.iter().find(|file| !applied.contains_key(&file.version())) else {
            owner.leave(&tx).await?;
            role::create(&tx).await?;
            owner.enter(&tx).await?;
            for file in files::VIEWS.iter().chain(files::LEGACY).chain(files::ROLE) {
                apply(&tx, file).await?;
            }
            owner.leave(&tx).await?;
            apply(&tx, &files::CLOSE).await?;
            owner.enter(&tx).await?;
            let flaws = tx.query_one(role::FLAWS, &[&Role::names()]).await;
            let warnings = role::flaws(&flaws.map_err(|e| Error::database("looking at privileges", e))?);
            tx.commit().await.map_err(|e| Error::database("replaying the views", e))?;
            for warning in &warnings {
                tracing::warn!("{warning}");
            }
            return Ok(Migrated { engine, applied: now, schema_version: wanted.last().map_or(0, File::version), warnings });
        };
        if applied.is_empty() && engine == Engine::Timescaledb && !has_fit_timescaledb(&tx).await? {
            // A session that saw the extension come may know less of it than one that finds it there.
            tx.commit().await.map_err(|e| Error::database("creating the timescaledb extension", e))?;
            continue;
        }
        tracing::debug!(file = file.name, "applying");
        let doing = format!("migration {}", file.name);
        apply(&tx, file).await?;
        tx.execute(
            "INSERT INTO hitherto.schema_migration (version, name, checksum) VALUES ($1, $2, $3)",
            &[&file.version(), &file.name, &file.checksum()],
        )
        .await
        .map_err(|e| Error::database(&doing, e))?;
        tx.commit().await.map_err(|e| Error::database(&doing, e))?;
        now.push(file.name.to_owned());
    }
}

/// A transaction that has the lock. Waiting for it, and what is done under it, takes what it takes.
async fn turn(client: &mut Client) -> Result<Transaction<'_>> {
    let doing = "waiting for other migrators";
    // What others committed while this one waited must be seen, whatever the database's default.
    let builder = client.build_transaction().isolation_level(IsolationLevel::ReadCommitted).read_only(false);
    let tx = builder.start().await.map_err(|e| Error::database(doing, e))?;
    tx.batch_execute("SET LOCAL client_min_messages = warning; SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0")
        .await
        .map_err(|e| Error::database(doing, e))?;
    tx.execute("SELECT pg_advisory_xact_lock($1)", &[&LOCK]).await.map_err(|e| Error::database(doing, e))?;
    Ok(tx)
}

/// The oldest TimescaleDB that is supported.
const MIN_TIMESCALEDB: (u32, u32) = (2, 23);

/// Sees to it that the extension is what the migrations need, before the first of them, because an engine
/// is chosen once a database. False when it was created only now.
async fn has_fit_timescaledb(tx: &Transaction<'_>) -> Result<bool> {
    let unfit = |why: String| {
        refused(format!("the server's timescaledb can't be used: {why}; mend that, or run: hitherto migrate --engine postgresql"))
    };
    let doing = "looking at the timescaledb extension";
    let there = tx
        .query_one("SELECT EXISTS (SELECT FROM pg_extension WHERE extname = 'timescaledb')", &[])
        .await
        .map_err(|e| Error::database(doing, e))?;
    if let Err(e) = tx.batch_execute("CREATE EXTENSION IF NOT EXISTS timescaledb").await {
        return Err(match e.as_db_error() {
            Some(db) => unfit(db.message().to_owned()),
            // A server that has not preloaded it ends the session.
            None => unfit(format!("the connection was lost while it was created ({e}); it must be in shared_preload_libraries")),
        });
    }
    let row = tx
        .query_one(
            "SELECT (SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'), current_setting('timescaledb.license', true)",
            &[],
        )
        .await
        .map_err(|e| Error::database(doing, e))?;
    let (version, license): (String, Option<String>) = (row.get(0), row.get(1));
    if !is_new_enough(&version) {
        return Err(unfit(format!("it is {version}, and {}.{} or newer is needed", MIN_TIMESCALEDB.0, MIN_TIMESCALEDB.1)));
    }
    if license.as_deref() != Some("timescale") {
        let license = license.unwrap_or_else(|| "unknown".to_owned());
        return Err(unfit(format!("timescaledb.license is {license}; continuous aggregates and the columnstore need 'timescale'")));
    }
    Ok(there.get(0))
}

fn is_new_enough(version: &str) -> bool {
    let mut numbers = version.split(['.', '-']).map(|n| n.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= MIN_TIMESCALEDB
}

async fn apply(tx: &Transaction<'_>, file: &File) -> Result<()> {
    let statements = statement::split(file.sql);
    for (number, text) in statements.iter().enumerate() {
        // Only a superuser can tie a setting of ours to a function; of the one that is so, 171_owner_step makes another.
        let text = &text.replace(" SET hitherto.regime_step = 'on' AS", " AS");
        tx.batch_execute(text).await.map_err(|e| {
            let at = format!("sql/{}.sql, statement {} of {} ({})", file.name, number + 1, statements.len(), statement::headline(text));
            Error::database(&at, e)
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    #[test]
    fn every_file_of_sql_is_compiled_in() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("sql");
        for (folder, compiled) in [
            ("schema", files::SCHEMA),
            ("timescaledb", files::TIMESCALEDB),
            ("postgresql", files::POSTGRESQL),
            ("views", files::VIEWS),
            ("legacy", files::LEGACY),
            ("role", &[files::ROLE, &[files::CLOSE]].concat()[..]),
        ] {
            let on_disk: BTreeSet<String> = std::fs::read_dir(root.join(folder))
                .unwrap()
                .map(|entry| format!("{folder}/{}", entry.unwrap().path().file_stem().unwrap().to_string_lossy()))
                .collect();
            let listed: BTreeSet<String> = compiled.iter().map(|file| file.name.to_owned()).collect();
            assert_eq!(on_disk, listed);
        }
    }

    #[test]
    fn old_extensions_are_told_from_new_ones() {
        for (version, fit) in
            [("2.22.1", false), ("2.23.0", true), ("2.23.0-dev", true), ("2.30.0", true), ("3.0.0", true), ("1.7.5", false)]
        {
            assert_eq!(is_new_enough(version), fit, "{version}");
        }
    }

    #[test]
    fn versions_are_unique_on_each_engine() {
        for engine in [Engine::Timescaledb, Engine::Postgresql] {
            let versions: Vec<i32> = wanted(engine).iter().map(File::version).collect();
            assert!(versions.windows(2).all(|pair| pair[0] < pair[1]), "{versions:?}");
            assert!(versions[0] > 0);
        }
    }

    #[test]
    fn states_are_told_apart() {
        let wanted = wanted(Engine::Postgresql);
        let mut applied: BTreeMap<i32, (String, String)> =
            wanted.iter().map(|file| (file.version(), (file.name.to_owned(), file.checksum()))).collect();
        assert_eq!(compare(&BTreeMap::new(), &wanted), SchemaState::Empty);
        assert_eq!(compare(&applied, &wanted), SchemaState::Current);
        let last = applied.pop_last().unwrap();
        assert_eq!(compare(&applied, &wanted), SchemaState::Behind { missing: vec![last.1.0.clone()] });
        applied.insert(last.0, (last.1.0.clone(), "0".repeat(64)));
        assert_eq!(compare(&applied, &wanted), SchemaState::Diverged { edited: vec![last.1.0] });
        applied.insert(9999, ("schema/9999_later".to_owned(), String::new()));
        let newer = compare(&applied, &wanted);
        assert_eq!(newer, SchemaState::Newer { unknown: vec!["schema/9999_later".to_owned()] });
        assert_eq!(newer.require_current().unwrap_err().kind(), ErrorKind::Refused);
    }
}

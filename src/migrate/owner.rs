//! Whose the objects are: the schema owner's, whoever of those who may runs the migrations.

use tokio_postgres::{GenericClient, Transaction};

use crate::error::{Error, Result};

/// The statements that give the schemas' objects to the one owner; a table's own sequences go with it.
macro_rules! strayed {
    () => {
        "SELECT format('ALTER %s OWNER TO %I', s.what, o.rolname) AS statement
         FROM pg_namespace h JOIN pg_roles o ON o.oid = h.nspowner CROSS JOIN LATERAL (
             SELECT format('SCHEMA %I', n.nspname) AS what FROM pg_namespace n WHERE n.nspname = 'legacy' AND n.nspowner <> o.oid
             UNION ALL
             SELECT format('%s %I.%I', CASE WHEN c.relkind = 'S' THEN 'SEQUENCE' WHEN c.relkind IN ('r', 'p') THEN 'TABLE'
                                           -- A continuous aggregate, by what it reads.
                                           WHEN c.relkind = 'm' OR EXISTS (
                                               SELECT FROM pg_rewrite w JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = w.oid
                                               JOIN pg_class m ON d.refclassid = 'pg_class'::regclass AND m.oid = d.refobjid
                                               WHERE w.ev_class = c.oid AND m.relname LIKE '\\_materialized\\_hypertable\\_%') THEN 'MATERIALIZED VIEW'
                                           ELSE 'VIEW' END,
                           n.nspname, c.relname)
             FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
             WHERE n.nspname IN ('hitherto', 'legacy') AND c.relkind IN ('r', 'p', 'v', 'm', 'S') AND c.relowner <> o.oid
               AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid
                                                         AND d.refclassid = 'pg_class'::regclass AND d.deptype IN ('a', 'i'))
             UNION ALL
             SELECT 'ROUTINE ' || p.oid::regprocedure FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
             WHERE n.nspname IN ('hitherto', 'legacy') AND p.proowner <> o.oid
         ) AS s WHERE h.nspname = 'hitherto'"
    };
}

pub(super) use strayed;

/// What the session may not give away stays: `role::flaws` tells.
const GATHER: &str = concat!(
    "DO $do$ DECLARE step text; BEGIN FOR step IN ",
    strayed!(),
    " LOOP BEGIN EXECUTE step; EXCEPTION WHEN insufficient_privilege THEN NULL; END; END LOOP; END $do$"
);

/// The schema's owner, as which a transaction works, where the session is somebody else who may.
pub(super) struct Owner {
    /// None where the session works as itself: there is no schema yet, it is the owner, or it may not be.
    other: Option<String>,
    /// The role that the session has set, or `none`.
    before: String,
}

impl Owner {
    /// Sees to it that what the transaction makes is the schema owner's, and what others made before as well.
    pub(super) async fn take(tx: &Transaction<'_>) -> Result<Self> {
        let doing = "looking at whose the schema is";
        let row = tx
            .query_opt(
                "-- schema_owner
                 SELECT CASE WHEN o.rolname <> current_user
                              AND pg_has_role(session_user, o.oid, CASE WHEN current_setting('server_version_num')::int >= 160000 THEN 'SET' ELSE 'MEMBER' END)
                             THEN o.rolname::text END, current_setting('role')
                 FROM pg_namespace n JOIN pg_roles o ON o.oid = n.nspowner WHERE n.nspname = 'hitherto'",
                &[],
            )
            .await
            .map_err(|e| Error::database(doing, e))?;
        let Some(row) = row else { return Ok(Self { other: None, before: String::new() }) };
        let owner = Self { other: row.get(0), before: row.get(1) };
        if owner.other.is_some() {
            tx.batch_execute(GATHER).await.map_err(|e| Error::database("giving the schema's objects to its owner", e))?;
        }
        owner.enter(tx).await?;
        Ok(owner)
    }

    /// Works as the owner from here on, until the transaction ends.
    pub(super) async fn enter(&self, tx: &Transaction<'_>) -> Result<()> {
        match &self.other {
            Some(owner) => set(tx, owner).await,
            None => Ok(()),
        }
    }

    /// Works as the session itself: what belongs to the server is not the owner's.
    pub(super) async fn leave(&self, tx: &Transaction<'_>) -> Result<()> {
        if self.other.is_some() { set(tx, &self.before).await } else { Ok(()) }
    }
}

/// SET LOCAL ROLE, of a name that needs no quotes.
async fn set(client: &impl GenericClient, role: &str) -> Result<()> {
    let set = client.execute("SELECT set_config('role', $1, true)", &[&role]).await;
    set.map(|_| ()).map_err(|e| Error::database(&format!("working as {role}"), e))
}

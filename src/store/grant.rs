//! Who belongs to which role.

use serde::Serialize;
use tokio_postgres::Client;

use super::Store;
use crate::error::{Error, ErrorKind, Result};
use crate::migrate::Role;

/// What a login may do from now on, or no more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Granted {
    /// The role that was given or taken.
    pub role: Role,
    /// Whom to, or from.
    pub user: String,
    /// The roles of this store that they are in now, whichever way.
    pub roles: Vec<Role>,
    /// What else there is to know.
    pub notes: Vec<String>,
}

impl Store {
    /// Puts a login into a role.
    ///
    /// Into [`Role::Owner`]: whoever is to migrate, maintain and set retention must be in the role that owns the
    /// schema, too, and is put into it unless that is a superuser.
    ///
    /// # Errors
    /// `NotFound` for a login that the server does not know, `Refused` when the role was not made or this session may
    /// not grant it.
    pub async fn role_grant(&self, role: Role, user: &str) -> Result<Granted> {
        let client = self.client().await?;
        let login = Login::find(&client, role, user).await?;
        let doing = format!("granting {role} to '{user}'");
        execute(&client, &doing, "GRANT %I TO %I", &[role.name(), user]).await?;
        let mut notes = Vec::new();
        if !login.may_connect {
            let database = self.config().database().unwrap_or_default();
            match execute(&client, &doing, "GRANT CONNECT ON DATABASE %I TO %I", &[&login.database, user]).await {
                Ok(()) => notes.push(format!("may connect to database {} now", login.database)),
                Err(error) => notes.push(format!("may not connect to database {database} yet, and this session can't allow it: {error}")),
            }
        }
        if login.superuser {
            notes.push("is a superuser: no role holds it back".to_owned());
        }
        if !login.can_login {
            notes.push("can't log in itself; whoever is in it has the role too".to_owned());
        }
        if role == Role::Owner && !login.is_schema_owner {
            if login.schema_owner_is_superuser {
                notes.push(format!(
                    "migrate, maintain and retention set are for {}, which owns the schema: a superuser, whom nobody is put into",
                    login.schema_owner
                ));
            } else {
                notes.push(match execute(&client, &doing, "GRANT %I TO %I", &[&login.schema_owner, user]).await {
                    Ok(()) => format!("is in {} now, which owns the schema: may migrate, maintain and set retention", login.schema_owner),
                    Err(error) => {
                        format!("migrate, maintain and retention set are for {}, which owns the schema; {error}", login.schema_owner)
                    }
                });
            }
        }
        self.granted(&client, role, user, notes).await
    }

    /// Takes a login out of a role.
    ///
    /// # Errors
    /// As [`Store::role_grant`].
    pub async fn role_revoke(&self, role: Role, user: &str) -> Result<Granted> {
        let client = self.client().await?;
        let login = Login::find(&client, role, user).await?;
        let doing = format!("revoking {role} from '{user}'");
        execute(&client, &doing, "REVOKE %I FROM %I", &[role.name(), user]).await?;
        let mut notes = Vec::new();
        if role == Role::Owner && login.is_schema_owner_member && !login.is_schema_owner {
            execute(&client, &doing, "REVOKE %I FROM %I", &[&login.schema_owner, user]).await?;
            notes.push(format!("is no more in {}, which owns the schema", login.schema_owner));
        }
        if login.superuser {
            notes.push("is a superuser: no role holds it back".to_owned());
        }
        self.granted(&client, role, user, notes).await
    }

    async fn granted(&self, client: &Client, role: Role, user: &str, notes: Vec<String>) -> Result<Granted> {
        let names: Vec<&str> = Role::ALL.iter().map(|role| role.name()).collect();
        let rows = client
            .query(
                "-- role_of
                 SELECT r.rolname::text FROM pg_roles r, pg_roles u
                 WHERE u.rolname = $1::text AND r.rolname = ANY ($2::text[]) AND pg_has_role(u.oid, r.oid, 'MEMBER')",
                &[&user, &names],
            )
            .await
            .map_err(|e| Error::database("looking at who has which role", e))?;
        let has: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
        let roles = Role::ALL.into_iter().filter(|role| has.iter().any(|name| name == role.name())).collect();
        Ok(Granted { role, user: user.to_owned(), roles, notes })
    }
}

/// What the server knows of a login, and of who owns the schema.
struct Login {
    superuser: bool,
    can_login: bool,
    may_connect: bool,
    database: String,
    schema_owner: String,
    schema_owner_is_superuser: bool,
    is_schema_owner: bool,
    is_schema_owner_member: bool,
}

impl Login {
    async fn find(client: &Client, role: Role, user: &str) -> Result<Self> {
        let doing = "looking for the login";
        let made =
            client.query_one("SELECT to_regrole($1::text) IS NOT NULL", &[&role.name()]).await.map_err(|e| Error::database(doing, e))?;
        if !made.get::<_, bool>(0) {
            return Err(Error::new(
                ErrorKind::Refused,
                format!("there is no role {role} on this server yet; as somebody with CREATEROLE run: hitherto migrate"),
            ));
        }
        let row = client
            .query_opt(
                "-- login_find
                 SELECT u.rolsuper, u.rolcanlogin, has_database_privilege(u.oid, current_database(), 'CONNECT'), current_database()::text,
                        o.rolname::text, o.rolsuper, u.oid = o.oid,
                        EXISTS (SELECT FROM pg_auth_members m WHERE m.roleid = o.oid AND m.member = u.oid)
                 FROM pg_roles u, pg_namespace n JOIN pg_roles o ON o.oid = n.nspowner WHERE n.nspname = 'hitherto' AND u.rolname = $1::text",
                &[&user],
            )
            .await
            .map_err(|e| Error::database(doing, e))?
            .ok_or_else(|| {
                Error::new(
                    ErrorKind::NotFound,
                    format!("the server knows no login '{user}'; names are taken as they are, capitals and all. Make it first: CREATE ROLE ... LOGIN PASSWORD ..."),
                )
            })?;
        Ok(Self {
            superuser: row.get(0),
            can_login: row.get(1),
            may_connect: row.get(2),
            database: row.get(3),
            schema_owner: row.get(4),
            schema_owner_is_superuser: row.get(5),
            is_schema_owner: row.get(6),
            is_schema_owner_member: row.get(7),
        })
    }
}

/// Runs a statement whose identifiers the server itself quotes.
async fn execute(client: &Client, doing: &str, form: &str, names: &[&str]) -> Result<()> {
    let row =
        client.query_one("SELECT format($1::text, VARIADIC $2::text[])", &[&form, &names]).await.map_err(|e| Error::database(doing, e))?;
    client.batch_execute(row.get(0)).await.map_err(|e| Error::database(doing, e))
}

//! Who belongs to which role.

use serde::Serialize;

use super::Store;
use super::ask::Asking;
use crate::error::{Error, ErrorKind, Result};
use crate::migrate::Role;
use crate::migrate::role;

/// What a login may do from now on, or no more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Granted {
    /// The role that was given or taken.
    pub role: Role,
    /// Whom to, or from.
    pub user: String,
    /// The roles of this store whose privileges they have now, whichever way.
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
    /// `NotFound` for a login that the server does not know, `Refused` when the role was not made, this session may
    /// not grant it, or the login does not get what the role may do all the same.
    pub async fn role_grant(&self, role: Role, user: &str) -> Result<Granted> {
        let mut asking = self.asking().await?;
        let login = Login::find(&mut asking, role, user).await?;
        let doing = format!("granting {role} to '{user}'");
        execute(&mut asking, &doing, "GRANT %I TO %I", &[role.name(), user]).await?;
        let mut notes = Vec::new();
        if !login.may_connect {
            let database = self.config().database().unwrap_or_default();
            match execute(&mut asking, &doing, "GRANT CONNECT ON DATABASE %I TO %I", &[&login.database, user]).await {
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
                let granted = match execute(&mut asking, &doing, "GRANT %I TO %I", &[&login.schema_owner, user]).await {
                    Ok(()) => Membership::find(&mut asking, &login.schema_owner, user).await?.require_granted(&login.schema_owner, user),
                    Err(error) => Err(error),
                };
                notes.push(match granted {
                    Ok(()) => format!("is in {} now, which owns the schema: may migrate, maintain and set retention", login.schema_owner),
                    Err(error) => {
                        format!("migrate, maintain and retention set are for {}, which owns the schema; {error}", login.schema_owner)
                    }
                });
            }
        }
        Membership::find(&mut asking, role.name(), user).await?.require_granted(role.name(), user)?;
        granted(&mut asking, role, user, notes).await
    }

    /// Takes a login out of a role.
    ///
    /// # Errors
    /// As [`Store::role_grant`]; `Refused` also where it has the role still: others granted it, too, or a role that it is in.
    pub async fn role_revoke(&self, role: Role, user: &str) -> Result<Granted> {
        let mut asking = self.asking().await?;
        let login = Login::find(&mut asking, role, user).await?;
        let doing = format!("revoking {role} from '{user}'");
        execute(&mut asking, &doing, "REVOKE %I FROM %I", &[role.name(), user]).await?;
        let mut notes = Vec::new();
        if role == Role::Owner && login.is_schema_owner_member && !login.is_schema_owner {
            execute(&mut asking, &doing, "REVOKE %I FROM %I", &[&login.schema_owner, user]).await?;
            Membership::find(&mut asking, &login.schema_owner, user).await?.require_revoked(&login.schema_owner, user)?;
            notes.push(format!("is no more in {}, which owns the schema", login.schema_owner));
        }
        if login.superuser {
            notes.push("is a superuser: no role holds it back".to_owned());
        }
        Membership::find(&mut asking, role.name(), user).await?.require_revoked(role.name(), user)?;
        granted(&mut asking, role, user, notes).await
    }

    /// What is wrong with the roles and their privileges, each with what to do about it.
    ///
    /// # Errors
    /// Whatever the database answers.
    pub async fn role_flaws(&self) -> Result<Vec<String>> {
        let row = self.asking().await?.query_one(role::FLAWS, &[&Role::names()]).await;
        Ok(role::flaws(&row.map_err(|e| Error::unanswered("looking at privileges", e))?))
    }
}

async fn granted(asking: &mut Asking, role: Role, user: &str, notes: Vec<String>) -> Result<Granted> {
    let rows = asking
        .query(
            "-- role_of
             SELECT r.rolname::text FROM pg_roles r, pg_roles u
             WHERE u.rolname = $1::text AND r.rolname = ANY ($2::text[]) AND pg_has_role(u.oid, r.oid, 'USAGE')",
            &[&user, &Role::names()],
        )
        .await
        .map_err(|e| Error::unanswered("looking at who has which role", e))?;
    let has: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    let roles = Role::ALL.into_iter().filter(|role| has.iter().any(|name| name == role.name())).collect();
    Ok(Granted { role, user: user.to_owned(), roles, notes })
}

/// How a login has a role, and the statements that change it, with the server's own quotes.
struct Membership {
    superuser: bool,
    /// What the role may do, the login may do by itself.
    uses: bool,
    /// Take it out: one for each who put it in.
    direct: Vec<String>,
    /// Take it out of other roles that are in this one.
    through: Vec<String>,
    grant: String,
    inherit: String,
}

impl Membership {
    async fn find(asking: &mut Asking, role: &str, user: &str) -> Result<Self> {
        let row = asking
            .query_one(
                "-- role_membership
                 WITH member AS (
                     SELECT * FROM pg_auth_members m
                     -- Since 16 a membership may be good for nothing but granting it.
                     WHERE coalesce((to_jsonb(m) ->> 'inherit_option')::boolean, true) OR coalesce((to_jsonb(m) ->> 'set_option')::boolean, true)
                 )
                 SELECT u.rolsuper, pg_has_role(u.oid, r.oid, 'USAGE'),
                        ARRAY(SELECT format('REVOKE %I FROM %I', r.rolname, u.rolname) || CASE WHEN v.is_16 THEN format(' GRANTED BY %I', g.rolname) ELSE '' END
                              FROM member m LEFT JOIN pg_roles g ON g.oid = m.grantor WHERE m.roleid = r.oid AND m.member = u.oid ORDER BY 1),
                        ARRAY(SELECT DISTINCT format('REVOKE %I FROM %I', w.rolname, u.rolname) FROM member m JOIN pg_roles w ON w.oid = m.roleid
                              WHERE m.member = u.oid AND w.oid <> r.oid AND pg_has_role(w.oid, r.oid, CASE WHEN v.is_16 THEN 'USAGE, SET' ELSE 'MEMBER' END) ORDER BY 1),
                        format('GRANT %I TO %I', r.rolname, u.rolname),
                        CASE WHEN v.is_16 THEN format('GRANT %I TO %I WITH INHERIT TRUE', r.rolname, u.rolname) ELSE format('ALTER ROLE %I INHERIT', u.rolname) END
                 FROM pg_roles r, pg_roles u, (SELECT current_setting('server_version_num')::int >= 160000 AS is_16) v
                 WHERE r.rolname = $1::text AND u.rolname = $2::text",
                &[&role, &user],
            )
            .await
            .map_err(|e| Error::unanswered("looking at who has which role", e))?;
        Ok(Self {
            superuser: row.get(0),
            uses: row.get(1),
            direct: row.get(2),
            through: row.get(3),
            grant: row.get(4),
            inherit: row.get(5),
        })
    }

    fn require_granted(&self, role: &str, user: &str) -> Result<()> {
        if self.direct.is_empty() {
            let text = format!("the server took the statement, but {user} is not in {role}; run as a superuser: {}", self.grant);
            return Err(Error::new(ErrorKind::Refused, text));
        }
        if !self.uses {
            let text =
                format!("{user} is in {role}, but does not inherit what it may do; run: {}; or let it SET ROLE {role}", self.inherit);
            return Err(Error::new(ErrorKind::Refused, text));
        }
        Ok(())
    }

    fn require_revoked(&self, role: &str, user: &str) -> Result<()> {
        let text = match (self.direct.as_slice(), self.through.as_slice()) {
            ([], []) => return Ok(()),
            // It may do everything anyway.
            ([], _) if self.superuser => return Ok(()),
            ([], through) => format!("{user} still has {role}, through other roles; run: {}", through.join("; ")),
            (direct, _) => {
                format!("{user} is still in {role}, for others granted it, too; run as they or as a superuser: {}", direct.join("; "))
            }
        };
        Err(Error::new(ErrorKind::Refused, text))
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
    async fn find(asking: &mut Asking, role: Role, user: &str) -> Result<Self> {
        let doing = "looking for the login";
        let made = asking.query_one("SELECT to_regrole($1::text) IS NOT NULL", &[&role.name()]).await;
        let made = made.map_err(|e| Error::unanswered(doing, e))?;
        if !made.get::<_, bool>(0) {
            return Err(Error::new(
                ErrorKind::Refused,
                format!("there is no role {role} on this server yet; as somebody with CREATEROLE run: hitherto migrate"),
            ));
        }
        let row = asking
            .query_opt(
                "-- login_find
                 SELECT u.rolsuper, u.rolcanlogin, has_database_privilege(u.oid, current_database(), 'CONNECT'), current_database()::text,
                        o.rolname::text, o.rolsuper, u.oid = o.oid,
                        EXISTS (SELECT FROM pg_auth_members m WHERE m.roleid = o.oid AND m.member = u.oid)
                 FROM pg_roles u, pg_namespace n JOIN pg_roles o ON o.oid = n.nspowner WHERE n.nspname = 'hitherto' AND u.rolname = $1::text",
                &[&user],
            )
            .await
            .map_err(|e| Error::unanswered(doing, e))?
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
async fn execute(asking: &mut Asking, doing: &str, form: &str, names: &[&str]) -> Result<()> {
    let row = asking.query_one("SELECT format($1::text, VARIADIC $2::text[])", &[&form, &names]).await;
    let row = row.map_err(|e| Error::unanswered(doing, e))?;
    asking.execute(row.get(0), &[]).await.map(|_| ()).map_err(|e| Error::unanswered(doing, e))
}

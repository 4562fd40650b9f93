//! What each role may do, tried.

mod forge;
mod grant;
mod owner;
mod work;

use hitherto::Config;
use tokio_postgres::{Client, SimpleQueryMessage};

use crate::harness::{self, Db};

const ROLES: [&str; 4] = ["hitherto_owner", "hitherto_writer", "hitherto_analyst", "hitherto_exporter"];

/// Tables of records that a writer writes.
const RECORDS: [&str; 9] = [
    "module",
    "module_execution",
    "health_check",
    "signal",
    "regime_state",
    "proposal",
    "risk_evaluation",
    "order_event",
    "portfolio_snapshot",
];

const WRITERS: [&str; 16] = [
    "module_ensure",
    "module_store",
    "regime_state_store",
    "proposal_store",
    "risk_evaluation_store",
    "order_event_store",
    "regime_state_conflicts",
    "proposal_conflicts",
    "risk_evaluation_conflicts",
    "order_event_conflicts",
    "order_event_differing",
    "execution_report_fold",
    "batch_find",
    "batch_refused",
    "batches_known",
    "batches_between",
];

const READERS: [&str; 16] = [
    "latency_percentile",
    "aggregate_watermark",
    "aggregate_touched",
    "module_heard",
    "silent_after",
    "order_event_rank",
    "divide_half_even",
    "max_drawdown",
    "max_drawdown_step",
    "max_drawdown_final",
    "legacy_execution_shown",
    "module_execution_live",
    "health_check_live",
    "risk_verdict_live",
    "portfolio_value_live",
    "module_latency_live",
];

const OWNERS: [&str; 7] =
    ["regime_decide", "regime_expire", "retention_due", "role_names", "record_tables", "role_wanted", "role_difference"];

/// Tables, views and sequences.
struct Relation {
    schema: String,
    name: String,
    /// r table, v view, S sequence.
    kind: char,
    /// A column that an UPDATE may name.
    column: String,
}

impl Relation {
    fn full(&self) -> String {
        format!("\"{}\".\"{}\"", self.schema, self.name)
    }

    fn is_columnstore(&self) -> bool {
        self.name.starts_with("_compressed_hypertable_") || self.name.starts_with("compress_hyper_")
    }

    /// Whether the role may, by docs/roles.md. `column` of module and regime_rule is one that is the owner's to set.
    fn allows(&self, role: &str, verb: &str) -> bool {
        let (ours, name) = (self.schema == "hitherto", self.name.as_str());
        let (owner, writer, analyst, exporter) =
            (role == "hitherto_owner", role == "hitherto_writer", role == "hitherto_analyst", role == "hitherto_exporter");
        let written = ours && (RECORDS.contains(&name) || ["ingest_batch", "quarantine"].contains(&name));
        match (verb, self.kind) {
            ("nextval", 'S') => name.ends_with("_legacy_id") || owner && name == "module_module_id_seq",
            ("setval", 'S') => false,
            ("SELECT", 'S') => false,
            ("SELECT", _) if owner || ours && name == "schema_migration" => true,
            ("SELECT", 'v') => analyst || exporter && ours && name == "retention_policy",
            ("SELECT", _) if analyst => {
                RECORDS.contains(&name)
                    || [
                        "execution_report",
                        "regime_event",
                        "regime_rule",
                        "aggregate",
                        "ingest_batch",
                        "legacy_execution_base",
                        "module_latency_hour_kept",
                    ]
                    .contains(&name)
            }
            ("SELECT", _) => exporter && !name.starts_with("legacy") && !name.ends_with("_kept"),
            ("INSERT" | "UPDATE" | "DELETE", 'v') if self.schema == "legacy" => owner,
            ("INSERT", 'r') => {
                (owner || writer) && written || owner && ["quarantine_resolution", "audit_block", "audit_entry"].contains(&name)
            }
            ("UPDATE", 'r') => owner && ["module", "regime_rule"].contains(&name),
            _ => false,
        }
    }

    /// What is tried; it changes nothing, even where it is allowed.
    fn statement(&self, verb: &str) -> Option<String> {
        let name = self.full();
        Some(match (verb, self.kind) {
            ("SELECT", 'S') => format!("SELECT last_value FROM {name}"),
            ("SELECT", _) => format!("SELECT * FROM {name} LIMIT 0"),
            ("nextval", 'S') => format!("SELECT nextval('{name}')"),
            ("setval", 'S') => format!("SELECT setval('{name}', 1000000)"),
            ("nextval" | "setval", _) | (_, 'S') => return None,
            ("UPDATE", _) if self.column.is_empty() => return None,
            ("INSERT", _) => format!("INSERT INTO {name} DEFAULT VALUES"),
            ("UPDATE", _) => format!("UPDATE {name} SET \"{}\" = DEFAULT WHERE false", self.column),
            ("DELETE", _) => format!("DELETE FROM {name} WHERE false"),
            ("TRUNCATE", 'r') => format!("TRUNCATE {name} CASCADE"),
            ("LOCK", 'r') => format!("LOCK TABLE {name} IN ACCESS EXCLUSIVE MODE"),
            ("TRIGGER", 'r') => {
                format!("CREATE TRIGGER mine BEFORE INSERT ON {name} FOR EACH ROW EXECUTE FUNCTION hitherto.append_only('x')")
            }
            ("DROP", 'r') => format!("DROP TABLE {name} CASCADE"),
            _ => return None,
        })
    }
}

async fn relations(client: &Client, schemas: &[&str]) -> Vec<Relation> {
    let rows = client
        .query(
            "SELECT n.nspname::text, c.relname::text, CASE c.relkind WHEN 'p' THEN 'r' ELSE c.relkind END::text,
                    CASE c.relname WHEN 'module' THEN 'status' WHEN 'regime_rule' THEN 'confirm_below'
                         ELSE coalesce((SELECT min(a.attname::text) FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped), '') END
             FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = ANY ($1) AND c.relkind IN ('r', 'p', 'v', 'S') ORDER BY 1, 2",
            &[&schemas],
        )
        .await
        .unwrap();
    rows.iter()
        .map(|row| Relation {
            schema: row.get(0),
            name: row.get(1),
            kind: row.get::<_, String>(2).chars().next().unwrap(),
            column: row.get(3),
        })
        .collect()
}

/// Name, whether it is TimescaleDB's, and how to call it with NULLs; none where its arguments can't be written down.
struct Routine {
    name: String,
    timescaledb: bool,
    call: String,
}

async fn routines(client: &Client) -> Vec<Routine> {
    let rows = client
        .query(
            "SELECT p.proname::text, e.oid IS NOT NULL,
                    CASE WHEN p.prokind = 'p' THEN format('CALL %I.%I(%s)', n.nspname, p.proname, regexp_replace(a.nulls, ' AS a[0-9]+', '', 'g'))
                         WHEN p.pronargs = 0 THEN format('SELECT %I.%I()', n.nspname, p.proname)
                         -- A function of NULLs that are written out may never be called.
                         ELSE format('SELECT %I.%I(%s) FROM (SELECT %s OFFSET 0) AS v', n.nspname, p.proname, a.names, a.nulls) END
             FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
             CROSS JOIN LATERAL (
                 SELECT string_agg(format('NULL::%s AS a%s', CASE WHEN t::regtype::text LIKE 'any%array' THEN 'bigint[]' WHEN t::regtype::text LIKE 'any%' THEN 'bigint' ELSE t::regtype::text END, o), ', ' ORDER BY o),
                        string_agg(CASE WHEN p.provariadic <> 0 AND o = p.pronargs THEN 'VARIADIC ' ELSE '' END || 'a' || o, ', ' ORDER BY o) FROM unnest(p.proargtypes) WITH ORDINALITY AS a (t, o)) AS a (nulls, names)
             LEFT JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e' AND d.refclassid = 'pg_extension'::regclass
             LEFT JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'timescaledb'
             WHERE (n.nspname IN ('hitherto', 'legacy') OR e.oid IS NOT NULL)
               AND NOT EXISTS (SELECT FROM unnest(p.proargtypes) AS a (t) JOIN pg_type y ON y.oid = t WHERE y.typtype = 'p' AND y.typname NOT LIKE 'any%')
             ORDER BY 3",
            &[],
        )
        .await
        .unwrap();
    rows.iter().map(|row| Routine { name: row.get(0), timescaledb: row.get(1), call: row.get(2) }).collect()
}

/// TimescaleDB's routines that schedule, that reach for chunks or that stop the server's work.
fn is_dangerous(name: &str) -> bool {
    let words = [
        "job",
        "policy",
        "policies",
        "compress_chunk",
        "drop",
        "refresh_continuous",
        "background_workers",
        "_restore",
        "columnstore",
        "rowstore",
    ];
    let chunks = [
        "show_chunks",
        "move_chunk",
        "reorder_chunk",
        "merge_chunks",
        "split_chunk",
        "attach_chunk",
        "detach_chunk",
        "create_chunk",
        "freeze_chunk",
    ];
    // Types' own functions, and what the planner or a trigger calls.
    (words.iter().any(|word| name.contains(word)) || chunks.iter().any(|word| name.contains(word)))
        && !["process_ddl_event", "chunk_columnstore_stats", "hypertable_columnstore_stats"].contains(&name)
}

/// The SQLSTATE of a statement that is undone; none when it succeeds.
async fn attempt(client: &Client, statement: &str) -> Option<String> {
    let result: Result<Vec<SimpleQueryMessage>, _> = client.simple_query(&format!("SAVEPOINT attempt; {statement}")).await;
    let code = result.err().map(|e| e.code().map_or_else(|| panic!("{statement}: {e}"), |code| code.code().to_owned()));
    client.batch_execute("ROLLBACK TO SAVEPOINT attempt").await.unwrap();
    code
}

/// A login in a role.
async fn login(client: &Client, role: &str) -> String {
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let name = format!("login_{}_{}", std::process::id(), NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
    client.batch_execute(&format!("CREATE ROLE {name} LOGIN; GRANT {role} TO {name}")).await.unwrap();
    name
}

/// The same database as another login; none where the engine knows one alone.
fn as_login(db: &Db, name: &str) -> Option<Config> {
    let url = match db.name {
        "embedded" => return None,
        "HITHERTO_TEST_DATABASE_URL" => {
            let url = std::env::var("HITHERTO_TEST_DATABASE_URL").unwrap();
            let (scheme, rest) = url.split_once("://").unwrap();
            format!("{scheme}://{name}@{}", rest.split_once('@').map_or(rest, |(_, host)| host))
        }
        _ => db.url().unwrap().replace("postgres@", &format!("{name}@")),
    };
    Some(Config::from_url(&url).unwrap().with_database(db.config.database().unwrap()))
}

#[tokio::test]
async fn every_role_is_held_to_what_it_may_do_with_every_object() {
    for db in harness::all().await {
        db.store.client().await.unwrap().batch_execute("SELECT hitherto.module_ensure(ARRAY['m'])").await.unwrap();
        db.store.client().await.unwrap().batch_execute(
            "INSERT INTO hitherto.health_check (checked_at, module_id, status, batch_id)
             SELECT now() - days * INTERVAL '1 day', module_id, 'healthy', gen_random_uuid() FROM hitherto.module, unnest(ARRAY[0, 60]) AS days",
        ).await.unwrap();
        let timescaledb = db.store.capabilities().engine == hitherto::Engine::Timescaledb;
        drop(db.store);
        let client = db.config.connect().await.unwrap();
        // Made since the privileges were seen to.
        if timescaledb {
            client.batch_execute("SELECT compress_chunk(c) FROM show_chunks('hitherto.health_check') c").await.unwrap();
        }
        let (relations, routines) = (relations(&client, &["hitherto", "legacy"]).await, routines(&client).await);
        let inside = super_relations(&client).await;
        assert_eq!(timescaledb, inside.iter().any(|relation| relation.name.starts_with("compress_hyper_")), "{}", db.name);
        let mut wrong = Vec::new();
        for role in ROLES {
            let user = login(&client, role).await;
            client.batch_execute(&format!("BEGIN; SET LOCAL ROLE {user}; SET LOCAL statement_timeout = '20s'")).await.unwrap();
            for relation in &relations {
                for verb in ["SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "LOCK", "TRIGGER", "DROP", "nextval", "setval"] {
                    let Some(statement) = relation.statement(verb) else { continue };
                    let code = attempt(&client, &statement).await;
                    // A view that can't be written to says so before anybody asks for privileges.
                    let denied = code.as_deref() == Some("42501") || relation.kind == 'v' && code.as_deref() == Some("55000");
                    if denied == relation.allows(role, verb) {
                        wrong.push(format!("{role}: {statement}: {code:?}"));
                    }
                }
            }
            for routine in &routines {
                let name = routine.name.as_str();
                let allowed = match role {
                    _ if routine.timescaledb && is_dangerous(name) => false,
                    _ if routine.timescaledb => continue,
                    _ if routine.call.contains(" legacy.") => false,
                    "hitherto_owner" | "hitherto_exporter" if name == "time_index_summarize" => true,
                    "hitherto_owner" => WRITERS.contains(&name) || READERS.contains(&name) || OWNERS.contains(&name) || name == "role_open",
                    "hitherto_writer" => WRITERS.contains(&name),
                    "hitherto_analyst" => READERS.contains(&name),
                    _ => false,
                };
                let code = attempt(&client, &routine.call).await;
                // A trigger's function can't be called by anybody, and says so first.
                let denied = matches!(code.as_deref(), Some("42501"));
                if denied == allowed {
                    wrong.push(format!("{role}: {}: {code:?}", routine.call));
                }
            }
            for relation in &inside {
                let (chunk, columnstore) = (relation.name.starts_with("_hyper_"), relation.is_columnstore());
                for verb in ["SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "DROP"] {
                    // Whoever may read or write a hypertable may do so with its chunks; the columnstore, which has no triggers, is not
                    // for anybody to write to.
                    let reads = verb == "SELECT" && role != "hitherto_writer";
                    if (chunk || columnstore) && reads || chunk && verb == "INSERT" {
                        continue;
                    }
                    let Some(statement) = relation.statement(verb) else { continue };
                    let code = attempt(&client, &statement).await;
                    // TimescaleDB itself lets nobody read or write what is made of columnstore chunks alone, nor drop one of them.
                    let whole = columnstore && matches!(code.as_deref(), Some("0A000" | "XX000" | "XX001"));
                    if code.as_deref() != Some("42501") && !whole {
                        wrong.push(format!("{role}: {statement}: {code:?}"));
                    }
                }
            }
            for statement in ["CREATE TABLE hitherto.mine ()", "CREATE FUNCTION hitherto.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'"] {
                if attempt(&client, statement).await.as_deref() != Some("42501") {
                    wrong.push(format!("{role}: {statement}"));
                }
            }
            client.batch_execute(&format!("ROLLBACK; DROP OWNED BY {user}; DROP ROLE {user}")).await.unwrap();
        }
        assert!(wrong.is_empty(), "{}: {} wrong:\n{}", db.name, wrong.len(), wrong.join("\n"));
        assert!(relations.len() > 60 && routines.len() > 80, "{}: {} relations, {} routines", db.name, relations.len(), routines.len());
    }
}

/// TimescaleDB's catalogue, a chunk, and all of the columnstore.
async fn super_relations(client: &Client) -> Vec<Relation> {
    let mut inside = relations(client, &["_timescaledb_catalog", "_timescaledb_config"]).await;
    inside.retain(|relation| relation.kind == 'r');
    let (columnstore, mut chunks): (Vec<_>, Vec<_>) =
        relations(client, &["_timescaledb_internal"]).await.into_iter().partition(Relation::is_columnstore);
    chunks.retain(|relation| relation.name.starts_with("_hyper_"));
    inside.extend(columnstore.into_iter().chain(chunks.into_iter().take(2)));
    inside
}

-- What others were granted by hand is left alone: only the roles of this store and PUBLIC are looked at, and
-- only grants of the objects' owner, for nobody else's can be taken back. TimescaleDB hands a hypertable's grants on to its
-- columnstore, where no trigger and no constraint looks: what lets write there is taken back.
CREATE OR REPLACE FUNCTION hitherto.role_difference()
RETURNS TABLE (statement text) LANGUAGE sql STABLE AS $$
    WITH object AS (
        SELECT 'schema' AS kind, n.oid, 'SCHEMA ' || quote_ident(n.nspname) AS name, coalesce(n.nspacl, acldefault('n', n.nspowner)) AS acl, n.nspowner AS owner
        FROM pg_namespace n WHERE n.nspname IN ('hitherto', 'legacy')
        UNION ALL
        SELECT 'relation', c.oid, CASE c.relkind WHEN 'S' THEN 'SEQUENCE ' ELSE 'TABLE ' END || format('%I.%I', n.nspname, c.relname),
               coalesce(c.relacl, acldefault(CASE c.relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", c.relowner)), c.relowner
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname IN ('hitherto', 'legacy') AND c.relkind IN ('r', 'p', 'v', 'm', 'S')
        UNION ALL
        SELECT 'routine', p.oid, 'ROUTINE ' || p.oid::regprocedure, coalesce(p.proacl, acldefault('f', p.proowner)), p.proowner
        FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname IN ('hitherto', 'legacy')
        UNION ALL
        SELECT 'columnstore', c.oid, format('TABLE %I.%I', n.nspname, c.relname), coalesce(c.relacl, acldefault('r', c.relowner)), c.relowner
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_namespace h ON h.nspowner = c.relowner
        WHERE h.nspname = 'hitherto' AND n.nspname = '_timescaledb_internal' AND c.relkind = 'r' AND c.relname ~ '^(_compressed_hypertable|compress_hyper)_'
    ), grantee AS (
        SELECT r.oid, quote_ident(r.rolname) AS name FROM pg_roles r WHERE r.rolname = ANY (hitherto.role_names())
        UNION ALL
        SELECT 0, 'PUBLIC'
    ), granted AS (
        SELECT o.kind, o.oid, a.grantee, a.privilege_type AS privilege, NULL::name AS field
        FROM object o, aclexplode(o.acl) a WHERE a.grantor = o.owner AND (o.kind <> 'columnstore' OR a.privilege_type <> 'SELECT')
        UNION ALL
        SELECT o.kind, o.oid, a.grantee, a.privilege_type, t.attname
        FROM object o JOIN pg_attribute t ON o.kind = 'relation' AND t.attrelid = o.oid AND NOT t.attisdropped AND t.attacl IS NOT NULL
        CROSS JOIN LATERAL aclexplode(t.attacl) a WHERE a.grantor = o.owner
    ), wanted AS (
        SELECT w.kind, w.object, g.oid AS grantee, w.privilege, w.field FROM hitherto.role_wanted() w JOIN grantee g ON g.name = w.role
    ), step AS (
        SELECT 'REVOKE' AS verb, d.* FROM (SELECT g.* FROM granted g JOIN grantee e ON e.oid = g.grantee EXCEPT SELECT * FROM wanted) d
        UNION ALL
        SELECT 'GRANT', d.* FROM (SELECT * FROM wanted EXCEPT SELECT * FROM granted) d
    )
    SELECT format('%s %s%s ON %s %s %s', s.verb, s.privilege, ' (' || string_agg(quote_ident(s.field), ', ' ORDER BY s.field) || ')', o.name,
                  CASE s.verb WHEN 'GRANT' THEN 'TO' ELSE 'FROM' END, g.name)
    FROM step s JOIN object o ON o.kind = s.kind AND o.oid = s.oid JOIN grantee g ON g.oid = s.grantee
    GROUP BY s.verb, s.privilege, s.kind, o.name, g.name, s.field IS NULL
    ORDER BY s.verb DESC, o.name, g.name, s.privilege
$$;
COMMENT ON FUNCTION hitherto.role_difference() IS 'The statements that bring the roles'' privileges to what role_wanted says; none when they are there';

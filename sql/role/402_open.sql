-- TimescaleDB opens to everybody what schedules jobs, drops and reads chunks, and its catalogue. Here that is closed, but
-- for those who own hypertables in this database, this store's or others'. An upgrade of the extension opens it again.
CREATE OR REPLACE FUNCTION hitherto.role_open()
RETURNS TABLE (statement text) LANGUAGE sql STABLE AS $$
    WITH member AS (
        SELECT d.classid, d.objid FROM pg_extension e JOIN pg_depend d ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid AND d.deptype = 'e'
        WHERE e.extname = 'timescaledb'
    ), object AS (
        SELECT 'EXECUTE ON ROUTINE ' || p.oid::regprocedure AS what, coalesce(p.proacl, acldefault('f', p.proowner)) AS acl, 'EXECUTE' AS privilege
        FROM member m JOIN pg_proc p ON m.classid = 'pg_proc'::regclass AND m.objid = p.oid
        -- What TimescaleDB's own views are made of runs with the reader's rights.
        WHERE NOT EXISTS (SELECT FROM pg_depend v WHERE v.classid = 'pg_rewrite'::regclass AND v.refclassid = 'pg_proc'::regclass AND v.refobjid = p.oid)
          AND (p.prokind = 'p' OR p.provolatile = 'v' OR p.proname LIKE '%chunk%') AND p.prorettype NOT IN ('trigger'::regtype, 'event_trigger'::regtype)
          -- What only reads sizes, converts or shapes what a query has, and what is for the owner of a table anyway.
          AND p.proname NOT IN ('approximate_row_count', 'get_approx_row_count', 'hypertable_size', 'hypertable_index_size', 'hypertable_approximate_size',
              'hypertable_detailed_size', 'hypertable_approximate_detailed_size', 'hypertable_local_size', 'relation_size', 'relation_approximate_size',
              'time_bucket_gapfill', 'locf', 'interpolate', 'by_hash', 'by_range', 'generate_uuid', 'generate_uuidv7', 'to_uuidv7', 'time_to_internal',
              'interval_to_usec', 'to_unix_microseconds', 'to_timestamp', 'to_timestamp_without_timezone', 'to_date', 'to_interval', 'range_value_to_pretty',
              'subtract_integer_from_now', 'get_partition_for_key', 'get_partition_hash', 'cagg_watermark', 'cagg_watermark_materialized', 'tsl_loaded',
              'extension_state', 'get_git_commit', 'get_os_info', 'create_hypertable', 'add_dimension', 'set_chunk_time_interval', 'set_integer_now_func',
              'set_number_partitions', 'set_partitioning_interval', 'attach_tablespace', 'detach_tablespace', 'detach_tablespaces', 'show_tablespaces',
              'enable_chunk_skipping', 'disable_chunk_skipping')
        UNION ALL
        SELECT 'SELECT ON ' || c.oid::regclass, coalesce(c.relacl, acldefault(CASE c.relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", c.relowner)), 'SELECT'
        FROM member m JOIN pg_class c ON m.classid = 'pg_class'::regclass AND m.objid = c.oid JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname IN ('_timescaledb_catalog', '_timescaledb_config', '_timescaledb_internal', '_timescaledb_cache') AND c.relkind IN ('r', 'v', 'm')
    ), owner AS (
        SELECT r.oid, quote_ident(r.rolname) AS name FROM pg_roles r
        WHERE NOT r.rolsuper AND EXISTS (SELECT FROM member)
          AND (r.oid IN (SELECT n.nspowner FROM pg_namespace n WHERE n.nspname = 'hitherto')
               OR r.oid IN (SELECT c.relowner FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid WHERE t.tgname = 'ts_insert_blocker'))
    )
    SELECT format('GRANT %s TO %s', o.what, w.name) FROM object o, owner w
    WHERE NOT EXISTS (SELECT FROM aclexplode(o.acl) a WHERE a.grantee = w.oid AND a.privilege_type = o.privilege)
    UNION ALL
    SELECT format('REVOKE %s FROM PUBLIC', o.what) FROM object o
    WHERE EXISTS (SELECT FROM aclexplode(o.acl) a WHERE a.grantee = 0 AND a.privilege_type = o.privilege)
$$;
COMMENT ON FUNCTION hitherto.role_open() IS 'The statements that close to everybody what TimescaleDB opens: jobs, chunks, its catalogue; none when that is done';

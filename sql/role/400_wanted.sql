-- Who may do what, as data: replayed at every migrate, which grants and revokes what differs. docs/roles.md has
-- it as a table. Nobody else is given TRIGGER on a table: it is what tells the owner.

CREATE OR REPLACE FUNCTION hitherto.role_names()
RETURNS text[] LANGUAGE sql IMMUTABLE AS $$ SELECT ARRAY['hitherto_owner', 'hitherto_writer', 'hitherto_analyst', 'hitherto_exporter'] $$;
COMMENT ON FUNCTION hitherto.role_names() IS 'The roles that migrate makes';

-- The tables of what modules say, and those that follow from them alone.
CREATE OR REPLACE FUNCTION hitherto.record_tables()
RETURNS text[] LANGUAGE sql IMMUTABLE AS $$
    SELECT ARRAY['module', 'module_execution', 'health_check', 'signal', 'regime_state', 'proposal', 'risk_evaluation', 'order_event',
                 'execution_report', 'portfolio_snapshot']
$$;
COMMENT ON FUNCTION hitherto.record_tables() IS 'The tables of records, and execution_report, which is made of them';

CREATE OR REPLACE FUNCTION hitherto.role_wanted()
RETURNS TABLE (role text, kind text, object oid, privilege text, field name) LANGUAGE sql STABLE AS $$
    WITH relation AS (
        SELECT c.oid, c.relname::text AS name, n.nspname::text AS schema, c.relkind
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname IN ('hitherto', 'legacy') AND c.relkind IN ('r', 'p', 'v', 'm', 'S')
    ), inserted (table_name, field) AS (
        -- TimescaleDB hands a column's grant on to the columnstore, which has no such column: of a hypertable it is all or none.
        SELECT DISTINCT r.name, CASE WHEN r.name NOT IN ('module_execution', 'health_check', 'signal', 'risk_evaluation', 'order_event', 'portfolio_snapshot')
                                     THEN a.attname END
        FROM relation r JOIN pg_attribute a ON a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attidentity = ''
        WHERE r.schema = 'hitherto'
          AND (r.name = ANY (hitherto.record_tables()) AND r.name <> 'execution_report' OR r.name IN ('ingest_batch', 'quarantine'))
          -- What follows by itself (ids, times of recording, the workflow's own marks) is nobody's to give.
          AND a.attname NOT IN ('legacy_id', 'legacy', 'confirmed', 'first_confirmed_by', 'registered_at', 'updated_at', 'xid', 'committed_at', 'quarantined_at')
    )
    SELECT r.role, 'schema', s.oid, 'USAGE', NULL::name
    FROM unnest(hitherto.role_names()) AS r (role), pg_namespace s
    WHERE s.nspname = 'hitherto' OR s.nspname = 'legacy' AND r.role IN ('hitherto_owner', 'hitherto_analyst')
    UNION ALL
    -- Which program fits the schema.
    SELECT r.role, 'relation', c.oid, 'SELECT', NULL
    FROM unnest(hitherto.role_names()) AS r (role), relation c WHERE c.schema = 'hitherto' AND c.name = 'schema_migration' AND r.role IN ('hitherto_writer', 'hitherto_analyst')
    UNION ALL
    SELECT 'hitherto_owner', 'relation', c.oid, 'SELECT', NULL FROM relation c WHERE c.relkind <> 'S'
    UNION ALL
    SELECT 'hitherto_exporter', 'relation', c.oid, 'SELECT', NULL
    FROM relation c WHERE c.schema = 'hitherto' AND c.relkind IN ('r', 'p') AND c.name NOT LIKE 'legacy%' AND c.name NOT LIKE '%\_kept'
                       OR c.schema = 'hitherto' AND c.name = 'retention_policy'
    UNION ALL
    -- Views read with their owner's rights; functions in them, and aggregates that are computed when read, with the reader's.
    SELECT 'hitherto_analyst', 'relation', c.oid, 'SELECT', NULL
    FROM relation c
    WHERE c.relkind IN ('v', 'm')
       OR c.schema = 'hitherto' AND (c.name = ANY (hitherto.record_tables())
                                     OR c.name IN ('regime_event', 'regime_rule', 'aggregate', 'ingest_batch', 'legacy_execution_base', 'module_latency_hour_kept'))
    UNION ALL
    SELECT r.role, 'relation', c.oid, 'INSERT', i.field
    FROM unnest(ARRAY['hitherto_writer', 'hitherto_owner']) AS r (role), relation c JOIN inserted i ON i.table_name = c.name
    WHERE c.schema = 'hitherto'
    UNION ALL
    -- Whoever may INSERT may take a number.
    SELECT 'PUBLIC', 'relation', c.oid, 'USAGE', NULL FROM relation c WHERE c.relkind = 'S' AND c.name LIKE '%\_legacy\_id'
    UNION ALL
    SELECT 'hitherto_owner', 'relation', c.oid, 'USAGE', NULL FROM relation c WHERE c.relkind = 'S' AND c.name = 'module_module_id_seq'
    UNION ALL
    SELECT 'hitherto_owner', 'relation', c.oid, w.privilege, w.field
    FROM relation c JOIN (VALUES
        ('module', 'UPDATE', ARRAY['status', 'error_message', 'updated_at']),
        ('regime_rule', 'UPDATE', ARRAY['confirm_below', 'confirm_crisis', 'crisis_deciders']),
        ('quarantine_resolution', 'INSERT', ARRAY['quarantine_id', 'resolution', 'batch_id', 'resolved_by', 'reason']),
        ('audit_block', 'INSERT', ARRAY['block_number', 'sealed_at', 'entry_count', 'retention', 'previous_hash', 'hash']),
        ('audit_entry', 'INSERT', ARRAY['source', 'key', 'block_number', 'hash'])) AS e (table_name, privilege, fields) ON e.table_name = c.name
    CROSS JOIN LATERAL (SELECT e.privilege, f.field FROM unnest(e.fields) AS f (field)) AS w
    WHERE c.schema = 'hitherto'
    UNION ALL
    -- Old code reads and writes as it always did.
    SELECT 'hitherto_owner', 'relation', c.oid, w.privilege, NULL
    FROM relation c, unnest(ARRAY['INSERT', 'UPDATE', 'DELETE']) AS w (privilege) WHERE c.schema = 'legacy' AND c.relkind = 'v'
    UNION ALL
    SELECT r.role, 'routine', p.oid, 'EXECUTE', NULL
    FROM (VALUES
        (ARRAY['hitherto_writer', 'hitherto_owner'], ARRAY[
            'module_ensure', 'module_store', 'regime_state_store', 'proposal_store', 'risk_evaluation_store', 'order_event_store',
            'regime_state_conflicts', 'proposal_conflicts', 'risk_evaluation_conflicts', 'order_event_conflicts', 'order_event_differing',
            'execution_report_fold', 'batch_find', 'batch_refused', 'batches_known', 'batches_between']),
        (ARRAY['hitherto_analyst', 'hitherto_owner'], ARRAY[
            'latency_percentile', 'aggregate_watermark', 'aggregate_touched', 'module_heard', 'silent_after', 'order_event_rank', 'divide_half_even',
            'max_drawdown', 'max_drawdown_step', 'max_drawdown_final', 'legacy_execution_shown',
            'module_execution_live', 'health_check_live', 'risk_verdict_live', 'portfolio_value_live', 'module_latency_live']),
        (ARRAY['hitherto_exporter', 'hitherto_owner'], ARRAY['time_index_summarize']),
        (ARRAY['hitherto_owner'], ARRAY[
            'regime_decide', 'regime_expire', 'retention_due', 'role_names', 'record_tables', 'role_wanted', 'role_difference', 'role_open'])
    ) AS e (roles, names)
    CROSS JOIN LATERAL unnest(e.roles) AS r (role)
    JOIN pg_proc p ON p.pronamespace = 'hitherto'::regnamespace AND p.proname::text = ANY (e.names)
$$;
COMMENT ON FUNCTION hitherto.role_wanted() IS 'What each role may do with what is in the schemas hitherto and legacy; field: the column, where not all of them';

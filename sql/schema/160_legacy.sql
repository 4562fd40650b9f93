-- What the schema legacy stands on. Its views and triggers are in sql/legacy, replayed at every migrate.
CREATE SCHEMA legacy;
COMMENT ON SCHEMA legacy IS 'The tables of the system that this store replaces, as views: its code runs unchanged with this schema first in search_path';

-- The old tables' integer keys. The writers name their columns, so the default numbers whatever they store.
CREATE SEQUENCE hitherto.health_check_legacy_id CACHE 32;
CREATE SEQUENCE hitherto.risk_evaluation_legacy_id;
CREATE SEQUENCE hitherto.portfolio_snapshot_legacy_id CACHE 32;
CREATE SEQUENCE hitherto.execution_report_legacy_id;
CREATE SEQUENCE hitherto.regime_state_legacy_id;

ALTER TABLE hitherto.execution_report ADD COLUMN legacy_id bigint NOT NULL DEFAULT nextval('hitherto.execution_report_legacy_id');
ALTER TABLE hitherto.regime_state ADD COLUMN legacy_id bigint NOT NULL DEFAULT nextval('hitherto.regime_state_legacy_id');
-- A hypertable with columnstore takes a new column only without a default.
ALTER TABLE hitherto.health_check ADD COLUMN legacy_id bigint;
ALTER TABLE hitherto.health_check ALTER COLUMN legacy_id SET DEFAULT nextval('hitherto.health_check_legacy_id');
ALTER TABLE hitherto.risk_evaluation ADD COLUMN legacy_id bigint;
ALTER TABLE hitherto.risk_evaluation ALTER COLUMN legacy_id SET DEFAULT nextval('hitherto.risk_evaluation_legacy_id');
ALTER TABLE hitherto.portfolio_snapshot ADD COLUMN legacy_id bigint;
ALTER TABLE hitherto.portfolio_snapshot ALTER COLUMN legacy_id SET DEFAULT nextval('hitherto.portfolio_snapshot_legacy_id');

-- Rows that are there already get their number, too. It is no part of what was recorded (canonical_row
-- leaves it out), so the append-only trigger stands aside for it: taken off and put back, for a hypertable
-- with columnstore can't disable one.
SET LOCAL timescaledb.max_tuples_decompressed_per_dml_transaction = 0;
DO $$
DECLARE
    name text;
    guard text;
BEGIN
    FOREACH name IN ARRAY ARRAY['health_check', 'risk_evaluation', 'portfolio_snapshot'] LOOP
        guard := (SELECT pg_get_triggerdef(t.oid) FROM pg_trigger t WHERE t.tgrelid = format('hitherto.%I', name)::regclass AND t.tgname = name || '_no_update');
        IF guard IS NOT NULL THEN
            EXECUTE format('DROP TRIGGER %I ON hitherto.%I', name || '_no_update', name);
        END IF;
        EXECUTE format('UPDATE hitherto.%I SET legacy_id = nextval(%L) WHERE legacy_id IS NULL', name, 'hitherto.' || name || '_legacy_id');
        IF guard IS NOT NULL THEN
            EXECUTE guard;
        END IF;
    END LOOP;
END
$$;

-- Whoever may INSERT may take a number.
GRANT USAGE ON SEQUENCE hitherto.health_check_legacy_id, hitherto.risk_evaluation_legacy_id, hitherto.portfolio_snapshot_legacy_id,
    hitherto.execution_report_legacy_id, hitherto.regime_state_legacy_id TO PUBLIC;

-- SELECT ... WHERE id = N. Ids go up as rows come, so that a range a few pages finds one; a B-tree would take a
-- third of the speed of COPY from everybody who writes health checks.
CREATE INDEX health_check_legacy_id_idx ON hitherto.health_check USING brin (legacy_id) WITH (pages_per_range = 32, autosummarize = on);
-- In the columnstore TimescaleDB makes a filter of its own of these two.
CREATE INDEX risk_evaluation_legacy_id_idx ON hitherto.risk_evaluation (legacy_id);
CREATE INDEX portfolio_snapshot_legacy_id_idx ON hitherto.portfolio_snapshot (legacy_id);
CREATE UNIQUE INDEX execution_report_legacy_id_unique ON hitherto.execution_report (legacy_id);
CREATE UNIQUE INDEX regime_state_legacy_id_unique ON hitherto.regime_state (legacy_id);
COMMENT ON COLUMN hitherto.health_check.legacy_id IS 'The row''s id in legacy.module_health_checks';
COMMENT ON COLUMN hitherto.risk_evaluation.legacy_id IS 'The row''s id in legacy.risk_evaluations';
COMMENT ON COLUMN hitherto.portfolio_snapshot.legacy_id IS 'The row''s id in legacy.portfolio_snapshots';
COMMENT ON COLUMN hitherto.execution_report.legacy_id IS 'The row''s id in legacy.execution_reports';
COMMENT ON COLUMN hitherto.regime_state.legacy_id IS 'The row''s id in legacy.regime_states';
COMMENT ON SEQUENCE hitherto.health_check_legacy_id IS 'Numbers rows for legacy.module_health_checks';
COMMENT ON SEQUENCE hitherto.risk_evaluation_legacy_id IS 'Numbers rows for legacy.risk_evaluations';
COMMENT ON SEQUENCE hitherto.portfolio_snapshot_legacy_id IS 'Numbers rows for legacy.portfolio_snapshots';
COMMENT ON SEQUENCE hitherto.execution_report_legacy_id IS 'Numbers rows for legacy.execution_reports';
COMMENT ON SEQUENCE hitherto.regime_state_legacy_id IS 'Numbers rows for legacy.regime_states';

CREATE TABLE hitherto.legacy_tombstone (
    table_name     text        NOT NULL CONSTRAINT legacy_tombstone_table_name_known CHECK
                               (table_name IN ('health_check', 'risk_evaluation', 'portfolio_snapshot', 'execution_report', 'regime_state')),
    legacy_id      bigint      NOT NULL,
    kept_batch_id  uuid,
    row_at         timestamptz NOT NULL,
    hidden_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT legacy_tombstone_pkey PRIMARY KEY (table_name, legacy_id)
);
COMMENT ON TABLE hitherto.legacy_tombstone IS
    'What old code deleted or updated: the records stay as they were recorded until retention drops them, and the schema legacy does not show them';
COMMENT ON COLUMN hitherto.legacy_tombstone.table_name IS 'Table that holds the rows';
COMMENT ON COLUMN hitherto.legacy_tombstone.legacy_id IS 'Their legacy_id';
COMMENT ON COLUMN hitherto.legacy_tombstone.kept_batch_id IS 'Of the rows with this legacy_id the one of this batch is shown (an UPDATE stored it); NULL: none, it was deleted';
COMMENT ON COLUMN hitherto.legacy_tombstone.row_at IS 'The hidden row''s own time';
COMMENT ON COLUMN hitherto.legacy_tombstone.hidden_at IS 'When old code deleted or updated it';

CREATE TABLE hitherto.legacy_execution_base (
    module_id        bigint           NOT NULL CONSTRAINT legacy_execution_base_module_id_fkey REFERENCES hitherto.module,
    source           text             NOT NULL,
    execution_count  bigint           NOT NULL CONSTRAINT legacy_execution_base_execution_count_not_negative CHECK (execution_count >= 0),
    total_ms         double precision NOT NULL CONSTRAINT legacy_execution_base_total_ms_range CHECK (total_ms >= 0 AND total_ms <= 1e18),
    last_execution   timestamptz,
    CONSTRAINT legacy_execution_base_pkey PRIMARY KEY (module_id, source)
);
COMMENT ON TABLE hitherto.legacy_execution_base IS
    'What an imported old database had counted: it kept no rows of its executions, so they show in legacy.module_registry and nowhere else';
COMMENT ON COLUMN hitherto.legacy_execution_base.module_id IS 'Module';
COMMENT ON COLUMN hitherto.legacy_execution_base.source IS 'The old database, as in legacy_import; legacy: old code registered the module with a count. Their counts add up';
COMMENT ON COLUMN hitherto.legacy_execution_base.execution_count IS 'Executions it had counted';
COMMENT ON COLUMN hitherto.legacy_execution_base.total_ms IS 'Their count times their running average, milliseconds';
COMMENT ON COLUMN hitherto.legacy_execution_base.last_execution IS 'The latest of them';

CREATE TABLE hitherto.legacy_execution_total (
    module_id        bigint           NOT NULL CONSTRAINT legacy_execution_total_module_id_fkey REFERENCES hitherto.module ON DELETE CASCADE,
    execution_count  bigint           NOT NULL,
    total_ms         double precision NOT NULL,
    CONSTRAINT legacy_execution_total_pkey PRIMARY KEY (module_id, execution_count)
);
COMMENT ON TABLE hitherto.legacy_execution_total IS
    'What legacy.module_registry showed at each of the last 1,000 counts: an old client''s new average, made from one of them, gives away the duration';
COMMENT ON COLUMN hitherto.legacy_execution_total.module_id IS 'Module';
COMMENT ON COLUMN hitherto.legacy_execution_total.execution_count IS 'The count';
COMMENT ON COLUMN hitherto.legacy_execution_total.total_ms IS 'Sum of durations at that count, milliseconds';

CREATE TABLE hitherto.legacy_order (
    order_id            text COLLATE "C" NOT NULL CONSTRAINT legacy_order_pkey PRIMARY KEY,
    execution_metadata  jsonb,
    execution_summary   text,
    created_at          timestamptz      NOT NULL
);
COMMENT ON TABLE hitherto.legacy_order IS 'Of orders that old code reported, what an execution report has no place for';
COMMENT ON COLUMN hitherto.legacy_order.order_id IS 'The order';
COMMENT ON COLUMN hitherto.legacy_order.execution_metadata IS 'execution_metadata as old code gave it';
COMMENT ON COLUMN hitherto.legacy_order.execution_summary IS 'execution_summary as old code gave it';
COMMENT ON COLUMN hitherto.legacy_order.created_at IS 'When old code said that its report was made';

CREATE FUNCTION hitherto.legacy_tombstone_clean()
RETURNS bigint LANGUAGE sql VOLATILE AS $$
    WITH gone AS (
        DELETE FROM hitherto.legacy_tombstone t USING hitherto.retention_horizon h
        WHERE h.table_name = t.table_name AND t.row_at < h.dropped_before
          AND NOT EXISTS (SELECT FROM hitherto.health_check r WHERE t.table_name = 'health_check' AND r.legacy_id = t.legacy_id)
          AND NOT EXISTS (SELECT FROM hitherto.risk_evaluation r WHERE t.table_name = 'risk_evaluation' AND r.legacy_id = t.legacy_id)
          AND NOT EXISTS (SELECT FROM hitherto.portfolio_snapshot r WHERE t.table_name = 'portfolio_snapshot' AND r.legacy_id = t.legacy_id)
        RETURNING 1
    )
    SELECT count(*) FROM gone
$$;
COMMENT ON FUNCTION hitherto.legacy_tombstone_clean() IS 'Forgets tombstones of rows that retention has dropped; how many';

CREATE FUNCTION hitherto.legacy_execution_shown(module bigint)
RETURNS TABLE (execution_count bigint, total_ms double precision, success_rate double precision, last_execution timestamptz)
LANGUAGE sql STABLE ROWS 1 AS $$
    -- The day aggregate outlives the rows.
    SELECT coalesce(e.executions, 0)::bigint + coalesce(b.execution_count, 0), coalesce(e.total_ms, 0) + coalesce(b.total_ms, 0),
           e.successes / e.executions, greatest(e.last_execution, b.last_execution)
    FROM (SELECT sum(d.executions) AS executions, sum(d.successes)::double precision AS successes, sum(d.sum_ms) AS total_ms, max(d.last_started_at) AS last_execution
          FROM hitherto.module_execution_day_aggregate d WHERE d.module_id = legacy_execution_shown.module) e
    CROSS JOIN (SELECT sum(o.execution_count)::bigint AS execution_count, sum(o.total_ms) AS total_ms, max(o.last_execution) AS last_execution
                FROM hitherto.legacy_execution_base o WHERE o.module_id = legacy_execution_shown.module) b
$$;
COMMENT ON FUNCTION hitherto.legacy_execution_shown(bigint) IS 'How often a module ran and how long that took, what an imported database had counted included';

-- What was recorded stays as it was recorded: for everyone, but for what retention drops. On a hypertable
-- row triggers reach its chunks too.
CREATE FUNCTION hitherto.retention_bound(table_name text)
RETURNS timestamptz LANGUAGE sql STABLE AS $$
    SELECT least(h.dropped_before, now() - p.drop_after)
    FROM hitherto.retention_policy p JOIN hitherto.retention_horizon h USING (table_name)
    WHERE p.table_name = retention_bound.table_name
$$;
COMMENT ON FUNCTION hitherto.retention_bound(text) IS
    'Rows of the table with an earlier time may be deleted: they are past its retention, and retention has noted that they go. NULL: none';

CREATE FUNCTION hitherto.append_only()
RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'hitherto.% is append-only: % is refused', TG_ARGV[0], TG_OP
        USING ERRCODE = 'insufficient_privilege',
              HINT = 'What is stored stays; write a new record that says what changed. Old rows go by retention alone: hitherto.retention_set';
END
$$;
COMMENT ON FUNCTION hitherto.append_only() IS 'Trigger of tables that are only added to: refuses, naming the table that is its argument';

CREATE FUNCTION hitherto.append_only_set(table_name text, time_column text DEFAULT NULL)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    kept text := CASE WHEN time_column IS NULL THEN ''
                      ELSE format('WHEN ((OLD.%I < hitherto.retention_bound(%L)) IS NOT TRUE)', time_column, table_name) END;
BEGIN
    EXECUTE format('CREATE TRIGGER %I BEFORE UPDATE ON hitherto.%I FOR EACH ROW EXECUTE FUNCTION hitherto.append_only(%L)',
                   table_name || '_no_update', table_name, table_name);
    EXECUTE format('CREATE TRIGGER %I BEFORE DELETE ON hitherto.%I FOR EACH ROW %s EXECUTE FUNCTION hitherto.append_only(%L)',
                   table_name || '_no_delete', table_name, kept, table_name);
    EXECUTE format('CREATE TRIGGER %I BEFORE TRUNCATE ON hitherto.%I FOR EACH STATEMENT EXECUTE FUNCTION hitherto.append_only(%L)',
                   table_name || '_no_truncate', table_name, table_name);
END
$$;
COMMENT ON FUNCTION hitherto.append_only_set(text, text) IS
    'Makes a table append-only; with the column of its rows'' time, retention may delete what is past retention_bound';

SELECT hitherto.append_only_set('module_execution', 'started_at');
SELECT hitherto.append_only_set('health_check', 'checked_at');
SELECT hitherto.append_only_set('signal', 'emitted_at');
SELECT hitherto.append_only_set('risk_evaluation', 'evaluated_at');
SELECT hitherto.append_only_set('order_event', 'event_at');
SELECT hitherto.append_only_set('portfolio_snapshot', 'taken_at');
SELECT hitherto.append_only_set('proposal');
SELECT hitherto.append_only_set('ingest_batch');
SELECT hitherto.append_only_set('quarantine');
SELECT hitherto.append_only_set('regime_event');
SELECT hitherto.append_only_set('order_event_key');
SELECT hitherto.append_only_set('order_event_conflict');

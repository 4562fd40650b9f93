-- Old rows are deleted by hitherto maintain, in small batches.
CREATE FUNCTION hitherto.retention_set(table_name text, drop_after interval)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF drop_after IS NULL THEN
        DELETE FROM hitherto.retention_policy p WHERE p.table_name = retention_set.table_name;
    ELSE
        INSERT INTO hitherto.retention_policy VALUES (table_name, drop_after)
        ON CONFLICT ON CONSTRAINT retention_policy_pkey DO UPDATE SET drop_after = excluded.drop_after;
    END IF;
END
$$;
COMMENT ON FUNCTION hitherto.retention_set(text, interval) IS 'How long a table''s raw rows are kept from now on; NULL: for ever';

SELECT hitherto.retention_set('module_execution', INTERVAL '90 days');
SELECT hitherto.retention_set('health_check', INTERVAL '90 days');
SELECT hitherto.retention_set('signal', INTERVAL '90 days');

-- Retention finds the old rows of a table by time alone.
CREATE INDEX module_execution_started_at_brin ON hitherto.module_execution USING brin (started_at);
CREATE INDEX health_check_checked_at_brin ON hitherto.health_check USING brin (checked_at);
CREATE INDEX signal_emitted_at_brin ON hitherto.signal USING brin (emitted_at);

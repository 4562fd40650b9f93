CREATE FUNCTION hitherto.retention_set(table_name text, drop_after interval)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF drop_after IS NULL THEN
        DELETE FROM hitherto.retention_policy p WHERE p.table_name = retention_set.table_name;
    ELSE
        INSERT INTO hitherto.retention_policy VALUES (table_name, drop_after)
        ON CONFLICT ON CONSTRAINT retention_policy_pkey DO UPDATE SET drop_after = excluded.drop_after;
    END IF;
    PERFORM remove_retention_policy(format('hitherto.%I', table_name)::regclass, if_exists => true);
    IF drop_after IS NOT NULL THEN
        PERFORM add_retention_policy(format('hitherto.%I', table_name)::regclass, drop_after => drop_after);
    END IF;
END
$$;
COMMENT ON FUNCTION hitherto.retention_set(text, interval) IS 'How long a table''s raw rows are kept from now on; NULL: for ever';

SELECT hitherto.retention_set('module_execution', INTERVAL '90 days');
SELECT hitherto.retention_set('health_check', INTERVAL '90 days');
SELECT hitherto.retention_set('signal', INTERVAL '90 days');

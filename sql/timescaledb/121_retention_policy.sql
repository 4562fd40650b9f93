CREATE FUNCTION hitherto.retention_due(table_name text)
RETURNS TABLE (range_start timestamptz, range_end timestamptz) LANGUAGE sql STABLE AS $$
    SELECT c.range_start, c.range_end
    FROM hitherto.retention_policy p
    JOIN timescaledb_information.chunks c ON c.hypertable_schema = 'hitherto' AND c.hypertable_name = p.table_name
    WHERE p.table_name = retention_due.table_name AND c.range_end <= now() - p.drop_after
$$;
COMMENT ON FUNCTION hitherto.retention_due(text) IS 'Ranges of the chunks of a table that are past its retention';

-- TimescaleDB's own retention policy would drop rows that no aggregate shows yet and tell nobody what
-- it dropped. This one refreshes first, and notes the horizon in the transaction that drops.
CREATE PROCEDURE hitherto.retention_apply(table_name text)
LANGUAGE plpgsql AS $$
DECLARE
    horizon timestamptz;
    name text;
BEGIN
    IF NOT EXISTS (SELECT FROM hitherto.retention_due(table_name)) THEN
        RETURN;
    END IF;
    FOREACH name IN ARRAY ARRAY(SELECT a.view_name FROM hitherto.aggregate a WHERE a.source_table = retention_apply.table_name ORDER BY 1) LOOP
        CALL hitherto.aggregate_refresh(name);
    END LOOP;
    COMMIT;
    -- Rows may have come meanwhile, and the policy may have changed: while nobody can write, look once
    -- more. Writers wait a moment at most; if the lock is not to be had quickly, the next run will do.
    SET LOCAL lock_timeout = '2s';
    EXECUTE format('LOCK TABLE hitherto.%I IN SHARE ROW EXCLUSIVE MODE', table_name);
    horizon := (SELECT max(d.range_end) FROM hitherto.retention_due(table_name) d);
    IF horizon IS NULL OR EXISTS (SELECT FROM hitherto.aggregate a, hitherto.aggregate_touched(a.view_name) t
                                  WHERE a.source_table = retention_apply.table_name AND t.touched_from < horizon) THEN
        RAISE NOTICE 'late rows of % came in just now, or its policy changed; the next run will do', table_name;
        ROLLBACK;
        RETURN;
    END IF;
    INSERT INTO hitherto.retention_horizon AS h VALUES (table_name, horizon)
    ON CONFLICT ON CONSTRAINT retention_horizon_pkey DO UPDATE SET dropped_before = greatest(h.dropped_before, excluded.dropped_before);
    INSERT INTO hitherto.retention_range AS r SELECT retention_apply.table_name, d.range_start, d.range_end FROM hitherto.retention_due(table_name) d
    ON CONFLICT ON CONSTRAINT retention_range_pkey DO NOTHING;
    IF table_name = 'order_event' THEN
        UPDATE hitherto.execution_report r SET events_dropped = true
        WHERE NOT r.events_dropped AND r.order_id IN (SELECT e.order_id FROM hitherto.order_event e WHERE e.event_at < horizon);
    END IF;
    PERFORM drop_chunks(format('hitherto.%I', table_name)::regclass, older_than => horizon);
    COMMIT;
END
$$;
COMMENT ON PROCEDURE hitherto.retention_apply(text) IS 'Drops a table''s chunks that are past its retention, once every aggregate shows their rows';

CREATE PROCEDURE hitherto.retention_job(job_id integer, config jsonb)
LANGUAGE plpgsql AS $$
BEGIN
    CALL hitherto.retention_apply(config ->> 'table_name');
END
$$;
COMMENT ON PROCEDURE hitherto.retention_job(integer, jsonb) IS 'retention_apply of one table as a background job';

CREATE FUNCTION hitherto.retention_set(table_name text, drop_after interval)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM delete_job(j.job_id) FROM timescaledb_information.jobs j
    WHERE j.proc_schema = 'hitherto' AND j.proc_name = 'retention_job' AND j.config ->> 'table_name' = retention_set.table_name;
    IF drop_after IS NULL THEN
        DELETE FROM hitherto.retention_policy p WHERE p.table_name = retention_set.table_name;
    ELSE
        INSERT INTO hitherto.retention_policy VALUES (table_name, drop_after)
        ON CONFLICT ON CONSTRAINT retention_policy_pkey DO UPDATE SET drop_after = excluded.drop_after;
        PERFORM add_job('hitherto.retention_job', INTERVAL '1 day', config => jsonb_build_object('table_name', table_name), fixed_schedule => false);
    END IF;
END
$$;
COMMENT ON FUNCTION hitherto.retention_set(text, interval) IS 'How long a table''s raw rows are kept from now on; NULL: for ever';

SELECT hitherto.retention_set('module_execution', INTERVAL '90 days');
SELECT hitherto.retention_set('health_check', INTERVAL '90 days');
SELECT hitherto.retention_set('signal', INTERVAL '90 days');

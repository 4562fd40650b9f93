-- Exports and retention find rows by time through ranges of pages. New ranges are not known to such an index until they are
-- summarised, and are then read whole each time that a day is looked for.
ALTER INDEX hitherto.module_execution_started_at_brin SET (autosummarize = on);
ALTER INDEX hitherto.health_check_checked_at_brin SET (autosummarize = on);
ALTER INDEX hitherto.signal_emitted_at_brin SET (autosummarize = on);
ALTER INDEX hitherto.risk_evaluation_evaluated_at_brin SET (autosummarize = on);
ALTER INDEX hitherto.order_event_event_at_brin SET (autosummarize = on);

CREATE FUNCTION hitherto.time_index_summarize() RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET lock_timeout = '1s' AS $$
DECLARE
    brin regclass;
    ranges bigint := 0;
BEGIN
    FOR brin IN
        SELECT i.indexrelid FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am a ON a.oid = c.relam
        WHERE a.amname = 'brin' AND c.relnamespace = 'hitherto'::regnamespace ORDER BY i.indexrelid
    LOOP
        BEGIN
            ranges := ranges + brin_summarize_new_values(brin);
        EXCEPTION WHEN lock_not_available THEN
            -- A vacuum is at the table, which does the same.
        END;
    END LOOP;
    RETURN ranges;
END
$$;
COMMENT ON FUNCTION hitherto.time_index_summarize() IS
    'Has the indexes that find rows by ranges of pages know the pages that were filled since the last time, as vacuum does; how many ranges';
REVOKE ALL ON FUNCTION hitherto.time_index_summarize() FROM PUBLIC;

-- Safety net for rows written by hand, which have no line in the ledger. Whatever the ledger knows,
-- however old, is refreshed by aggregate_refresh below.
SELECT add_continuous_aggregate_policy('hitherto.module_execution_minute_aggregate', start_offset => INTERVAL '1 day',   end_offset => INTERVAL '5 minutes', schedule_interval => INTERVAL '5 minutes');
SELECT add_continuous_aggregate_policy('hitherto.module_execution_hour_aggregate',   start_offset => INTERVAL '3 days',  end_offset => INTERVAL '1 hour',    schedule_interval => INTERVAL '30 minutes');
SELECT add_continuous_aggregate_policy('hitherto.module_execution_day_aggregate',    start_offset => INTERVAL '7 days',  end_offset => INTERVAL '1 day',     schedule_interval => INTERVAL '3 hours');
SELECT add_continuous_aggregate_policy('hitherto.module_latency_hour_aggregate',     start_offset => INTERVAL '3 days',  end_offset => INTERVAL '1 hour',    schedule_interval => INTERVAL '30 minutes');
SELECT add_continuous_aggregate_policy('hitherto.health_check_hour_aggregate',       start_offset => INTERVAL '3 days',  end_offset => INTERVAL '1 hour',    schedule_interval => INTERVAL '30 minutes');
SELECT add_continuous_aggregate_policy('hitherto.health_check_day_aggregate',        start_offset => INTERVAL '7 days',  end_offset => INTERVAL '1 day',     schedule_interval => INTERVAL '3 hours');
SELECT add_continuous_aggregate_policy('hitherto.risk_verdict_hour_aggregate',       start_offset => INTERVAL '3 days',  end_offset => INTERVAL '1 hour',    schedule_interval => INTERVAL '30 minutes');
SELECT add_continuous_aggregate_policy('hitherto.risk_verdict_day_aggregate',        start_offset => INTERVAL '7 days',  end_offset => INTERVAL '1 day',     schedule_interval => INTERVAL '3 hours');
SELECT add_continuous_aggregate_policy('hitherto.portfolio_value_hour_aggregate',    start_offset => INTERVAL '3 days',  end_offset => INTERVAL '1 hour',    schedule_interval => INTERVAL '30 minutes');
SELECT add_continuous_aggregate_policy('hitherto.portfolio_value_day_aggregate',     start_offset => INTERVAL '7 days',  end_offset => INTERVAL '1 day',     schedule_interval => INTERVAL '3 hours');

-- The catalogue has no column for it; the materialisation's number stands in its name.
CREATE FUNCTION hitherto.aggregate_watermark(view_name text)
RETURNS timestamptz LANGUAGE sql STABLE AS $$
    SELECT w.watermark
    FROM hitherto.aggregate a
    JOIN timescaledb_information.continuous_aggregates c ON c.view_schema = 'hitherto' AND c.view_name = a.aggregate_name
    CROSS JOIN LATERAL (SELECT _timescaledb_functions.to_timestamp(_timescaledb_functions.cagg_watermark(
                            substring(c.materialization_hypertable_name FROM '\d+$')::integer)) AS watermark) w
    -- Nothing materialised: the earliest time there is.
    WHERE a.view_name = aggregate_watermark.view_name AND w.watermark > '0001-01-01 00:00:00+00'
$$;
COMMENT ON FUNCTION hitherto.aggregate_watermark(text) IS
    'Rows before this time are served as last refreshed, rows from it on are aggregated when read; NULL while nothing is materialised';

-- Which ranges must be refreshed so that every row of the ledger shows.
--  * Buckets that are still open stay out: materialising one would hide its later rows.
--  * A range that passes the watermark starts at it: the watermark moves over everything between.
--  * A server that was restored counts its transactions anew: a snapshot from the history before says
--    nothing, and once everything was refreshed, neither do lines of that history.
CREATE FUNCTION hitherto.aggregate_touched(view_name text)
RETURNS TABLE (touched_from timestamptz, touched_until timestamptz) LANGUAGE sql STABLE AS $$
    WITH aggregate AS (
        SELECT a.source_table, a.bucket_width, w.watermark, h.other_history, h.next_xid,
               CASE WHEN h.other_history THEN pg_snapshot '1:1:' ELSE a.refreshed_snapshot END AS refreshed_snapshot,
               greatest(time_bucket(a.bucket_width, now()), w.watermark) AS closed,
               CASE WHEN w.watermark IS NULL THEN (SELECT time_bucket(a.bucket_width, min(b.min_time))
                FROM hitherto.ingest_batch b WHERE b.table_name = a.source_table) END AS oldest
        FROM hitherto.aggregate a, LATERAL (SELECT hitherto.aggregate_watermark(a.view_name) AS watermark) w,
             LATERAL (SELECT pg_snapshot_xmax(pg_current_snapshot()) AS next_xid,
                             pg_snapshot_xmax(a.refreshed_snapshot) > pg_snapshot_xmax(pg_current_snapshot()) AS other_history) h
        WHERE a.view_name = aggregate_touched.view_name
    ), bucket AS (
        SELECT DISTINCT time_bucket(a.bucket_width, b.min_time) AS lo, time_bucket(a.bucket_width, b.max_time) + a.bucket_width AS hi
        FROM aggregate a JOIN hitherto.ingest_batch b ON b.table_name = a.source_table AND b.xid >= pg_snapshot_xmin(a.refreshed_snapshot)
             AND NOT pg_visible_in_snapshot(b.xid, a.refreshed_snapshot) AND (b.xid < a.next_xid OR a.other_history) AND b.row_count > 0
    ), clipped AS (
        SELECT CASE WHEN a.watermark IS NULL THEN least(b.lo, a.oldest)
                    WHEN b.hi > a.watermark THEN least(b.lo, a.watermark) ELSE b.lo END AS lo,
               least(b.hi, a.closed) AS hi
        FROM bucket b, aggregate a
    ), edge AS (
        SELECT lo, hi, max(hi) OVER (ORDER BY lo, hi ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS reached
        FROM clipped WHERE lo < hi
    ), island AS (
        SELECT lo, hi, count(*) FILTER (WHERE reached IS NULL OR lo > reached) OVER (ORDER BY lo, hi) AS number FROM edge
    )
    SELECT min(lo), max(hi) FROM island GROUP BY number ORDER BY 1
$$;
COMMENT ON FUNCTION hitherto.aggregate_touched(text) IS 'Ranges of time, aligned to buckets, that the ledger says were written since the aggregate was last refreshed';

-- Buckets of a range that have raw rows and are not materialised: all that can be refreshed where
-- retention has dropped a chunk. What is materialised there was made of rows that are gone; refreshing
-- it from a few late ones would erase it.
CREATE FUNCTION hitherto.aggregate_missing(view_name text, range_from timestamptz, range_until timestamptz)
RETURNS SETOF timestamptz LANGUAGE plpgsql STABLE AS $$
DECLARE
    a hitherto.aggregate;
    time_column name;
BEGIN
    SELECT * INTO a FROM hitherto.aggregate g WHERE g.view_name = aggregate_missing.view_name;
    SELECT d.column_name INTO time_column FROM timescaledb_information.dimensions d
    WHERE d.hypertable_schema = 'hitherto' AND d.hypertable_name = a.source_table AND d.dimension_number = 1;
    -- Past the watermark a real-time aggregate would show raw rows as if they were materialised.
    RETURN QUERY EXECUTE format(
        'SELECT time_bucket($1, %I) FROM hitherto.%I WHERE %I >= $2 AND %I < $3
         EXCEPT SELECT bucket FROM hitherto.%I WHERE bucket >= $2 AND bucket < least($3, coalesce($4, ''-infinity'')) ORDER BY 1',
        time_column, a.source_table, time_column, time_column, a.aggregate_name)
    USING a.bucket_width, range_from, range_until, hitherto.aggregate_watermark(a.view_name);
END
$$;
COMMENT ON FUNCTION hitherto.aggregate_missing(text, timestamptz, timestamptz) IS 'Buckets of a range that have rows and are not materialised';

CREATE PROCEDURE hitherto.aggregate_refresh(view_name text DEFAULT NULL)
LANGUAGE plpgsql AS $$
DECLARE
    a hitherto.aggregate;
    name text;
    seen pg_snapshot;
    touched tstzmultirange;
    dropped tstzmultirange;
    piece tstzrange;
    missing timestamptz;
BEGIN
    FOREACH name IN ARRAY ARRAY(SELECT g.view_name FROM hitherto.aggregate g
                                WHERE aggregate_refresh.view_name IN (g.view_name) OR aggregate_refresh.view_name IS NULL ORDER BY 1)
    LOOP
        SELECT * INTO a FROM hitherto.aggregate g WHERE g.view_name = name;
        -- A batch that commits from here on is not seen and is found next time.
        seen := pg_current_snapshot();
        touched := (SELECT coalesce(range_agg(tstzrange(t.touched_from, t.touched_until)), '{}') FROM hitherto.aggregate_touched(name) t);
        dropped := (SELECT coalesce(range_agg(tstzrange(r.range_start, r.range_end)), '{}')
                    FROM hitherto.retention_range r WHERE r.table_name = a.source_table);
        COMMIT;
        -- Chunks begin and end where days do, so that the pieces are whole buckets.
        FOREACH piece IN ARRAY ARRAY(SELECT unnest(touched * dropped)) LOOP
            FOREACH missing IN ARRAY ARRAY(SELECT hitherto.aggregate_missing(name, lower(piece), upper(piece))) LOOP
                CALL refresh_continuous_aggregate(format('hitherto.%I', a.aggregate_name)::regclass, missing, missing + a.bucket_width);
            END LOOP;
        END LOOP;
        FOREACH piece IN ARRAY ARRAY(SELECT unnest(touched - dropped)) LOOP
            CALL refresh_continuous_aggregate(format('hitherto.%I', a.aggregate_name)::regclass, lower(piece), upper(piece));
        END LOOP;
        UPDATE hitherto.aggregate g SET refreshed_snapshot = seen, last_refresh = clock_timestamp(), last_error = NULL WHERE g.view_name = name;
        COMMIT;
    END LOOP;
END
$$;
COMMENT ON PROCEDURE hitherto.aggregate_refresh(text) IS 'Refreshes the ranges that the ledger says were written, however old; of one aggregate, or of all';

CREATE PROCEDURE hitherto.aggregate_refresh_job(job_id integer, config jsonb)
LANGUAGE plpgsql AS $$
BEGIN
    CALL hitherto.aggregate_refresh(config ->> 'view_name');
END
$$;
COMMENT ON PROCEDURE hitherto.aggregate_refresh_job(integer, jsonb) IS 'aggregate_refresh of one aggregate as a background job';
-- A job each: one that fails does not keep the others from being refreshed.
SELECT add_job('hitherto.aggregate_refresh_job', INTERVAL '1 minute', config => jsonb_build_object('view_name', view_name), fixed_schedule => false)
FROM hitherto.aggregate ORDER BY view_name;

CREATE FUNCTION hitherto.latency_percentile(fraction double precision, module text, range_from timestamptz, range_to timestamptz)
RETURNS double precision LANGUAGE plpgsql STABLE AS $$
DECLARE
    answer double precision;
BEGIN
    IF fraction IS NULL OR fraction NOT BETWEEN 0 AND 1 THEN
        RAISE EXCEPTION 'latency_percentile: fraction is %, not within 0 and 1', fraction USING ERRCODE = '22003';
    END IF;
    SELECT percentile_cont(fraction) WITHIN GROUP (ORDER BY e.duration_ms) INTO answer
    FROM hitherto.module_execution e JOIN hitherto.module m USING (module_id)
    WHERE m.name = latency_percentile.module AND e.started_at >= range_from AND e.started_at < range_to;
    RETURN answer;
END
$$;
COMMENT ON FUNCTION hitherto.latency_percentile(double precision, text, timestamptz, timestamptz) IS
    'Percentile of a module''s duration_ms over [range_from, range_to), exact; fraction 0 to 1; NULL without runs';

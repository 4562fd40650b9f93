-- Whole hours come from module_latency_hour_aggregate, the ends of the range from the rows. A class
-- is 1.94 % wide, so its geometric middle is within 0.97 % of whatever fell into it. The two ranks
-- around the fraction are looked up each, and interpolated as percentile_cont does.
CREATE FUNCTION hitherto.latency_percentile(fraction double precision, module text, range_from timestamptz, range_to timestamptz)
RETURNS double precision LANGUAGE plpgsql STABLE AS $$
DECLARE
    id bigint := (SELECT m.module_id FROM hitherto.module m WHERE m.name = latency_percentile.module);
    hours_from timestamptz := time_bucket(INTERVAL '1 hour', range_from + INTERVAL '1 hour' - INTERVAL '1 microsecond');
    hours_to timestamptz := time_bucket(INTERVAL '1 hour', range_to);
    answer double precision;
BEGIN
    IF fraction IS NULL OR fraction NOT BETWEEN 0 AND 1 THEN
        RAISE EXCEPTION 'latency_percentile: fraction is %, not within 0 and 1', fraction USING ERRCODE = '22003';
    END IF;
    IF hours_from >= hours_to THEN
        SELECT percentile_cont(fraction) WITHIN GROUP (ORDER BY e.duration_ms) INTO answer
        FROM hitherto.module_execution e WHERE e.module_id = id AND e.started_at >= range_from AND e.started_at < range_to;
        RETURN answer;
    END IF;
    WITH part AS (
        SELECT c.class, c.n::bigint AS n, a.max_ms
        FROM hitherto.module_latency_hour_aggregate a, unnest(a.classes) WITH ORDINALITY AS c (n, class)
        WHERE a.module_id = id AND a.bucket >= hours_from AND a.bucket < hours_to AND c.n > 0
        UNION ALL
        SELECT width_bucket(ln(greatest(e.duration_ms, 1e-7)), ln(1e-6::double precision), ln(1e10::double precision), 1920) + 1, 1, e.duration_ms
        FROM hitherto.module_execution e
        WHERE e.module_id = id AND (e.started_at >= range_from AND e.started_at < hours_from OR e.started_at >= hours_to AND e.started_at < range_to)
    ), class AS (
        SELECT class, sum(n) AS n, max(max(max_ms)) OVER () AS max_ms, sum(sum(n)) OVER (ORDER BY class) AS upto, sum(sum(n)) OVER () AS total
        FROM part GROUP BY class
    ), middle AS (
        SELECT upto - n AS first_rank, upto - 1 AS last_rank, fraction * (total - 1)::double precision AS rank,
               least(max_ms, CASE class WHEN 1 THEN 0 WHEN 1922 THEN max_ms
                                  ELSE exp(ln(1e-6::double precision) + (class - 1.5) * (ln(1e10::double precision) - ln(1e-6::double precision)) / 1920) END) AS ms
        FROM class
    )
    SELECT low.ms + (high.ms - low.ms) * (low.rank - floor(low.rank)) INTO answer
    FROM middle low, middle high
    WHERE floor(low.rank) BETWEEN low.first_rank AND low.last_rank AND ceil(high.rank) BETWEEN high.first_rank AND high.last_rank;
    RETURN answer;
END
$$;
COMMENT ON FUNCTION hitherto.latency_percentile(double precision, text, timestamptz, timestamptz) IS
    'Percentile of a module''s duration_ms over [range_from, range_to), within 1 % of percentile_cont; fraction 0 to 1; NULL without runs; durations under 1e-6 ms count as 0';

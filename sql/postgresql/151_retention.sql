-- Aggregates outlive raw rows here as they do on TimescaleDB: the transaction that deletes rows adds
-- them to a table, <aggregate>_kept, and the view adds up what is kept and what the rows that are there
-- make when read. So each row counts once at every level, whenever it comes. What does not add up
-- (percentiles, first and last values) is kept beforehand, of whole buckets.

CREATE FUNCTION hitherto.module_execution_live(width interval, part tstzrange, pieces tid[])
RETURNS TABLE (bucket timestamptz, module_id bigint, executions bigint, successes bigint, sum_ms double precision, p50_ms double precision, p95_ms double precision,
               p99_ms double precision, max_ms double precision, last_started_at timestamptz)
LANGUAGE sql STABLE AS $$
    SELECT date_bin(width, started_at, TIMESTAMPTZ '2000-01-01 00:00:00+00'), module_id, count(*), count(*) FILTER (WHERE success), sum(duration_ms),
           percentile_cont(0.50) WITHIN GROUP (ORDER BY duration_ms), percentile_cont(0.95) WITHIN GROUP (ORDER BY duration_ms),
           percentile_cont(0.99) WITHIN GROUP (ORDER BY duration_ms), max(duration_ms), max(started_at)
    FROM hitherto.module_execution
    WHERE (pieces IS NULL OR ctid = ANY (pieces))
      AND started_at >= coalesce(lower(part), '-infinity') AND started_at < coalesce(upper(part), 'infinity')
    GROUP BY 1, 2
$$;
COMMENT ON FUNCTION hitherto.module_execution_live(interval, tstzrange, tid[]) IS 'The aggregate, made of the rows of part; of all rows where it is NULL. pieces: of these rows alone, by ctid';

CREATE TABLE hitherto.module_execution_minute_kept (LIKE hitherto.module_execution_minute_aggregate INCLUDING COMMENTS, CONSTRAINT module_execution_minute_kept_pkey PRIMARY KEY (bucket, module_id));
COMMENT ON TABLE hitherto.module_execution_minute_kept IS 'module_execution_minute_aggregate of the rows that retention has dropped';
CREATE OR REPLACE VIEW hitherto.module_execution_minute_aggregate AS
SELECT bucket, module_id, sum(executions)::bigint AS executions, sum(successes)::bigint AS successes, sum(sum_ms) AS sum_ms,
       coalesce(max(p50_ms) FILTER (WHERE kept), max(p50_ms)) AS p50_ms,
       coalesce(max(p95_ms) FILTER (WHERE kept), max(p95_ms)) AS p95_ms,
       coalesce(max(p99_ms) FILTER (WHERE kept), max(p99_ms)) AS p99_ms,
       max(max_ms) AS max_ms, max(last_started_at) AS last_started_at
FROM (SELECT true AS kept, k.* FROM hitherto.module_execution_minute_kept k
      UNION ALL
      SELECT false, l.* FROM hitherto.module_execution_live('1 minute', NULL, NULL) l) AS part
GROUP BY 1, 2;

CREATE TABLE hitherto.module_execution_hour_kept (LIKE hitherto.module_execution_hour_aggregate INCLUDING COMMENTS, CONSTRAINT module_execution_hour_kept_pkey PRIMARY KEY (bucket, module_id));
COMMENT ON TABLE hitherto.module_execution_hour_kept IS 'module_execution_hour_aggregate of the rows that retention has dropped';
CREATE OR REPLACE VIEW hitherto.module_execution_hour_aggregate AS
SELECT bucket, module_id, sum(executions)::bigint AS executions, sum(successes)::bigint AS successes, sum(sum_ms) AS sum_ms,
       coalesce(max(p50_ms) FILTER (WHERE kept), max(p50_ms)) AS p50_ms,
       coalesce(max(p95_ms) FILTER (WHERE kept), max(p95_ms)) AS p95_ms,
       coalesce(max(p99_ms) FILTER (WHERE kept), max(p99_ms)) AS p99_ms,
       max(max_ms) AS max_ms, max(last_started_at) AS last_started_at
FROM (SELECT true AS kept, k.* FROM hitherto.module_execution_hour_kept k
      UNION ALL
      SELECT false, l.* FROM hitherto.module_execution_live('1 hour', NULL, NULL) l) AS part
GROUP BY 1, 2;

CREATE TABLE hitherto.module_execution_day_kept (LIKE hitherto.module_execution_day_aggregate INCLUDING COMMENTS, CONSTRAINT module_execution_day_kept_pkey PRIMARY KEY (bucket, module_id));
COMMENT ON TABLE hitherto.module_execution_day_kept IS 'module_execution_day_aggregate of the rows that retention has dropped';
CREATE OR REPLACE VIEW hitherto.module_execution_day_aggregate AS
SELECT bucket, module_id, sum(executions)::bigint AS executions, sum(successes)::bigint AS successes, sum(sum_ms) AS sum_ms,
       coalesce(max(p50_ms) FILTER (WHERE kept), max(p50_ms)) AS p50_ms,
       coalesce(max(p95_ms) FILTER (WHERE kept), max(p95_ms)) AS p95_ms,
       coalesce(max(p99_ms) FILTER (WHERE kept), max(p99_ms)) AS p99_ms,
       max(max_ms) AS max_ms, max(last_started_at) AS last_started_at
FROM (SELECT true AS kept, k.* FROM hitherto.module_execution_day_kept k
      UNION ALL
      SELECT false, l.* FROM hitherto.module_execution_live('1 day', NULL, NULL) l) AS part
GROUP BY 1, 2;

CREATE FUNCTION hitherto.health_check_live(width interval, part tstzrange, pieces tid[])
RETURNS TABLE (bucket timestamptz, module_id bigint, checks bigint, healthy bigint, responses bigint, sum_response_ms double precision, p95_response_ms double precision,
               max_memory_mb double precision, cpu_readings bigint, sum_cpu_percent double precision, errors bigint, last_checked_at timestamptz)
LANGUAGE sql STABLE AS $$
    SELECT date_bin(width, checked_at, TIMESTAMPTZ '2000-01-01 00:00:00+00'), module_id, count(*), count(*) FILTER (WHERE status = 'healthy'), count(response_time_ms), sum(response_time_ms),
           percentile_cont(0.95) WITHIN GROUP (ORDER BY response_time_ms), max(memory_usage_mb), count(cpu_usage_percent), sum(cpu_usage_percent),
           sum(error_count), max(checked_at)
    FROM hitherto.health_check
    WHERE (pieces IS NULL OR ctid = ANY (pieces))
      AND checked_at >= coalesce(lower(part), '-infinity') AND checked_at < coalesce(upper(part), 'infinity')
    GROUP BY 1, 2
$$;
COMMENT ON FUNCTION hitherto.health_check_live(interval, tstzrange, tid[]) IS 'The aggregate, made of the rows of part; of all rows where it is NULL. pieces: of these rows alone, by ctid';

CREATE TABLE hitherto.health_check_hour_kept (LIKE hitherto.health_check_hour_aggregate INCLUDING COMMENTS, CONSTRAINT health_check_hour_kept_pkey PRIMARY KEY (bucket, module_id));
COMMENT ON TABLE hitherto.health_check_hour_kept IS 'health_check_hour_aggregate of the rows that retention has dropped';
CREATE OR REPLACE VIEW hitherto.health_check_hour_aggregate AS
SELECT bucket, module_id, sum(checks)::bigint AS checks, sum(healthy)::bigint AS healthy, sum(responses)::bigint AS responses, sum(sum_response_ms) AS sum_response_ms,
       coalesce(max(p95_response_ms) FILTER (WHERE kept), max(p95_response_ms)) AS p95_response_ms,
       max(max_memory_mb) AS max_memory_mb, sum(cpu_readings)::bigint AS cpu_readings, sum(sum_cpu_percent) AS sum_cpu_percent,
       sum(errors)::bigint AS errors, max(last_checked_at) AS last_checked_at
FROM (SELECT true AS kept, k.* FROM hitherto.health_check_hour_kept k
      UNION ALL
      SELECT false, l.* FROM hitherto.health_check_live('1 hour', NULL, NULL) l) AS part
GROUP BY 1, 2;

CREATE TABLE hitherto.health_check_day_kept (LIKE hitherto.health_check_day_aggregate INCLUDING COMMENTS, CONSTRAINT health_check_day_kept_pkey PRIMARY KEY (bucket, module_id));
COMMENT ON TABLE hitherto.health_check_day_kept IS 'health_check_day_aggregate of the rows that retention has dropped';
CREATE OR REPLACE VIEW hitherto.health_check_day_aggregate AS
SELECT bucket, module_id, sum(checks)::bigint AS checks, sum(healthy)::bigint AS healthy, sum(responses)::bigint AS responses, sum(sum_response_ms) AS sum_response_ms,
       coalesce(max(p95_response_ms) FILTER (WHERE kept), max(p95_response_ms)) AS p95_response_ms,
       max(max_memory_mb) AS max_memory_mb, sum(cpu_readings)::bigint AS cpu_readings, sum(sum_cpu_percent) AS sum_cpu_percent,
       sum(errors)::bigint AS errors, max(last_checked_at) AS last_checked_at
FROM (SELECT true AS kept, k.* FROM hitherto.health_check_day_kept k
      UNION ALL
      SELECT false, l.* FROM hitherto.health_check_live('1 day', NULL, NULL) l) AS part
GROUP BY 1, 2;

CREATE FUNCTION hitherto.risk_verdict_live(width interval, part tstzrange, pieces tid[])
RETURNS TABLE (bucket timestamptz, risk_level text, verdict text, evaluations bigint, var_99_readings bigint, sum_var_99 double precision, max_var_99 double precision)
LANGUAGE sql STABLE AS $$
    SELECT date_bin(width, evaluated_at, TIMESTAMPTZ '2000-01-01 00:00:00+00'), risk_level, verdict, count(*), count(var_99), sum(var_99), max(var_99)
    FROM hitherto.risk_evaluation
    WHERE (pieces IS NULL OR ctid = ANY (pieces))
      AND evaluated_at >= coalesce(lower(part), '-infinity') AND evaluated_at < coalesce(upper(part), 'infinity')
    GROUP BY 1, 2, 3
$$;
COMMENT ON FUNCTION hitherto.risk_verdict_live(interval, tstzrange, tid[]) IS 'The aggregate, made of the rows of part; of all rows where it is NULL. pieces: of these rows alone, by ctid';

CREATE TABLE hitherto.risk_verdict_hour_kept (LIKE hitherto.risk_verdict_hour_aggregate INCLUDING COMMENTS, CONSTRAINT risk_verdict_hour_kept_pkey PRIMARY KEY (bucket, risk_level, verdict));
COMMENT ON TABLE hitherto.risk_verdict_hour_kept IS 'risk_verdict_hour_aggregate of the rows that retention has dropped';
CREATE OR REPLACE VIEW hitherto.risk_verdict_hour_aggregate AS
SELECT bucket, risk_level, verdict, sum(evaluations)::bigint AS evaluations, sum(var_99_readings)::bigint AS var_99_readings,
       sum(sum_var_99) AS sum_var_99, max(max_var_99) AS max_var_99
FROM (SELECT true AS kept, k.* FROM hitherto.risk_verdict_hour_kept k
      UNION ALL
      SELECT false, bucket, risk_level COLLATE "C", verdict COLLATE "C", evaluations, var_99_readings, sum_var_99, max_var_99 FROM hitherto.risk_verdict_live('1 hour', NULL, NULL)) AS part
GROUP BY 1, 2, 3;

CREATE TABLE hitherto.risk_verdict_day_kept (LIKE hitherto.risk_verdict_day_aggregate INCLUDING COMMENTS, CONSTRAINT risk_verdict_day_kept_pkey PRIMARY KEY (bucket, risk_level, verdict));
COMMENT ON TABLE hitherto.risk_verdict_day_kept IS 'risk_verdict_day_aggregate of the rows that retention has dropped';
CREATE OR REPLACE VIEW hitherto.risk_verdict_day_aggregate AS
SELECT bucket, risk_level, verdict, sum(evaluations)::bigint AS evaluations, sum(var_99_readings)::bigint AS var_99_readings,
       sum(sum_var_99) AS sum_var_99, max(max_var_99) AS max_var_99
FROM (SELECT true AS kept, k.* FROM hitherto.risk_verdict_day_kept k
      UNION ALL
      SELECT false, bucket, risk_level COLLATE "C", verdict COLLATE "C", evaluations, var_99_readings, sum_var_99, max_var_99 FROM hitherto.risk_verdict_live('1 day', NULL, NULL)) AS part
GROUP BY 1, 2, 3;

CREATE FUNCTION hitherto.portfolio_value_live(width interval, part tstzrange, pieces tid[])
RETURNS TABLE (bucket timestamptz, open numeric, high numeric, low numeric, close numeric, min_cash numeric, max_drawdown double precision)
LANGUAGE sql STABLE AS $$
    SELECT date_bin(width, taken_at, TIMESTAMPTZ '2000-01-01 00:00:00+00'), (array_agg(total_value ORDER BY taken_at, snapshot_id))[1], max(total_value), min(total_value),
           (array_agg(total_value ORDER BY taken_at DESC, snapshot_id DESC))[1], min(cash_balance),
           hitherto.max_drawdown(total_value ORDER BY taken_at, snapshot_id)
    FROM hitherto.portfolio_snapshot
    WHERE (pieces IS NULL OR ctid = ANY (pieces))
      AND taken_at >= coalesce(lower(part), '-infinity') AND taken_at < coalesce(upper(part), 'infinity')
    GROUP BY 1
$$;
COMMENT ON FUNCTION hitherto.portfolio_value_live(interval, tstzrange, tid[]) IS 'The aggregate, made of the rows of part; of all rows where it is NULL. pieces: of these rows alone, by ctid';

CREATE TABLE hitherto.portfolio_value_hour_kept (LIKE hitherto.portfolio_value_hour_aggregate INCLUDING COMMENTS, CONSTRAINT portfolio_value_hour_kept_pkey PRIMARY KEY (bucket));
COMMENT ON TABLE hitherto.portfolio_value_hour_kept IS 'portfolio_value_hour_aggregate of the rows that retention has dropped';
CREATE OR REPLACE VIEW hitherto.portfolio_value_hour_aggregate AS
SELECT bucket, coalesce(max(open) FILTER (WHERE kept), max(open)) AS open, max(high) AS high, min(low) AS low,
       coalesce(max(close) FILTER (WHERE kept), max(close)) AS close, min(min_cash) AS min_cash, max(max_drawdown) AS max_drawdown
FROM (SELECT true AS kept, k.* FROM hitherto.portfolio_value_hour_kept k
      UNION ALL
      SELECT false, l.* FROM hitherto.portfolio_value_live('1 hour', NULL, NULL) l) AS part
GROUP BY 1;

CREATE TABLE hitherto.portfolio_value_day_kept (LIKE hitherto.portfolio_value_day_aggregate INCLUDING COMMENTS, CONSTRAINT portfolio_value_day_kept_pkey PRIMARY KEY (bucket));
COMMENT ON TABLE hitherto.portfolio_value_day_kept IS 'portfolio_value_day_aggregate of the rows that retention has dropped';
CREATE OR REPLACE VIEW hitherto.portfolio_value_day_aggregate AS
SELECT bucket, coalesce(max(open) FILTER (WHERE kept), max(open)) AS open, max(high) AS high, min(low) AS low,
       coalesce(max(close) FILTER (WHERE kept), max(close)) AS close, min(min_cash) AS min_cash, max(max_drawdown) AS max_drawdown
FROM (SELECT true AS kept, k.* FROM hitherto.portfolio_value_day_kept k
      UNION ALL
      SELECT false, l.* FROM hitherto.portfolio_value_live('1 day', NULL, NULL) l) AS part
GROUP BY 1;

-- What latency_percentile needs of them: runs by class of duration, the classes that TimescaleDB's
-- module_latency_hour_aggregate counts.
CREATE FUNCTION hitherto.module_latency_live(width interval, part tstzrange, pieces tid[])
RETURNS TABLE (bucket timestamptz, module_id bigint, max_ms double precision, classes integer[], runs bigint[])
LANGUAGE sql STABLE AS $$
    SELECT c.bucket, c.module_id, max(c.max_ms), array_agg(c.class ORDER BY c.class), array_agg(c.runs ORDER BY c.class)
    FROM (SELECT date_bin(width, started_at, TIMESTAMPTZ '2000-01-01 00:00:00+00') AS bucket, module_id,
                 width_bucket(ln(greatest(duration_ms, 1e-7)), ln(1e-6::double precision), ln(1e10::double precision), 1920) + 1 AS class,
                 count(*) AS runs, max(duration_ms) AS max_ms
          FROM hitherto.module_execution
          WHERE (pieces IS NULL OR ctid = ANY (pieces))
            AND started_at >= coalesce(lower(part), '-infinity') AND started_at < coalesce(upper(part), 'infinity')
          GROUP BY 1, 2, 3) c
    GROUP BY 1, 2
$$;
COMMENT ON FUNCTION hitherto.module_latency_live(interval, tstzrange, tid[]) IS 'Runs by class of duration, made of the rows of part; of all rows where it is NULL. pieces: of these rows alone, by ctid';

CREATE TABLE hitherto.module_latency_hour_kept (
    bucket     timestamptz      NOT NULL,
    module_id  bigint           NOT NULL,
    max_ms     double precision NOT NULL,
    classes    integer[]        NOT NULL,
    runs       bigint[]         NOT NULL,
    CONSTRAINT module_latency_hour_kept_pkey PRIMARY KEY (bucket, module_id)
);
COMMENT ON TABLE hitherto.module_latency_hour_kept IS 'Runs by class of duration, of the rows that retention has dropped: for latency_percentile';
COMMENT ON COLUMN hitherto.module_latency_hour_kept.bucket IS 'Start of the bucket, UTC';
COMMENT ON COLUMN hitherto.module_latency_hour_kept.module_id IS 'Module';
COMMENT ON COLUMN hitherto.module_latency_hour_kept.max_ms IS 'Longest duration, milliseconds';
COMMENT ON COLUMN hitherto.module_latency_hour_kept.classes IS 'Classes that have runs: 1 below 1e-6 ms, then 1,920 of equal width in ln, 1922 from 1e10 ms on';
COMMENT ON COLUMN hitherto.module_latency_hour_kept.runs IS 'Runs in each of these classes';

CREATE OR REPLACE FUNCTION hitherto.latency_percentile(fraction double precision, module text, range_from timestamptz, range_to timestamptz)
RETURNS double precision LANGUAGE plpgsql STABLE AS $$
DECLARE
    id bigint := (SELECT m.module_id FROM hitherto.module m WHERE m.name = latency_percentile.module);
    kept_from timestamptz := date_bin(INTERVAL '1 hour', range_from + INTERVAL '1 hour' - INTERVAL '1 microsecond', TIMESTAMPTZ '2000-01-01 00:00:00+00');
    kept_to timestamptz := date_bin(INTERVAL '1 hour', range_to, TIMESTAMPTZ '2000-01-01 00:00:00+00');
    answer double precision;
BEGIN
    IF fraction IS NULL OR fraction NOT BETWEEN 0 AND 1 THEN
        RAISE EXCEPTION 'latency_percentile: fraction is %, not within 0 and 1', fraction USING ERRCODE = '22003';
    END IF;
    IF NOT EXISTS (SELECT FROM hitherto.module_latency_hour_kept k WHERE k.module_id = id AND k.bucket >= kept_from AND k.bucket < kept_to) THEN
        SELECT percentile_cont(fraction) WITHIN GROUP (ORDER BY e.duration_ms) INTO answer
        FROM hitherto.module_execution e WHERE e.module_id = id AND e.started_at >= range_from AND e.started_at < range_to;
        RETURN answer;
    END IF;
    -- From here on as on TimescaleDB: a class is 1.94 % wide, its geometric middle stands for it.
    WITH part AS (
        SELECT c.class, c.n, k.max_ms
        FROM hitherto.module_latency_hour_kept k, unnest(k.classes, k.runs) AS c (class, n)
        WHERE k.module_id = id AND k.bucket >= kept_from AND k.bucket < kept_to
        UNION ALL
        SELECT width_bucket(ln(greatest(e.duration_ms, 1e-7)), ln(1e-6::double precision), ln(1e10::double precision), 1920) + 1, 1, e.duration_ms
        FROM hitherto.module_execution e
        WHERE e.module_id = id AND e.started_at >= range_from AND e.started_at < range_to
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
    'Percentile of a module''s duration_ms over [range_from, range_to), exact; within 1 % where retention has dropped rows of the range; fraction 0 to 1; NULL without runs';

-- Days, not chunks: cut where every bucket ends, so that no bucket is ever half dropped.
CREATE FUNCTION hitherto.retention_due(table_name text)
RETURNS TABLE (range_start timestamptz, range_end timestamptz, row_count bigint) LANGUAGE plpgsql STABLE AS $$
DECLARE
    p record;
BEGIN
    SELECT * INTO p FROM hitherto.upkeep_policy u WHERE u.table_name = retention_due.table_name AND u.drop_after IS NOT NULL;
    IF FOUND THEN
        RETURN QUERY EXECUTE format(
            'SELECT d.day, d.day + INTERVAL ''24 hours'', count(*)
             FROM hitherto.%I t, date_bin(INTERVAL ''24 hours'', t.%I, TIMESTAMPTZ ''2000-01-01 00:00:00+00'') AS d (day)
             WHERE t.%2$I < $1 GROUP BY 1 ORDER BY 1', table_name, p.time_column)
        USING date_bin(INTERVAL '24 hours', now() - p.drop_after, TIMESTAMPTZ '2000-01-01 00:00:00+00');
    END IF;
END
$$;
COMMENT ON FUNCTION hitherto.retention_due(text) IS 'Days of a table that are past its retention and have rows';

CREATE FUNCTION hitherto.retention_keep(table_name text, day timestamptz)
RETURNS void LANGUAGE plpgsql SET lock_timeout = '500ms' AS $$
DECLARE
    part tstzrange := tstzrange(day, day + INTERVAL '24 hours');
    a hitherto.aggregate;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('hitherto.retention'));
    FOR a IN SELECT * FROM hitherto.aggregate g WHERE g.source_table = retention_keep.table_name ORDER BY g.view_name LOOP
        -- Nothing is counted here: each row is, as it goes. A bucket that is kept stays as it is, for it was made of rows that are gone.
        CASE regexp_replace(a.aggregate_name, '_(minute|hour|day)_aggregate', '')
        WHEN 'module_execution' THEN
            EXECUTE format('INSERT INTO hitherto.%I SELECT bucket, module_id, 0, 0, NULL, p50_ms, p95_ms, p99_ms, max_ms, last_started_at
                            FROM hitherto.module_execution_live($1, $2, NULL) ON CONFLICT DO NOTHING', replace(a.aggregate_name, '_aggregate', '_kept'))
            USING a.bucket_width, part;
        WHEN 'health_check' THEN
            EXECUTE format('INSERT INTO hitherto.%I SELECT bucket, module_id, 0, 0, 0, NULL, p95_response_ms, max_memory_mb, 0, NULL, 0, last_checked_at
                            FROM hitherto.health_check_live($1, $2, NULL) ON CONFLICT DO NOTHING', replace(a.aggregate_name, '_aggregate', '_kept'))
            USING a.bucket_width, part;
        WHEN 'portfolio_value' THEN
            EXECUTE format('INSERT INTO hitherto.%I SELECT * FROM hitherto.portfolio_value_live($1, $2, NULL) ON CONFLICT DO NOTHING',
                           replace(a.aggregate_name, '_aggregate', '_kept'))
            USING a.bucket_width, part;
        ELSE -- all of it adds up
        END CASE;
    END LOOP;
    INSERT INTO hitherto.retention_range AS r VALUES (table_name, lower(part), upper(part)) ON CONFLICT ON CONSTRAINT retention_range_pkey DO NOTHING;
    INSERT INTO hitherto.retention_horizon AS h VALUES (table_name, upper(part))
    ON CONFLICT ON CONSTRAINT retention_horizon_pkey DO UPDATE SET dropped_before = greatest(h.dropped_before, excluded.dropped_before);
END
$$;
COMMENT ON FUNCTION hitherto.retention_keep(text, timestamptz) IS
    'Keeps of a day''s aggregates what does not add up (percentiles, first and last values) and notes that the day''s rows may go; SQLSTATE 55P03: try again';

-- The horizon never comes back down; the policy may have been loosened since. Whole days alone go.
CREATE FUNCTION hitherto.retention_until(table_name text)
RETURNS timestamptz LANGUAGE sql STABLE AS $$
    SELECT least(h.dropped_before, date_bin(INTERVAL '24 hours', now() - p.drop_after, TIMESTAMPTZ '2000-01-01 00:00:00+00'))
    FROM hitherto.retention_policy p JOIN hitherto.retention_horizon h USING (table_name)
    WHERE p.table_name = retention_until.table_name
$$;
COMMENT ON FUNCTION hitherto.retention_until(text) IS 'Rows of a table with an earlier time go; NULL: none';

CREATE FUNCTION hitherto.retention_pages(table_name text)
RETURNS TABLE (page_from bigint, page_until bigint) LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN QUERY EXECUTE format(
        'SELECT (min(t.ctid)::text::point)[0]::bigint, (max(t.ctid)::text::point)[0]::bigint + 1 FROM hitherto.%I t WHERE t.%I < $1 HAVING count(*) > 0',
        table_name, (SELECT p.time_column FROM hitherto.upkeep_policy p WHERE p.table_name = retention_pages.table_name))
    USING hitherto.retention_until(table_name);
END
$$;
COMMENT ON FUNCTION hitherto.retention_pages(text) IS 'Pages of a table that hold rows that are to go, from the first up to the last, page_until itself not included';

CREATE FUNCTION hitherto.retention_merge(aggregate_name text)
RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE regexp_replace(aggregate_name, '_(minute|hour|day)_aggregate', '')
    WHEN 'module_execution' THEN
        'executions = k.executions + excluded.executions, successes = k.successes + excluded.successes,
         sum_ms = coalesce(k.sum_ms + excluded.sum_ms, k.sum_ms, excluded.sum_ms), max_ms = greatest(k.max_ms, excluded.max_ms),
         last_started_at = greatest(k.last_started_at, excluded.last_started_at)'
    WHEN 'health_check' THEN
        'checks = k.checks + excluded.checks, healthy = k.healthy + excluded.healthy, responses = k.responses + excluded.responses,
         sum_response_ms = coalesce(k.sum_response_ms + excluded.sum_response_ms, k.sum_response_ms, excluded.sum_response_ms),
         p95_response_ms = coalesce(k.p95_response_ms, excluded.p95_response_ms), max_memory_mb = greatest(k.max_memory_mb, excluded.max_memory_mb),
         cpu_readings = k.cpu_readings + excluded.cpu_readings,
         sum_cpu_percent = coalesce(k.sum_cpu_percent + excluded.sum_cpu_percent, k.sum_cpu_percent, excluded.sum_cpu_percent),
         errors = coalesce(k.errors + excluded.errors, k.errors, excluded.errors), last_checked_at = greatest(k.last_checked_at, excluded.last_checked_at)'
    WHEN 'risk_verdict' THEN
        'evaluations = k.evaluations + excluded.evaluations, var_99_readings = k.var_99_readings + excluded.var_99_readings,
         sum_var_99 = coalesce(k.sum_var_99 + excluded.sum_var_99, k.sum_var_99, excluded.sum_var_99), max_var_99 = greatest(k.max_var_99, excluded.max_var_99)'
    WHEN 'portfolio_value' THEN
        'high = greatest(k.high, excluded.high), low = least(k.low, excluded.low), min_cash = least(k.min_cash, excluded.min_cash),
         max_drawdown = greatest(k.max_drawdown, excluded.max_drawdown)'
    WHEN 'module_latency' THEN
        'max_ms = greatest(k.max_ms, excluded.max_ms),
         (classes, runs) = (SELECT array_agg(c.class ORDER BY c.class), array_agg(c.n ORDER BY c.class)
                            FROM (SELECT u.class, sum(u.n)::bigint AS n
                                  FROM unnest(k.classes || excluded.classes, k.runs || excluded.runs) AS u (class, n) GROUP BY u.class) c)'
    END
$$;
COMMENT ON FUNCTION hitherto.retention_merge(text) IS
    'How rows that go are added to what is kept (k) of an aggregate, as the SET of an INSERT; percentiles, first and last values stay as they are kept';

-- Pages, not times: however a table's rows lie, a step looks at so many rows and no more. The planner
-- would read all of the table for a long list of ctids.
CREATE FUNCTION hitherto.retention_delete(table_name text, page_from bigint, page_until bigint)
RETURNS bigint LANGUAGE plpgsql SET enable_seqscan = off SET enable_bitmapscan = off AS $$
DECLARE
    p hitherto.upkeep_policy;
    a hitherto.aggregate;
    going tid[];
    deleted bigint;
    orders text[];
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('hitherto.retention'));
    SELECT * INTO p FROM hitherto.upkeep_policy u WHERE u.table_name = retention_delete.table_name;
    EXECUTE format('SELECT array_agg(t.ctid) FROM hitherto.%I t WHERE t.ctid >= $1 AND t.ctid < $2 AND t.%I < $3', table_name, p.time_column)
    INTO going USING format('(%s,0)', page_from)::tid, format('(%s,0)', page_until)::tid, hitherto.retention_until(table_name);
    IF going IS NULL THEN
        RETURN 0;
    END IF;
    -- What goes is added to every aggregate here and now: these rows, neither more nor fewer.
    FOR a IN SELECT * FROM hitherto.aggregate g WHERE g.source_table = retention_delete.table_name ORDER BY g.view_name LOOP
        EXECUTE format('INSERT INTO hitherto.%I AS k SELECT * FROM hitherto.%I($1, NULL, $2) ON CONFLICT ON CONSTRAINT %I DO UPDATE SET %s',
                       replace(a.aggregate_name, '_aggregate', '_kept'), regexp_replace(a.aggregate_name, '_(minute|hour|day)_aggregate', '_live'),
                       replace(a.aggregate_name, '_aggregate', '_kept_pkey'), hitherto.retention_merge(a.aggregate_name))
        USING a.bucket_width, going;
    END LOOP;
    EXECUTE format('WITH gone AS (DELETE FROM hitherto.%I WHERE ctid = ANY ($1) RETURNING %s AS order_id) SELECT count(*), array_agg(DISTINCT order_id) FROM gone',
                   table_name, CASE table_name WHEN 'order_event' THEN 'order_id' ELSE 'NULL::text' END)
    INTO deleted, orders USING going;
    IF deleted <> cardinality(going) THEN
        RAISE EXCEPTION 'somebody else deletes rows of % just now', table_name USING ERRCODE = '55P03';
    END IF;
    -- An order whose events go keeps its report as it is. Locked in the order that the fold locks in.
    IF table_name = 'order_event' THEN
        PERFORM FROM hitherto.execution_report r WHERE r.order_id = ANY (orders) ORDER BY r.order_id FOR UPDATE;
        UPDATE hitherto.execution_report r SET events_dropped = true WHERE r.order_id = ANY (orders) AND NOT r.events_dropped;
    END IF;
    RETURN deleted;
END
$$;
COMMENT ON FUNCTION hitherto.retention_delete(text, bigint, bigint) IS
    'Deletes the rows of some pages that are past the table''s retention, and adds them to what is kept of its aggregates; how many. SQLSTATE 55P03: try again';

-- Retention finds the old rows of these by time alone, too.
CREATE INDEX risk_evaluation_evaluated_at_brin ON hitherto.risk_evaluation USING brin (evaluated_at);
CREATE INDEX order_event_event_at_brin ON hitherto.order_event USING brin (event_at);

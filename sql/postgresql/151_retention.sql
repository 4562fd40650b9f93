-- Aggregates outlive raw rows here as they do on TimescaleDB: before a day goes, what each aggregate
-- says of it is put into a table, <aggregate>_kept, and the view shows the kept days and aggregates the
-- rows of all others when read.

CREATE FUNCTION hitherto.retention_live(table_name text, part tstzrange)
RETURNS tstzmultirange LANGUAGE sql STABLE AS $$
    SELECT CASE WHEN part IS NULL THEN '{(,)}' - coalesce(range_agg(tstzrange(r.range_start, r.range_end)), '{}') ELSE tstzmultirange(part) END
    FROM hitherto.retention_range r WHERE r.table_name = retention_live.table_name
$$;
COMMENT ON FUNCTION hitherto.retention_live(text, tstzrange) IS
    'When a table''s rows are aggregated when read: all times but the days that retention has dropped; or just part, if that is given';

CREATE FUNCTION hitherto.module_execution_live(width interval, part tstzrange)
RETURNS TABLE (bucket timestamptz, module_id bigint, executions bigint, successes bigint, sum_ms double precision, p50_ms double precision, p95_ms double precision,
               p99_ms double precision, max_ms double precision, last_started_at timestamptz)
LANGUAGE sql STABLE AS $$
    SELECT date_bin(width, started_at, TIMESTAMPTZ '2000-01-01 00:00:00+00'), module_id, count(*), count(*) FILTER (WHERE success), sum(duration_ms),
           percentile_cont(0.50) WITHIN GROUP (ORDER BY duration_ms), percentile_cont(0.95) WITHIN GROUP (ORDER BY duration_ms),
           percentile_cont(0.99) WITHIN GROUP (ORDER BY duration_ms), max(duration_ms), max(started_at)
    FROM hitherto.module_execution
    WHERE started_at <@ (SELECT hitherto.retention_live('module_execution', part))
      AND started_at >= coalesce(lower(part), '-infinity') AND started_at < coalesce(upper(part), 'infinity')
    GROUP BY 1, 2
$$;
COMMENT ON FUNCTION hitherto.module_execution_live(interval, tstzrange) IS 'The aggregate, made of the rows of part; of all rows that are not kept, if part is NULL';

CREATE TABLE hitherto.module_execution_minute_kept (LIKE hitherto.module_execution_minute_aggregate INCLUDING COMMENTS, CONSTRAINT module_execution_minute_kept_pkey PRIMARY KEY (bucket, module_id));
COMMENT ON TABLE hitherto.module_execution_minute_kept IS 'module_execution_minute_aggregate of days whose rows retention has dropped';
CREATE OR REPLACE VIEW hitherto.module_execution_minute_aggregate AS
SELECT * FROM hitherto.module_execution_minute_kept
UNION ALL
SELECT * FROM hitherto.module_execution_live('1 minute', NULL);

CREATE TABLE hitherto.module_execution_hour_kept (LIKE hitherto.module_execution_hour_aggregate INCLUDING COMMENTS, CONSTRAINT module_execution_hour_kept_pkey PRIMARY KEY (bucket, module_id));
COMMENT ON TABLE hitherto.module_execution_hour_kept IS 'module_execution_hour_aggregate of days whose rows retention has dropped';
CREATE OR REPLACE VIEW hitherto.module_execution_hour_aggregate AS
SELECT * FROM hitherto.module_execution_hour_kept
UNION ALL
SELECT * FROM hitherto.module_execution_live('1 hour', NULL);

CREATE TABLE hitherto.module_execution_day_kept (LIKE hitherto.module_execution_day_aggregate INCLUDING COMMENTS, CONSTRAINT module_execution_day_kept_pkey PRIMARY KEY (bucket, module_id));
COMMENT ON TABLE hitherto.module_execution_day_kept IS 'module_execution_day_aggregate of days whose rows retention has dropped';
CREATE OR REPLACE VIEW hitherto.module_execution_day_aggregate AS
SELECT * FROM hitherto.module_execution_day_kept
UNION ALL
SELECT * FROM hitherto.module_execution_live('1 day', NULL);

CREATE FUNCTION hitherto.health_check_live(width interval, part tstzrange)
RETURNS TABLE (bucket timestamptz, module_id bigint, checks bigint, healthy bigint, responses bigint, sum_response_ms double precision, p95_response_ms double precision,
               max_memory_mb double precision, cpu_readings bigint, sum_cpu_percent double precision, errors bigint, last_checked_at timestamptz)
LANGUAGE sql STABLE AS $$
    SELECT date_bin(width, checked_at, TIMESTAMPTZ '2000-01-01 00:00:00+00'), module_id, count(*), count(*) FILTER (WHERE status = 'healthy'), count(response_time_ms), sum(response_time_ms),
           percentile_cont(0.95) WITHIN GROUP (ORDER BY response_time_ms), max(memory_usage_mb), count(cpu_usage_percent), sum(cpu_usage_percent),
           sum(error_count), max(checked_at)
    FROM hitherto.health_check
    WHERE checked_at <@ (SELECT hitherto.retention_live('health_check', part))
      AND checked_at >= coalesce(lower(part), '-infinity') AND checked_at < coalesce(upper(part), 'infinity')
    GROUP BY 1, 2
$$;
COMMENT ON FUNCTION hitherto.health_check_live(interval, tstzrange) IS 'The aggregate, made of the rows of part; of all rows that are not kept, if part is NULL';

CREATE TABLE hitherto.health_check_hour_kept (LIKE hitherto.health_check_hour_aggregate INCLUDING COMMENTS, CONSTRAINT health_check_hour_kept_pkey PRIMARY KEY (bucket, module_id));
COMMENT ON TABLE hitherto.health_check_hour_kept IS 'health_check_hour_aggregate of days whose rows retention has dropped';
CREATE OR REPLACE VIEW hitherto.health_check_hour_aggregate AS
SELECT * FROM hitherto.health_check_hour_kept
UNION ALL
SELECT * FROM hitherto.health_check_live('1 hour', NULL);

CREATE TABLE hitherto.health_check_day_kept (LIKE hitherto.health_check_day_aggregate INCLUDING COMMENTS, CONSTRAINT health_check_day_kept_pkey PRIMARY KEY (bucket, module_id));
COMMENT ON TABLE hitherto.health_check_day_kept IS 'health_check_day_aggregate of days whose rows retention has dropped';
CREATE OR REPLACE VIEW hitherto.health_check_day_aggregate AS
SELECT * FROM hitherto.health_check_day_kept
UNION ALL
SELECT * FROM hitherto.health_check_live('1 day', NULL);

CREATE FUNCTION hitherto.risk_verdict_live(width interval, part tstzrange)
RETURNS TABLE (bucket timestamptz, risk_level text, verdict text, evaluations bigint, var_99_readings bigint, sum_var_99 double precision, max_var_99 double precision)
LANGUAGE sql STABLE AS $$
    SELECT date_bin(width, evaluated_at, TIMESTAMPTZ '2000-01-01 00:00:00+00'), risk_level, verdict, count(*), count(var_99), sum(var_99), max(var_99)
    FROM hitherto.risk_evaluation
    WHERE evaluated_at <@ (SELECT hitherto.retention_live('risk_evaluation', part))
      AND evaluated_at >= coalesce(lower(part), '-infinity') AND evaluated_at < coalesce(upper(part), 'infinity')
    GROUP BY 1, 2, 3
$$;
COMMENT ON FUNCTION hitherto.risk_verdict_live(interval, tstzrange) IS 'The aggregate, made of the rows of part; of all rows that are not kept, if part is NULL';

CREATE TABLE hitherto.risk_verdict_hour_kept (LIKE hitherto.risk_verdict_hour_aggregate INCLUDING COMMENTS, CONSTRAINT risk_verdict_hour_kept_pkey PRIMARY KEY (bucket, risk_level, verdict));
COMMENT ON TABLE hitherto.risk_verdict_hour_kept IS 'risk_verdict_hour_aggregate of days whose rows retention has dropped';
CREATE OR REPLACE VIEW hitherto.risk_verdict_hour_aggregate AS
SELECT * FROM hitherto.risk_verdict_hour_kept
UNION ALL
SELECT bucket, risk_level COLLATE "C", verdict COLLATE "C", evaluations, var_99_readings, sum_var_99, max_var_99 FROM hitherto.risk_verdict_live('1 hour', NULL);

CREATE TABLE hitherto.risk_verdict_day_kept (LIKE hitherto.risk_verdict_day_aggregate INCLUDING COMMENTS, CONSTRAINT risk_verdict_day_kept_pkey PRIMARY KEY (bucket, risk_level, verdict));
COMMENT ON TABLE hitherto.risk_verdict_day_kept IS 'risk_verdict_day_aggregate of days whose rows retention has dropped';
CREATE OR REPLACE VIEW hitherto.risk_verdict_day_aggregate AS
SELECT * FROM hitherto.risk_verdict_day_kept
UNION ALL
SELECT bucket, risk_level COLLATE "C", verdict COLLATE "C", evaluations, var_99_readings, sum_var_99, max_var_99 FROM hitherto.risk_verdict_live('1 day', NULL);

CREATE FUNCTION hitherto.portfolio_value_live(width interval, part tstzrange)
RETURNS TABLE (bucket timestamptz, open numeric, high numeric, low numeric, close numeric, min_cash numeric, max_drawdown double precision)
LANGUAGE sql STABLE AS $$
    SELECT date_bin(width, taken_at, TIMESTAMPTZ '2000-01-01 00:00:00+00'), (array_agg(total_value ORDER BY taken_at, snapshot_id))[1], max(total_value), min(total_value),
           (array_agg(total_value ORDER BY taken_at DESC, snapshot_id DESC))[1], min(cash_balance),
           hitherto.max_drawdown(total_value ORDER BY taken_at, snapshot_id)
    FROM hitherto.portfolio_snapshot
    WHERE taken_at <@ (SELECT hitherto.retention_live('portfolio_snapshot', part))
      AND taken_at >= coalesce(lower(part), '-infinity') AND taken_at < coalesce(upper(part), 'infinity')
    GROUP BY 1
$$;
COMMENT ON FUNCTION hitherto.portfolio_value_live(interval, tstzrange) IS 'The aggregate, made of the rows of part; of all rows that are not kept, if part is NULL';

CREATE TABLE hitherto.portfolio_value_hour_kept (LIKE hitherto.portfolio_value_hour_aggregate INCLUDING COMMENTS, CONSTRAINT portfolio_value_hour_kept_pkey PRIMARY KEY (bucket));
COMMENT ON TABLE hitherto.portfolio_value_hour_kept IS 'portfolio_value_hour_aggregate of days whose rows retention has dropped';
CREATE OR REPLACE VIEW hitherto.portfolio_value_hour_aggregate AS
SELECT * FROM hitherto.portfolio_value_hour_kept
UNION ALL
SELECT * FROM hitherto.portfolio_value_live('1 hour', NULL);

CREATE TABLE hitherto.portfolio_value_day_kept (LIKE hitherto.portfolio_value_day_aggregate INCLUDING COMMENTS, CONSTRAINT portfolio_value_day_kept_pkey PRIMARY KEY (bucket));
COMMENT ON TABLE hitherto.portfolio_value_day_kept IS 'portfolio_value_day_aggregate of days whose rows retention has dropped';
CREATE OR REPLACE VIEW hitherto.portfolio_value_day_aggregate AS
SELECT * FROM hitherto.portfolio_value_day_kept
UNION ALL
SELECT * FROM hitherto.portfolio_value_live('1 day', NULL);

-- What latency_percentile needs of them: runs by class of duration, the classes that TimescaleDB's
-- module_latency_hour_aggregate counts.
CREATE FUNCTION hitherto.module_latency_live(width interval, part tstzrange)
RETURNS TABLE (bucket timestamptz, module_id bigint, max_ms double precision, classes integer[], runs bigint[])
LANGUAGE sql STABLE AS $$
    SELECT c.bucket, c.module_id, max(c.max_ms), array_agg(c.class ORDER BY c.class), array_agg(c.runs ORDER BY c.class)
    FROM (SELECT date_bin(width, started_at, TIMESTAMPTZ '2000-01-01 00:00:00+00') AS bucket, module_id,
                 width_bucket(ln(greatest(duration_ms, 1e-7)), ln(1e-6::double precision), ln(1e10::double precision), 1920) + 1 AS class,
                 count(*) AS runs, max(duration_ms) AS max_ms
          FROM hitherto.module_execution
          WHERE started_at <@ (SELECT hitherto.retention_live('module_execution', part))
            AND started_at >= coalesce(lower(part), '-infinity') AND started_at < coalesce(upper(part), 'infinity')
          GROUP BY 1, 2, 3) c
    GROUP BY 1, 2
$$;
COMMENT ON FUNCTION hitherto.module_latency_live(interval, tstzrange) IS 'Runs by class of duration, made of the rows of part; of all rows that are not kept, if part is NULL';

CREATE TABLE hitherto.module_latency_hour_kept (
    bucket     timestamptz      NOT NULL,
    module_id  bigint           NOT NULL,
    max_ms     double precision NOT NULL,
    classes    integer[]        NOT NULL,
    runs       bigint[]         NOT NULL,
    CONSTRAINT module_latency_hour_kept_pkey PRIMARY KEY (bucket, module_id)
);
COMMENT ON TABLE hitherto.module_latency_hour_kept IS 'Runs by class of duration, of days whose rows retention has dropped: for latency_percentile';
COMMENT ON COLUMN hitherto.module_latency_hour_kept.bucket IS 'Start of the bucket, UTC';
COMMENT ON COLUMN hitherto.module_latency_hour_kept.module_id IS 'Module';
COMMENT ON COLUMN hitherto.module_latency_hour_kept.max_ms IS 'Longest duration, milliseconds';
COMMENT ON COLUMN hitherto.module_latency_hour_kept.classes IS 'Classes that have runs: 1 below 1e-6 ms, then 1,920 of equal width in ln, 1922 from 1e10 ms on';
COMMENT ON COLUMN hitherto.module_latency_hour_kept.runs IS 'Runs in each of these classes';

CREATE OR REPLACE FUNCTION hitherto.latency_percentile(fraction double precision, module text, range_from timestamptz, range_to timestamptz)
RETURNS double precision LANGUAGE plpgsql STABLE AS $$
DECLARE
    id bigint := (SELECT m.module_id FROM hitherto.module m WHERE m.name = latency_percentile.module);
    live tstzmultirange := hitherto.retention_live('module_execution', NULL);
    kept_from timestamptz := date_bin(INTERVAL '1 hour', range_from + INTERVAL '1 hour' - INTERVAL '1 microsecond', TIMESTAMPTZ '2000-01-01 00:00:00+00');
    kept_to timestamptz := date_bin(INTERVAL '1 hour', range_to, TIMESTAMPTZ '2000-01-01 00:00:00+00');
    answer double precision;
BEGIN
    IF fraction IS NULL OR fraction NOT BETWEEN 0 AND 1 THEN
        RAISE EXCEPTION 'latency_percentile: fraction is %, not within 0 and 1', fraction USING ERRCODE = '22003';
    END IF;
    IF NOT EXISTS (SELECT FROM hitherto.module_latency_hour_kept k WHERE k.module_id = id AND k.bucket >= kept_from AND k.bucket < kept_to) THEN
        SELECT percentile_cont(fraction) WITHIN GROUP (ORDER BY e.duration_ms) INTO answer
        FROM hitherto.module_execution e WHERE e.module_id = id AND e.started_at >= range_from AND e.started_at < range_to AND e.started_at <@ live;
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
        WHERE e.module_id = id AND e.started_at >= range_from AND e.started_at < range_to AND e.started_at <@ live
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

-- Readers and writers go on while the aggregates are made; only at the end, for a look at the ledger,
-- nobody can write. A batch that came meanwhile, or a lock that is not to be had: the caller tries again.
CREATE FUNCTION hitherto.retention_keep(table_name text, day timestamptz)
RETURNS void LANGUAGE plpgsql SET lock_timeout = '500ms' AS $$
DECLARE
    part tstzrange := tstzrange(day, day + INTERVAL '24 hours');
    seen pg_snapshot;
    a hitherto.aggregate;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('hitherto.retention'));
    seen := pg_current_snapshot();
    FOR a IN SELECT * FROM hitherto.aggregate g WHERE g.source_table = retention_keep.table_name ORDER BY g.view_name LOOP
        -- A bucket that is kept stays as it is: it was made of rows that are gone.
        EXECUTE format('INSERT INTO hitherto.%I SELECT l.* FROM hitherto.%I($1, $2) l WHERE NOT EXISTS (SELECT FROM hitherto.%1$I k WHERE k.bucket = l.bucket)',
                       replace(a.aggregate_name, '_aggregate', '_kept'), regexp_replace(a.aggregate_name, '_(minute|hour|day)_aggregate', '_live'))
        USING a.bucket_width, part;
    END LOOP;
    EXECUTE format('LOCK TABLE hitherto.%I IN SHARE ROW EXCLUSIVE MODE', table_name);
    IF EXISTS (SELECT FROM hitherto.ingest_batch b
               WHERE b.table_name = retention_keep.table_name AND b.xid >= pg_snapshot_xmin(seen) AND NOT pg_visible_in_snapshot(b.xid, seen)
                 AND b.min_time < upper(part) AND b.max_time >= lower(part)) THEN
        RAISE EXCEPTION 'late rows of % came in just now', table_name USING ERRCODE = '55P03';
    END IF;
    INSERT INTO hitherto.retention_range AS r VALUES (table_name, lower(part), upper(part)) ON CONFLICT ON CONSTRAINT retention_range_pkey DO NOTHING;
    INSERT INTO hitherto.retention_horizon AS h VALUES (table_name, upper(part))
    ON CONFLICT ON CONSTRAINT retention_horizon_pkey DO UPDATE SET dropped_before = greatest(h.dropped_before, excluded.dropped_before);
END
$$;
COMMENT ON FUNCTION hitherto.retention_keep(text, timestamptz) IS
    'Keeps what the aggregates say of a day and notes that the day''s rows may go; SQLSTATE 55P03 when somebody wrote to it just then: try again';

CREATE FUNCTION hitherto.retention_delete(table_name text, range_from timestamptz, range_until timestamptz, at_most bigint)
RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    p hitherto.upkeep_policy;
    -- The horizon never comes back down; the policy may have been loosened since.
    until timestamptz := (SELECT least(range_until, h.dropped_before, now() - r.drop_after)
                          FROM hitherto.retention_policy r JOIN hitherto.retention_horizon h USING (table_name)
                          WHERE r.table_name = retention_delete.table_name);
    finest hitherto.aggregate;
    deleted bigint;
    orders text[];
BEGIN
    SELECT * INTO p FROM hitherto.upkeep_policy u WHERE u.table_name = retention_delete.table_name;
    SELECT * INTO finest FROM hitherto.aggregate a WHERE a.source_table = retention_delete.table_name ORDER BY a.bucket_width, a.view_name LIMIT 1;
    -- A row goes only when its bucket is kept: one that came after that waits for the next run.
    EXECUTE format(
        'WITH gone AS (DELETE FROM hitherto.%1$I WHERE ctid = ANY (ARRAY(
             SELECT t.ctid FROM hitherto.%1$I t WHERE t.%2$I >= $1 AND t.%2$I < $2 %3$s LIMIT $3)) RETURNING %4$s AS order_id)
         SELECT count(*), array_agg(DISTINCT order_id) FROM gone',
        table_name, p.time_column,
        CASE WHEN finest.aggregate_name IS NOT NULL THEN
            format('AND EXISTS (SELECT FROM hitherto.%I k WHERE k.bucket = date_bin(%L, t.%I, TIMESTAMPTZ ''2000-01-01 00:00:00+00''))',
                   replace(finest.aggregate_name, '_aggregate', '_kept'), finest.bucket_width, p.time_column) END,
        CASE table_name WHEN 'order_event' THEN 'order_id' ELSE 'NULL::text' END)
    INTO deleted, orders USING range_from, until, at_most;
    -- An order whose events go keeps its report as it is. Locked in the order that the fold locks in.
    IF table_name = 'order_event' AND deleted > 0 THEN
        PERFORM FROM hitherto.execution_report r WHERE r.order_id = ANY (orders) ORDER BY r.order_id FOR UPDATE;
        UPDATE hitherto.execution_report r SET events_dropped = true WHERE r.order_id = ANY (orders) AND NOT r.events_dropped;
    END IF;
    RETURN deleted;
END
$$;
COMMENT ON FUNCTION hitherto.retention_delete(text, timestamptz, timestamptz, bigint) IS
    'Deletes rows of a range that are past the table''s retention and whose aggregates are kept, a number of them at most; how many it deleted';

-- Retention finds the old rows of these by time alone, too.
CREATE INDEX risk_evaluation_evaluated_at_brin ON hitherto.risk_evaluation USING brin (evaluated_at);
CREATE INDEX order_event_event_at_brin ON hitherto.order_event USING brin (event_at);

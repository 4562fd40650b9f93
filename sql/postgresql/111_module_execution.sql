-- Computed when read: the same columns as the continuous aggregates of the same names.
CREATE VIEW hitherto.module_execution_minute_aggregate AS
SELECT date_bin(INTERVAL '1 minute', started_at, TIMESTAMPTZ '2000-01-01 00:00:00+00') AS bucket, module_id,
       count(*) AS executions,
       count(*) FILTER (WHERE success) AS successes,
       sum(duration_ms) AS sum_ms,
       percentile_cont(0.50) WITHIN GROUP (ORDER BY duration_ms) AS p50_ms,
       percentile_cont(0.95) WITHIN GROUP (ORDER BY duration_ms) AS p95_ms,
       percentile_cont(0.99) WITHIN GROUP (ORDER BY duration_ms) AS p99_ms,
       max(duration_ms) AS max_ms,
       max(started_at) AS last_started_at
FROM hitherto.module_execution
GROUP BY 1, 2;

CREATE VIEW hitherto.module_execution_hour_aggregate AS
SELECT date_bin(INTERVAL '1 hour', started_at, TIMESTAMPTZ '2000-01-01 00:00:00+00') AS bucket, module_id,
       count(*) AS executions,
       count(*) FILTER (WHERE success) AS successes,
       sum(duration_ms) AS sum_ms,
       percentile_cont(0.50) WITHIN GROUP (ORDER BY duration_ms) AS p50_ms,
       percentile_cont(0.95) WITHIN GROUP (ORDER BY duration_ms) AS p95_ms,
       percentile_cont(0.99) WITHIN GROUP (ORDER BY duration_ms) AS p99_ms,
       max(duration_ms) AS max_ms,
       max(started_at) AS last_started_at
FROM hitherto.module_execution
GROUP BY 1, 2;

CREATE VIEW hitherto.module_execution_day_aggregate AS
SELECT date_bin(INTERVAL '1 day', started_at, TIMESTAMPTZ '2000-01-01 00:00:00+00') AS bucket, module_id,
       count(*) AS executions,
       count(*) FILTER (WHERE success) AS successes,
       sum(duration_ms) AS sum_ms,
       percentile_cont(0.50) WITHIN GROUP (ORDER BY duration_ms) AS p50_ms,
       percentile_cont(0.95) WITHIN GROUP (ORDER BY duration_ms) AS p95_ms,
       percentile_cont(0.99) WITHIN GROUP (ORDER BY duration_ms) AS p99_ms,
       max(duration_ms) AS max_ms,
       max(started_at) AS last_started_at
FROM hitherto.module_execution
GROUP BY 1, 2;

COMMENT ON VIEW hitherto.module_execution_minute_aggregate IS 'Parts that the views are made of';
COMMENT ON COLUMN hitherto.module_execution_minute_aggregate.bucket IS 'Start of the bucket, UTC';
COMMENT ON COLUMN hitherto.module_execution_minute_aggregate.executions IS 'Runs';
COMMENT ON COLUMN hitherto.module_execution_minute_aggregate.successes IS 'Runs that succeeded';
COMMENT ON COLUMN hitherto.module_execution_minute_aggregate.sum_ms IS 'Sum of durations, milliseconds';
COMMENT ON COLUMN hitherto.module_execution_minute_aggregate.p50_ms IS 'Median duration, milliseconds, exact';
COMMENT ON COLUMN hitherto.module_execution_minute_aggregate.p95_ms IS '95th percentile of the duration, milliseconds, exact';
COMMENT ON COLUMN hitherto.module_execution_minute_aggregate.p99_ms IS '99th percentile of the duration, milliseconds, exact';
COMMENT ON COLUMN hitherto.module_execution_minute_aggregate.max_ms IS 'Longest duration, milliseconds';
COMMENT ON COLUMN hitherto.module_execution_minute_aggregate.last_started_at IS 'When the latest run began';
COMMENT ON COLUMN hitherto.module_execution_minute_aggregate.module_id IS 'Module';

COMMENT ON VIEW hitherto.module_execution_hour_aggregate IS 'Parts that the views are made of';
COMMENT ON COLUMN hitherto.module_execution_hour_aggregate.bucket IS 'Start of the bucket, UTC';
COMMENT ON COLUMN hitherto.module_execution_hour_aggregate.executions IS 'Runs';
COMMENT ON COLUMN hitherto.module_execution_hour_aggregate.successes IS 'Runs that succeeded';
COMMENT ON COLUMN hitherto.module_execution_hour_aggregate.sum_ms IS 'Sum of durations, milliseconds';
COMMENT ON COLUMN hitherto.module_execution_hour_aggregate.p50_ms IS 'Median duration, milliseconds, exact';
COMMENT ON COLUMN hitherto.module_execution_hour_aggregate.p95_ms IS '95th percentile of the duration, milliseconds, exact';
COMMENT ON COLUMN hitherto.module_execution_hour_aggregate.p99_ms IS '99th percentile of the duration, milliseconds, exact';
COMMENT ON COLUMN hitherto.module_execution_hour_aggregate.max_ms IS 'Longest duration, milliseconds';
COMMENT ON COLUMN hitherto.module_execution_hour_aggregate.last_started_at IS 'When the latest run began';
COMMENT ON COLUMN hitherto.module_execution_hour_aggregate.module_id IS 'Module';

COMMENT ON VIEW hitherto.module_execution_day_aggregate IS 'Parts that the views are made of';
COMMENT ON COLUMN hitherto.module_execution_day_aggregate.bucket IS 'Start of the bucket, UTC';
COMMENT ON COLUMN hitherto.module_execution_day_aggregate.executions IS 'Runs';
COMMENT ON COLUMN hitherto.module_execution_day_aggregate.successes IS 'Runs that succeeded';
COMMENT ON COLUMN hitherto.module_execution_day_aggregate.sum_ms IS 'Sum of durations, milliseconds';
COMMENT ON COLUMN hitherto.module_execution_day_aggregate.p50_ms IS 'Median duration, milliseconds, exact';
COMMENT ON COLUMN hitherto.module_execution_day_aggregate.p95_ms IS '95th percentile of the duration, milliseconds, exact';
COMMENT ON COLUMN hitherto.module_execution_day_aggregate.p99_ms IS '99th percentile of the duration, milliseconds, exact';
COMMENT ON COLUMN hitherto.module_execution_day_aggregate.max_ms IS 'Longest duration, milliseconds';
COMMENT ON COLUMN hitherto.module_execution_day_aggregate.last_started_at IS 'When the latest run began';
COMMENT ON COLUMN hitherto.module_execution_day_aggregate.module_id IS 'Module';

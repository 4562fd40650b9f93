SELECT create_hypertable('hitherto.module_execution', by_range('started_at', INTERVAL '1 day'), create_default_indexes => false);
ALTER TABLE hitherto.module_execution SET (timescaledb.enable_columnstore, timescaledb.segmentby = 'module_id', timescaledb.orderby = 'started_at');
CALL add_columnstore_policy('hitherto.module_execution', after => INTERVAL '7 days');

-- Percentiles do not merge: each level reads the raw rows and is exact in its buckets.
CREATE MATERIALIZED VIEW hitherto.module_execution_minute_aggregate
WITH (timescaledb.continuous, timescaledb.materialized_only = false) AS
SELECT time_bucket(INTERVAL '1 minute', started_at) AS bucket, module_id,
       count(*) AS executions,
       count(*) FILTER (WHERE success) AS successes,
       sum(duration_ms) AS sum_ms,
       percentile_cont(0.50) WITHIN GROUP (ORDER BY duration_ms) AS p50_ms,
       percentile_cont(0.95) WITHIN GROUP (ORDER BY duration_ms) AS p95_ms,
       percentile_cont(0.99) WITHIN GROUP (ORDER BY duration_ms) AS p99_ms,
       max(duration_ms) AS max_ms,
       max(started_at) AS last_started_at
FROM hitherto.module_execution
GROUP BY 1, 2
WITH NO DATA;

CREATE MATERIALIZED VIEW hitherto.module_execution_hour_aggregate
WITH (timescaledb.continuous, timescaledb.materialized_only = false) AS
SELECT time_bucket(INTERVAL '1 hour', started_at) AS bucket, module_id,
       count(*) AS executions,
       count(*) FILTER (WHERE success) AS successes,
       sum(duration_ms) AS sum_ms,
       percentile_cont(0.50) WITHIN GROUP (ORDER BY duration_ms) AS p50_ms,
       percentile_cont(0.95) WITHIN GROUP (ORDER BY duration_ms) AS p95_ms,
       percentile_cont(0.99) WITHIN GROUP (ORDER BY duration_ms) AS p99_ms,
       max(duration_ms) AS max_ms,
       max(started_at) AS last_started_at
FROM hitherto.module_execution
GROUP BY 1, 2
WITH NO DATA;

CREATE MATERIALIZED VIEW hitherto.module_execution_day_aggregate
WITH (timescaledb.continuous, timescaledb.materialized_only = false) AS
SELECT time_bucket(INTERVAL '1 day', started_at) AS bucket, module_id,
       count(*) AS executions,
       count(*) FILTER (WHERE success) AS successes,
       sum(duration_ms) AS sum_ms,
       percentile_cont(0.50) WITHIN GROUP (ORDER BY duration_ms) AS p50_ms,
       percentile_cont(0.95) WITHIN GROUP (ORDER BY duration_ms) AS p95_ms,
       percentile_cont(0.99) WITHIN GROUP (ORDER BY duration_ms) AS p99_ms,
       max(duration_ms) AS max_ms,
       max(started_at) AS last_started_at
FROM hitherto.module_execution
GROUP BY 1, 2
WITH NO DATA;

-- The mergeable part of latencies: counts in 1,920 classes of equal width in ln, each 1.94 % wide,
-- from 1e-6 ms to 1e10 ms. What lies below the first class (zero among it) and past the last has
-- a class of its own at either end.
CREATE MATERIALIZED VIEW hitherto.module_latency_hour_aggregate
WITH (timescaledb.continuous, timescaledb.materialized_only = false) AS
SELECT time_bucket(INTERVAL '1 hour', started_at) AS bucket, module_id,
       count(*) AS executions,
       max(duration_ms) AS max_ms,
       histogram(ln(greatest(duration_ms, 1e-7)), ln(1e-6::double precision), ln(1e10::double precision), 1920) AS classes
FROM hitherto.module_execution
GROUP BY 1, 2
WITH NO DATA;

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

COMMENT ON VIEW hitherto.module_latency_hour_aggregate IS 'Parts that the views are made of';
COMMENT ON COLUMN hitherto.module_latency_hour_aggregate.bucket IS 'Start of the bucket, UTC';
COMMENT ON COLUMN hitherto.module_latency_hour_aggregate.executions IS 'Runs';
COMMENT ON COLUMN hitherto.module_latency_hour_aggregate.max_ms IS 'Longest duration, milliseconds';
COMMENT ON COLUMN hitherto.module_latency_hour_aggregate.classes IS 'Runs by class of duration: below 1e-6 ms, 1,920 classes of equal width in ln, 1e10 ms and above';
COMMENT ON COLUMN hitherto.module_latency_hour_aggregate.module_id IS 'Module';

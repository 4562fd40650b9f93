SELECT create_hypertable('hitherto.health_check', by_range('checked_at', INTERVAL '1 day'), create_default_indexes => false);
ALTER TABLE hitherto.health_check SET (timescaledb.enable_columnstore, timescaledb.segmentby = 'module_id', timescaledb.orderby = 'checked_at');
CALL add_columnstore_policy('hitherto.health_check', after => INTERVAL '7 days');

CREATE MATERIALIZED VIEW hitherto.health_check_hour_aggregate
WITH (timescaledb.continuous, timescaledb.materialized_only = false) AS
SELECT time_bucket(INTERVAL '1 hour', checked_at) AS bucket, module_id,
       count(*) AS checks,
       count(*) FILTER (WHERE status = 'healthy') AS healthy,
       count(response_time_ms) AS responses,
       sum(response_time_ms) AS sum_response_ms,
       percentile_cont(0.95) WITHIN GROUP (ORDER BY response_time_ms) AS p95_response_ms,
       max(memory_usage_mb) AS max_memory_mb,
       count(cpu_usage_percent) AS cpu_readings,
       sum(cpu_usage_percent) AS sum_cpu_percent,
       sum(error_count) AS errors,
       max(checked_at) AS last_checked_at
FROM hitherto.health_check
GROUP BY 1, 2
WITH NO DATA;

CREATE MATERIALIZED VIEW hitherto.health_check_day_aggregate
WITH (timescaledb.continuous, timescaledb.materialized_only = false) AS
SELECT time_bucket(INTERVAL '1 day', checked_at) AS bucket, module_id,
       count(*) AS checks,
       count(*) FILTER (WHERE status = 'healthy') AS healthy,
       count(response_time_ms) AS responses,
       sum(response_time_ms) AS sum_response_ms,
       percentile_cont(0.95) WITHIN GROUP (ORDER BY response_time_ms) AS p95_response_ms,
       max(memory_usage_mb) AS max_memory_mb,
       count(cpu_usage_percent) AS cpu_readings,
       sum(cpu_usage_percent) AS sum_cpu_percent,
       sum(error_count) AS errors,
       max(checked_at) AS last_checked_at
FROM hitherto.health_check
GROUP BY 1, 2
WITH NO DATA;

COMMENT ON VIEW hitherto.health_check_hour_aggregate IS 'Parts that the views are made of';
COMMENT ON COLUMN hitherto.health_check_hour_aggregate.bucket IS 'Start of the bucket, UTC';
COMMENT ON COLUMN hitherto.health_check_hour_aggregate.checks IS 'Checks';
COMMENT ON COLUMN hitherto.health_check_hour_aggregate.healthy IS 'Checks that said healthy';
COMMENT ON COLUMN hitherto.health_check_hour_aggregate.responses IS 'Checks with a response time';
COMMENT ON COLUMN hitherto.health_check_hour_aggregate.sum_response_ms IS 'Sum of response times, milliseconds';
COMMENT ON COLUMN hitherto.health_check_hour_aggregate.p95_response_ms IS '95th percentile of the response time, milliseconds, exact';
COMMENT ON COLUMN hitherto.health_check_hour_aggregate.max_memory_mb IS 'Largest resident memory, megabytes';
COMMENT ON COLUMN hitherto.health_check_hour_aggregate.cpu_readings IS 'Checks with a CPU reading';
COMMENT ON COLUMN hitherto.health_check_hour_aggregate.sum_cpu_percent IS 'Sum of CPU readings, percent';
COMMENT ON COLUMN hitherto.health_check_hour_aggregate.errors IS 'Errors counted';
COMMENT ON COLUMN hitherto.health_check_hour_aggregate.last_checked_at IS 'Latest check';
COMMENT ON COLUMN hitherto.health_check_hour_aggregate.module_id IS 'Module';

COMMENT ON VIEW hitherto.health_check_day_aggregate IS 'Parts that the views are made of';
COMMENT ON COLUMN hitherto.health_check_day_aggregate.bucket IS 'Start of the bucket, UTC';
COMMENT ON COLUMN hitherto.health_check_day_aggregate.checks IS 'Checks';
COMMENT ON COLUMN hitherto.health_check_day_aggregate.healthy IS 'Checks that said healthy';
COMMENT ON COLUMN hitherto.health_check_day_aggregate.responses IS 'Checks with a response time';
COMMENT ON COLUMN hitherto.health_check_day_aggregate.sum_response_ms IS 'Sum of response times, milliseconds';
COMMENT ON COLUMN hitherto.health_check_day_aggregate.p95_response_ms IS '95th percentile of the response time, milliseconds, exact';
COMMENT ON COLUMN hitherto.health_check_day_aggregate.max_memory_mb IS 'Largest resident memory, megabytes';
COMMENT ON COLUMN hitherto.health_check_day_aggregate.cpu_readings IS 'Checks with a CPU reading';
COMMENT ON COLUMN hitherto.health_check_day_aggregate.sum_cpu_percent IS 'Sum of CPU readings, percent';
COMMENT ON COLUMN hitherto.health_check_day_aggregate.errors IS 'Errors counted';
COMMENT ON COLUMN hitherto.health_check_day_aggregate.last_checked_at IS 'Latest check';
COMMENT ON COLUMN hitherto.health_check_day_aggregate.module_id IS 'Module';

-- Computed when read: the same columns as the continuous aggregates of the same names.
CREATE VIEW hitherto.health_check_hour_aggregate AS
SELECT date_bin(INTERVAL '1 hour', checked_at, TIMESTAMPTZ '2000-01-01 00:00:00+00') AS bucket, module_id,
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
GROUP BY 1, 2;

CREATE VIEW hitherto.health_check_day_aggregate AS
SELECT date_bin(INTERVAL '1 day', checked_at, TIMESTAMPTZ '2000-01-01 00:00:00+00') AS bucket, module_id,
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
GROUP BY 1, 2;

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

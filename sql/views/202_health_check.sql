CREATE OR REPLACE VIEW hitherto.health_check_hour AS
SELECT a.bucket, m.name AS module, a.checks, a.healthy, a.healthy::double precision / a.checks AS availability,
       a.sum_response_ms / nullif(a.responses, 0) AS mean_response_ms, a.p95_response_ms, a.max_memory_mb,
       a.sum_cpu_percent / nullif(a.cpu_readings, 0) AS mean_cpu_percent, a.errors
FROM hitherto.health_check_hour_aggregate a JOIN hitherto.module m USING (module_id);

CREATE OR REPLACE VIEW hitherto.health_check_day AS
SELECT a.bucket, m.name AS module, a.checks, a.healthy, a.healthy::double precision / a.checks AS availability,
       a.sum_response_ms / nullif(a.responses, 0) AS mean_response_ms, a.p95_response_ms, a.max_memory_mb,
       a.sum_cpu_percent / nullif(a.cpu_readings, 0) AS mean_cpu_percent, a.errors
FROM hitherto.health_check_day_aggregate a JOIN hitherto.module m USING (module_id);

COMMENT ON VIEW hitherto.health_check_hour IS 'Health checks by hour and module';
COMMENT ON COLUMN hitherto.health_check_hour.bucket IS 'Start of the bucket, UTC';
COMMENT ON COLUMN hitherto.health_check_hour.module IS 'Module';
COMMENT ON COLUMN hitherto.health_check_hour.checks IS 'Checks';
COMMENT ON COLUMN hitherto.health_check_hour.healthy IS 'Checks that said healthy';
COMMENT ON COLUMN hitherto.health_check_hour.availability IS 'healthy over checks, 0 to 1';
COMMENT ON COLUMN hitherto.health_check_hour.mean_response_ms IS 'Mean response time, milliseconds';
COMMENT ON COLUMN hitherto.health_check_hour.p95_response_ms IS '95th percentile of the response time, milliseconds, exact';
COMMENT ON COLUMN hitherto.health_check_hour.max_memory_mb IS 'Largest resident memory, megabytes';
COMMENT ON COLUMN hitherto.health_check_hour.mean_cpu_percent IS 'Mean CPU, percent of one core';
COMMENT ON COLUMN hitherto.health_check_hour.errors IS 'Errors counted';
COMMENT ON VIEW hitherto.health_check_day IS 'Health checks by day and module';
COMMENT ON COLUMN hitherto.health_check_day.bucket IS 'Start of the bucket, UTC';
COMMENT ON COLUMN hitherto.health_check_day.module IS 'Module';
COMMENT ON COLUMN hitherto.health_check_day.checks IS 'Checks';
COMMENT ON COLUMN hitherto.health_check_day.healthy IS 'Checks that said healthy';
COMMENT ON COLUMN hitherto.health_check_day.availability IS 'healthy over checks, 0 to 1';
COMMENT ON COLUMN hitherto.health_check_day.mean_response_ms IS 'Mean response time, milliseconds';
COMMENT ON COLUMN hitherto.health_check_day.p95_response_ms IS '95th percentile of the response time, milliseconds, exact';
COMMENT ON COLUMN hitherto.health_check_day.max_memory_mb IS 'Largest resident memory, megabytes';
COMMENT ON COLUMN hitherto.health_check_day.mean_cpu_percent IS 'Mean CPU, percent of one core';
COMMENT ON COLUMN hitherto.health_check_day.errors IS 'Errors counted';

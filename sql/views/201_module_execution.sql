CREATE OR REPLACE VIEW hitherto.module_execution_minute AS
SELECT a.bucket, m.name AS module, a.executions, a.successes, a.executions - a.successes AS failures,
       a.successes::double precision / a.executions AS success_rate, a.sum_ms / a.executions AS mean_ms,
       a.p50_ms, a.p95_ms, a.p99_ms, a.max_ms
FROM hitherto.module_execution_minute_aggregate a JOIN hitherto.module m USING (module_id);

CREATE OR REPLACE VIEW hitherto.module_execution_hour AS
SELECT a.bucket, m.name AS module, a.executions, a.successes, a.executions - a.successes AS failures,
       a.successes::double precision / a.executions AS success_rate, a.sum_ms / a.executions AS mean_ms,
       a.p50_ms, a.p95_ms, a.p99_ms, a.max_ms
FROM hitherto.module_execution_hour_aggregate a JOIN hitherto.module m USING (module_id);

CREATE OR REPLACE VIEW hitherto.module_execution_day AS
SELECT a.bucket, m.name AS module, a.executions, a.successes, a.executions - a.successes AS failures,
       a.successes::double precision / a.executions AS success_rate, a.sum_ms / a.executions AS mean_ms,
       a.p50_ms, a.p95_ms, a.p99_ms, a.max_ms
FROM hitherto.module_execution_day_aggregate a JOIN hitherto.module m USING (module_id);

COMMENT ON VIEW hitherto.module_execution_minute IS 'Runs by minute and module';
COMMENT ON COLUMN hitherto.module_execution_minute.bucket IS 'Start of the bucket, UTC';
COMMENT ON COLUMN hitherto.module_execution_minute.module IS 'Module';
COMMENT ON COLUMN hitherto.module_execution_minute.executions IS 'Runs';
COMMENT ON COLUMN hitherto.module_execution_minute.successes IS 'Runs that succeeded';
COMMENT ON COLUMN hitherto.module_execution_minute.failures IS 'Runs that failed';
COMMENT ON COLUMN hitherto.module_execution_minute.success_rate IS 'successes over executions, 0 to 1';
COMMENT ON COLUMN hitherto.module_execution_minute.mean_ms IS 'Mean duration, milliseconds';
COMMENT ON COLUMN hitherto.module_execution_minute.p50_ms IS 'Median duration, milliseconds, exact';
COMMENT ON COLUMN hitherto.module_execution_minute.p95_ms IS '95th percentile of the duration, milliseconds, exact';
COMMENT ON COLUMN hitherto.module_execution_minute.p99_ms IS '99th percentile of the duration, milliseconds, exact';
COMMENT ON COLUMN hitherto.module_execution_minute.max_ms IS 'Longest duration, milliseconds';
COMMENT ON VIEW hitherto.module_execution_hour IS 'Runs by hour and module';
COMMENT ON COLUMN hitherto.module_execution_hour.bucket IS 'Start of the bucket, UTC';
COMMENT ON COLUMN hitherto.module_execution_hour.module IS 'Module';
COMMENT ON COLUMN hitherto.module_execution_hour.executions IS 'Runs';
COMMENT ON COLUMN hitherto.module_execution_hour.successes IS 'Runs that succeeded';
COMMENT ON COLUMN hitherto.module_execution_hour.failures IS 'Runs that failed';
COMMENT ON COLUMN hitherto.module_execution_hour.success_rate IS 'successes over executions, 0 to 1';
COMMENT ON COLUMN hitherto.module_execution_hour.mean_ms IS 'Mean duration, milliseconds';
COMMENT ON COLUMN hitherto.module_execution_hour.p50_ms IS 'Median duration, milliseconds, exact';
COMMENT ON COLUMN hitherto.module_execution_hour.p95_ms IS '95th percentile of the duration, milliseconds, exact';
COMMENT ON COLUMN hitherto.module_execution_hour.p99_ms IS '99th percentile of the duration, milliseconds, exact';
COMMENT ON COLUMN hitherto.module_execution_hour.max_ms IS 'Longest duration, milliseconds';
COMMENT ON VIEW hitherto.module_execution_day IS 'Runs by day and module';
COMMENT ON COLUMN hitherto.module_execution_day.bucket IS 'Start of the bucket, UTC';
COMMENT ON COLUMN hitherto.module_execution_day.module IS 'Module';
COMMENT ON COLUMN hitherto.module_execution_day.executions IS 'Runs';
COMMENT ON COLUMN hitherto.module_execution_day.successes IS 'Runs that succeeded';
COMMENT ON COLUMN hitherto.module_execution_day.failures IS 'Runs that failed';
COMMENT ON COLUMN hitherto.module_execution_day.success_rate IS 'successes over executions, 0 to 1';
COMMENT ON COLUMN hitherto.module_execution_day.mean_ms IS 'Mean duration, milliseconds';
COMMENT ON COLUMN hitherto.module_execution_day.p50_ms IS 'Median duration, milliseconds, exact';
COMMENT ON COLUMN hitherto.module_execution_day.p95_ms IS '95th percentile of the duration, milliseconds, exact';
COMMENT ON COLUMN hitherto.module_execution_day.p99_ms IS '99th percentile of the duration, milliseconds, exact';
COMMENT ON COLUMN hitherto.module_execution_day.max_ms IS 'Longest duration, milliseconds';

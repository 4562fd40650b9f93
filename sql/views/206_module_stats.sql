-- Counts come from the day aggregate, so that they outlive the raw rows.
CREATE OR REPLACE VIEW hitherto.module_stats AS
SELECT m.name, m.version, m.status,
       coalesce(e.executions, 0)::bigint AS execution_count,
       e.successes::double precision / e.executions AS success_rate,
       e.sum_ms / e.executions AS avg_execution_time_ms,
       e.last_execution,
       c.checked_at AS last_check, c.status AS last_status,
       m.error_message,
       hitherto.module_heard(m.module_id, 'infinity') AS last_heard_at
FROM hitherto.module m
LEFT JOIN (
    SELECT module_id, sum(executions) AS executions, sum(successes) AS successes, sum(sum_ms) AS sum_ms, max(last_started_at) AS last_execution
    FROM hitherto.module_execution_day_aggregate GROUP BY module_id
) e USING (module_id)
LEFT JOIN LATERAL (
    SELECT h.checked_at, h.status FROM hitherto.health_check h
    WHERE h.module_id = m.module_id ORDER BY h.checked_at DESC, h.status COLLATE "C" LIMIT 1
) c ON true;

COMMENT ON VIEW hitherto.module_stats IS 'How each module has done so far';
COMMENT ON COLUMN hitherto.module_stats.name IS 'Module';
COMMENT ON COLUMN hitherto.module_stats.version IS 'Version it last registered with';
COMMENT ON COLUMN hitherto.module_stats.status IS 'active, inactive, error or maintenance';
COMMENT ON COLUMN hitherto.module_stats.execution_count IS 'Runs ever';
COMMENT ON COLUMN hitherto.module_stats.success_rate IS 'Share of runs that succeeded, 0 to 1; NULL without runs';
COMMENT ON COLUMN hitherto.module_stats.avg_execution_time_ms IS 'Mean duration of a run, milliseconds';
COMMENT ON COLUMN hitherto.module_stats.last_execution IS 'When the latest run began';
COMMENT ON COLUMN hitherto.module_stats.last_check IS 'Latest health check';
COMMENT ON COLUMN hitherto.module_stats.last_status IS 'What it said';
COMMENT ON COLUMN hitherto.module_stats.error_message IS 'Why its status is error';
COMMENT ON COLUMN hitherto.module_stats.last_heard_at IS 'Its latest execution, health check, signal, proposal or risk evaluation';

CREATE TABLE hitherto.health_check (
    checked_at         timestamptz      NOT NULL,
    module_id          bigint           NOT NULL,
    status             text             NOT NULL CONSTRAINT health_check_status_length CHECK (length(btrim(status)) BETWEEN 1 AND 200),
    response_time_ms   double precision CONSTRAINT health_check_response_time_ms_range CHECK (response_time_ms >= 0 AND response_time_ms <= 1e15),
    error_count        integer          NOT NULL DEFAULT 0 CONSTRAINT health_check_error_count_not_negative CHECK (error_count >= 0),
    memory_usage_mb    double precision CONSTRAINT health_check_memory_usage_mb_range CHECK (memory_usage_mb >= 0 AND memory_usage_mb <= 1e15),
    cpu_usage_percent  double precision CONSTRAINT health_check_cpu_usage_percent_range CHECK (cpu_usage_percent >= 0 AND cpu_usage_percent <= 1e15),
    details            jsonb,
    batch_id           uuid             NOT NULL
);
-- One module's checks, newest first: module_stats' last status, export in its sort order.
CREATE INDEX health_check_module_id_checked_at_idx ON hitherto.health_check (module_id, checked_at DESC);
COMMENT ON TABLE hitherto.health_check IS 'How a module said it was';
COMMENT ON COLUMN hitherto.health_check.checked_at IS 'When it was checked';
COMMENT ON COLUMN hitherto.health_check.module_id IS 'Module that was checked';
COMMENT ON COLUMN hitherto.health_check.status IS 'healthy, or what else it was (degraded, unhealthy, ...); availability counts healthy';
COMMENT ON COLUMN hitherto.health_check.response_time_ms IS 'How long the check took to be answered, milliseconds';
COMMENT ON COLUMN hitherto.health_check.error_count IS 'Errors since the check before';
COMMENT ON COLUMN hitherto.health_check.memory_usage_mb IS 'Resident memory, megabytes (10^6 bytes)';
COMMENT ON COLUMN hitherto.health_check.cpu_usage_percent IS 'CPU in use, percent of one core, so that it may pass 100';
COMMENT ON COLUMN hitherto.health_check.details IS 'Anything else, as the module gave it';
COMMENT ON COLUMN hitherto.health_check.batch_id IS 'Line in the ledger';

-- What the server does by itself follows upkeep_policy. Jobs that were changed by hand before now are
-- taken over as they are.
UPDATE hitherto.upkeep_policy p SET columnstore_after = j.after
FROM (SELECT hypertable_name, CASE WHEN scheduled THEN (config ->> 'compress_after')::interval END AS after
      FROM timescaledb_information.jobs WHERE hypertable_schema = 'hitherto' AND proc_name = 'policy_compression') j
WHERE j.hypertable_name = p.table_name AND (j.after >= '1 day' OR j.after IS NULL);

-- A daily job a table, whether it has a retention now or not: without one it finds nothing to do.
SELECT add_job('hitherto.retention_job', INTERVAL '1 day', config => jsonb_build_object('table_name', p.table_name), fixed_schedule => false)
FROM hitherto.upkeep_policy p
WHERE NOT EXISTS (SELECT FROM timescaledb_information.jobs j
                  WHERE j.proc_schema = 'hitherto' AND j.proc_name = 'retention_job' AND j.config ->> 'table_name' = p.table_name)
ORDER BY p.table_name;

CREATE FUNCTION hitherto.upkeep_policy_schedule()
RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM alter_job(j.job_id, scheduled => NEW.columnstore_after IS NOT NULL,
                      config => j.config || CASE WHEN NEW.columnstore_after IS NULL THEN '{}'
                                                 ELSE jsonb_build_object('compress_after', NEW.columnstore_after::text) END)
    FROM timescaledb_information.jobs j
    WHERE j.hypertable_schema = 'hitherto' AND j.hypertable_name = NEW.table_name AND j.proc_name = 'policy_compression';
    PERFORM alter_job(j.job_id, schedule_interval => NEW.refresh_every)
    FROM timescaledb_information.jobs j JOIN hitherto.aggregate a ON a.view_name = j.config ->> 'view_name'
    WHERE j.proc_schema = 'hitherto' AND j.proc_name = 'aggregate_refresh_job' AND a.source_table = NEW.table_name
      AND NEW.refresh_every IS NOT NULL;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION hitherto.upkeep_policy_schedule() IS 'Lets the server''s jobs follow upkeep_policy';
CREATE TRIGGER upkeep_policy_schedule AFTER UPDATE ON hitherto.upkeep_policy
FOR EACH ROW EXECUTE FUNCTION hitherto.upkeep_policy_schedule();

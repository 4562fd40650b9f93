CREATE OR REPLACE VIEW legacy.module_health_checks AS
SELECT h.legacy_id AS id, h.module_id, h.status::varchar AS status, h.response_time_ms, h.error_count, h.memory_usage_mb, h.cpu_usage_percent,
       h.details::json AS details_json, h.checked_at AT TIME ZONE 'UTC' AS created_at
FROM hitherto.health_check h
WHERE NOT EXISTS (SELECT FROM hitherto.legacy_tombstone t WHERE t.table_name = 'health_check' AND t.legacy_id = h.legacy_id
                  AND t.kept_batch_id IS DISTINCT FROM h.batch_id);
ALTER VIEW legacy.module_health_checks ALTER COLUMN id SET DEFAULT nextval('hitherto.health_check_legacy_id');
ALTER VIEW legacy.module_health_checks ALTER COLUMN error_count SET DEFAULT 0;
ALTER VIEW legacy.module_health_checks ALTER COLUMN created_at SET DEFAULT now() AT TIME ZONE 'UTC';

COMMENT ON VIEW legacy.module_health_checks IS 'hitherto.health_check under its old name';
COMMENT ON COLUMN legacy.module_health_checks.id IS 'health_check.legacy_id';
COMMENT ON COLUMN legacy.module_health_checks.module_id IS 'Module: module_registry.id';
COMMENT ON COLUMN legacy.module_health_checks.status IS 'healthy, or what else it was';
COMMENT ON COLUMN legacy.module_health_checks.response_time_ms IS 'Milliseconds';
COMMENT ON COLUMN legacy.module_health_checks.error_count IS 'Errors since the check before';
COMMENT ON COLUMN legacy.module_health_checks.memory_usage_mb IS 'Megabytes';
COMMENT ON COLUMN legacy.module_health_checks.cpu_usage_percent IS 'Percent of one core';
COMMENT ON COLUMN legacy.module_health_checks.details_json IS 'details';
COMMENT ON COLUMN legacy.module_health_checks.created_at IS 'checked_at, UTC';

CREATE OR REPLACE FUNCTION legacy.module_health_checks_write()
RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, hitherto, pg_temp AS $$
DECLARE
    r hitherto.health_check;
    stands legacy.module_health_checks;
BEGIN
    IF TG_OP = 'DELETE' THEN
        RETURN CASE WHEN legacy.hide('health_check', OLD.id, NULL, OLD.created_at AT TIME ZONE 'UTC') THEN OLD END;
    END IF;
    IF NOT EXISTS (SELECT FROM hitherto.module m WHERE m.module_id = NEW.module_id) THEN
        RAISE EXCEPTION 'module_health_checks.module_id: there is no module %', coalesce(NEW.module_id::text, 'NULL')
            USING ERRCODE = 'foreign_key_violation', CONSTRAINT = 'module_health_checks_module_id_fkey', HINT = 'Register the module first, in module_registry.';
    END IF;
    r.batch_id := gen_random_uuid();
    IF TG_OP = 'UPDATE' THEN
        NEW.id := OLD.id;
        IF NOT legacy.hold('health_check', OLD.id, (SELECT h.batch_id FROM hitherto.health_check h WHERE h.legacy_id = OLD.id LIMIT 1), OLD.created_at AT TIME ZONE 'UTC') THEN
            RETURN NULL;
        END IF;
        SELECT v.* INTO stands FROM legacy.module_health_checks v WHERE v.id = OLD.id;
        NEW := legacy.merged(OLD::legacy.module_health_checks, NEW::legacy.module_health_checks, stands, 'module_health_checks ' || OLD.id);
        OLD := stands;
        PERFORM legacy.hide('health_check', OLD.id, r.batch_id, OLD.created_at AT TIME ZONE 'UTC');
    END IF;
    r.checked_at := coalesce(legacy.utc(NEW.created_at, 'module_health_checks.created_at'), now());
    r.module_id := NEW.module_id;
    r.status := NEW.status;
    r.response_time_ms := NEW.response_time_ms;
    r.error_count := coalesce(NEW.error_count, 0);
    r.memory_usage_mb := NEW.memory_usage_mb;
    r.cpu_usage_percent := NEW.cpu_usage_percent;
    r.details := legacy.document(NEW.details_json, 'module_health_checks.details_json');
    r.legacy_id := coalesce(NEW.id, nextval('hitherto.health_check_legacy_id'));
    INSERT INTO hitherto.health_check SELECT r.*;
    PERFORM hitherto.ledger_add(r.batch_id, 'legacy', 'health_check', ARRAY[hitherto.canonical_row(r)], r.checked_at, r.checked_at);
    NEW.id := r.legacy_id;
    NEW.error_count := r.error_count;
    NEW.details_json := r.details;
    NEW.created_at := r.checked_at AT TIME ZONE 'UTC';
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION legacy.module_health_checks_write() IS 'Stores a health check; an UPDATE stores it anew and hides the old row, a DELETE hides it';
CREATE OR REPLACE TRIGGER module_health_checks_write INSTEAD OF INSERT OR UPDATE OR DELETE ON legacy.module_health_checks
    FOR EACH ROW EXECUTE FUNCTION legacy.module_health_checks_write();

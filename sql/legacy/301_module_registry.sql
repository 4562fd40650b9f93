CREATE OR REPLACE VIEW legacy.module_registry AS
SELECT m.module_id AS id, m.name::varchar AS name, m.version::varchar AS version, m.status::varchar AS status, m.config::json AS config_json,
       e.last_execution AT TIME ZONE 'UTC' AS last_execution, e.execution_count, m.error_message,
       e.total_ms / nullif(e.execution_count, 0) AS avg_execution_time_ms, e.success_rate,
       m.registered_at AT TIME ZONE 'UTC' AS created_at, m.updated_at AT TIME ZONE 'UTC' AS updated_at
FROM hitherto.module m LEFT JOIN LATERAL hitherto.legacy_execution_shown(m.module_id) e ON true;
ALTER VIEW legacy.module_registry ALTER COLUMN id SET DEFAULT nextval('hitherto.module_module_id_seq');
ALTER VIEW legacy.module_registry ALTER COLUMN status SET DEFAULT 'inactive';
ALTER VIEW legacy.module_registry ALTER COLUMN execution_count SET DEFAULT 0;
ALTER VIEW legacy.module_registry ALTER COLUMN created_at SET DEFAULT now() AT TIME ZONE 'UTC';
ALTER VIEW legacy.module_registry ALTER COLUMN updated_at SET DEFAULT now() AT TIME ZONE 'UTC';

COMMENT ON VIEW legacy.module_registry IS 'hitherto.module under its old name; its figures are computed from module_execution';
COMMENT ON COLUMN legacy.module_registry.id IS 'module.module_id';
COMMENT ON COLUMN legacy.module_registry.name IS 'Name, unique';
COMMENT ON COLUMN legacy.module_registry.version IS 'Version it last registered with';
COMMENT ON COLUMN legacy.module_registry.status IS 'active, inactive, error or maintenance';
COMMENT ON COLUMN legacy.module_registry.config_json IS 'config';
COMMENT ON COLUMN legacy.module_registry.last_execution IS 'Time of the latest execution, UTC';
COMMENT ON COLUMN legacy.module_registry.execution_count IS 'Executions; setting it one higher, with the average that follows, records one';
COMMENT ON COLUMN legacy.module_registry.error_message IS 'Why its status is error';
COMMENT ON COLUMN legacy.module_registry.avg_execution_time_ms IS 'Mean duration, milliseconds; NULL without executions';
COMMENT ON COLUMN legacy.module_registry.success_rate IS 'Share of executions that succeeded, 0 to 1; not to be set';
COMMENT ON COLUMN legacy.module_registry.created_at IS 'registered_at, UTC';
COMMENT ON COLUMN legacy.module_registry.updated_at IS 'When the module last changed, UTC';

CREATE OR REPLACE FUNCTION legacy.execution_total_note(module bigint, execution_count bigint, total_ms double precision)
RETURNS void LANGUAGE sql AS $$
    INSERT INTO hitherto.legacy_execution_total AS t VALUES (module, execution_total_note.execution_count, execution_total_note.total_ms)
    ON CONFLICT ON CONSTRAINT legacy_execution_total_pkey DO UPDATE SET total_ms = excluded.total_ms
$$;
COMMENT ON FUNCTION legacy.execution_total_note(bigint, bigint, double precision) IS 'Notes what the registry shows of a module at a count';

-- Old code reads count and average, and writes count + 1 and the average that follows. Several clients
-- may have read the same; by the time one writes, the count may have passed it. So whoever names a
-- count of n has seen n - 1, and the total at n - 1 is still known: the difference is the duration.
CREATE OR REPLACE FUNCTION legacy.execution_count(was legacy.module_registry, becomes legacy.module_registry, failed boolean)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    r hitherto.module_execution;
    runs bigint := greatest(becomes.execution_count - was.execution_count, 1);
    basis double precision;
    duration numeric;
    rows bytea[] := '{}';
    shown hitherto.legacy_execution_total;
BEGIN
    IF becomes.execution_count IS NULL OR becomes.execution_count < 1 OR runs > 10000 THEN
        RAISE EXCEPTION 'module_registry.execution_count of ''%'': % can''t follow on %; executions are counted by this store and never forgotten',
            was.name, coalesce(becomes.execution_count::text, 'NULL'), was.execution_count USING ERRCODE = 'check_violation';
    END IF;
    IF becomes.avg_execution_time_ms IN ('NaN', 'Infinity', '-Infinity') THEN
        RAISE EXCEPTION 'module_registry.avg_execution_time_ms of ''%'': % is no duration', was.name, becomes.avg_execution_time_ms USING ERRCODE = 'check_violation';
    END IF;
    -- What others have counted since this statement began they have noted; the module's row is locked.
    PERFORM legacy.execution_total_note(was.id, was.execution_count, was.execution_count * coalesce(was.avg_execution_time_ms, 0));
    SELECT t.* INTO shown FROM hitherto.legacy_execution_total t WHERE t.module_id = was.id ORDER BY t.execution_count DESC LIMIT 1;
    IF was.execution_count = becomes.execution_count - runs THEN
        basis := was.execution_count * coalesce(was.avg_execution_time_ms, 0);
    ELSE
        SELECT t.total_ms INTO basis FROM hitherto.legacy_execution_total t
        WHERE t.module_id = was.id AND t.execution_count = becomes.execution_count - runs;
    END IF;
    -- To the nanosecond: what is finer is what the running average has rounded.
    duration := round(((becomes.avg_execution_time_ms * becomes.execution_count - basis) / runs)::numeric, 6);
    IF duration IS NULL OR duration < 0 THEN
        r.details := '{"duration_ms": "estimated"}';
        IF duration > -1e-6 * becomes.avg_execution_time_ms THEN
            duration := 0;
        ELSE
            duration := greatest(becomes.avg_execution_time_ms, 0);
        END IF;
    END IF;
    r.batch_id := gen_random_uuid();
    r.module_id := was.id;
    r.started_at := coalesce(CASE WHEN becomes.last_execution IS DISTINCT FROM was.last_execution
                                  THEN legacy.utc(becomes.last_execution, 'module_registry.last_execution') END, clock_timestamp());
    r.duration_ms := coalesce(duration, 0);
    r.success := NOT failed;
    r.error_message := CASE WHEN failed THEN becomes.error_message END;
    FOR run IN 1..runs LOOP
        r.execution_id := gen_random_uuid();
        INSERT INTO hitherto.module_execution SELECT r.*;
        rows := rows || hitherto.canonical_row(r);
    END LOOP;
    PERFORM hitherto.ledger_add(r.batch_id, 'legacy', 'module_execution', rows, r.started_at, r.started_at);
    PERFORM legacy.execution_total_note(was.id, shown.execution_count + runs, shown.total_ms + runs * r.duration_ms);
    DELETE FROM hitherto.legacy_execution_total t WHERE t.module_id = was.id AND t.execution_count < shown.execution_count - 1000;
END
$$;
COMMENT ON FUNCTION legacy.execution_count(legacy.module_registry, legacy.module_registry, boolean) IS
    'Records the execution that an old client counted, with the duration that follows from its new average; one by one for a module';

CREATE OR REPLACE FUNCTION legacy.execution_is_counted(was legacy.module_registry, becomes legacy.module_registry)
RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT CASE
        WHEN becomes.execution_count IS NULL OR becomes.execution_count > was.execution_count THEN true
        -- Average and time may come in statements of their own, after the count.
        WHEN format('%s:%s', was.id, becomes.execution_count) = ANY (string_to_array(current_setting('hitherto.legacy_counted', true), ',')) THEN false
        -- A statement that sets a count which others have reached meanwhile leaves it as it is, just as one that sets
        -- average or time alone: what tells them apart is their words.
        WHEN becomes.execution_count = was.execution_count AND current_query() NOT ILIKE '%execution_count%' THEN false
        -- A copy of the row as it once was, written back whole, names the time of an execution that is known.
        WHEN becomes.last_execution IS NULL AND becomes.avg_execution_time_ms IS NULL THEN was.last_execution IS NULL
        ELSE becomes.last_execution IS NOT DISTINCT FROM was.last_execution
             OR NOT EXISTS (SELECT FROM hitherto.module_execution e WHERE e.module_id = was.id AND e.started_at = becomes.last_execution AT TIME ZONE 'UTC')
                AND NOT EXISTS (SELECT FROM hitherto.legacy_execution_base b WHERE b.module_id = was.id AND b.last_execution = becomes.last_execution AT TIME ZONE 'UTC')
        END
$$;
COMMENT ON FUNCTION legacy.execution_is_counted(legacy.module_registry, legacy.module_registry) IS
    'Whether an UPDATE of these figures tells of an execution, or amends one or writes back what was there';

CREATE OR REPLACE FUNCTION legacy.module_registry_write()
RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, hitherto, pg_temp AS $$
DECLARE
    at timestamptz;
BEGIN
    IF TG_OP = 'DELETE' THEN
        DELETE FROM hitherto.legacy_execution_base b WHERE b.module_id = OLD.id;
        IF EXISTS (SELECT FROM hitherto.health_check r WHERE r.module_id = OLD.id) OR EXISTS (SELECT FROM hitherto.module_execution r WHERE r.module_id = OLD.id)
           OR OLD.execution_count > 0 THEN
            RAISE EXCEPTION 'module ''%'' has a history and can''t be deleted', OLD.name
                USING ERRCODE = 'foreign_key_violation', HINT = 'Set its status to inactive.';
        END IF;
        DELETE FROM hitherto.module m WHERE m.module_id = OLD.id;
        RETURN CASE WHEN FOUND THEN OLD END;
    END IF;
    NEW.status := legacy.word(coalesce(NEW.status, 'inactive'), 'module_registry.status', 'active', 'inactive', 'error', 'maintenance');
    IF TG_OP = 'INSERT' THEN
        INSERT INTO hitherto.module AS m (module_id, name, version, status, config, error_message, registered_at, updated_at) OVERRIDING SYSTEM VALUE
        VALUES (coalesce(NEW.id, nextval('hitherto.module_module_id_seq')), NEW.name, coalesce(NEW.version, 'unknown'), NEW.status,
                legacy.document(NEW.config_json, 'module_registry.config_json'), NEW.error_message,
                coalesce(legacy.utc(NEW.created_at, 'module_registry.created_at'), now()), coalesce(legacy.utc(NEW.updated_at, 'module_registry.updated_at'), now()))
        RETURNING m.module_id INTO NEW.id;
        -- Executions that came before its registration are not known singly.
        IF NEW.execution_count > 0 THEN
            INSERT INTO hitherto.legacy_execution_base
            VALUES (NEW.id, 'legacy', NEW.execution_count, NEW.execution_count * coalesce(NEW.avg_execution_time_ms, 0), NEW.last_execution AT TIME ZONE 'UTC');
        END IF;
    ELSE
        IF NEW.id IS DISTINCT FROM OLD.id THEN
            RAISE EXCEPTION 'module_registry.id of ''%'' can''t be changed: records name it', OLD.name USING ERRCODE = 'check_violation';
        END IF;
        -- One change of a module at a time. What this statement does not set stays as others have set it meanwhile.
        PERFORM FROM hitherto.module m WHERE m.module_id = OLD.id FOR NO KEY UPDATE;
        IF NOT FOUND THEN
            RETURN NULL;
        END IF;
        -- Old code may set figures to 0 where there are none yet.
        IF (NEW.execution_count, NEW.avg_execution_time_ms, NEW.last_execution) IS DISTINCT FROM (OLD.execution_count, OLD.avg_execution_time_ms, OLD.last_execution)
           AND (NEW.execution_count, OLD.execution_count) IS DISTINCT FROM (0::bigint, 0::bigint) AND legacy.execution_is_counted(OLD, NEW) THEN
            PERFORM legacy.execution_count(OLD, NEW, NEW.status IS DISTINCT FROM OLD.status AND NEW.status = 'error'
                                                     OR NEW.error_message IS DISTINCT FROM OLD.error_message AND NEW.error_message IS NOT NULL);
            PERFORM set_config('hitherto.legacy_counted', concat_ws(',', current_setting('hitherto.legacy_counted', true), format('%s:%s', NEW.id, NEW.execution_count)), true);
        END IF;
        UPDATE hitherto.module m SET
            name = CASE WHEN NEW.name IS DISTINCT FROM OLD.name THEN NEW.name ELSE m.name END,
            version = CASE WHEN NEW.version IS DISTINCT FROM OLD.version THEN coalesce(NEW.version, 'unknown') ELSE m.version END,
            status = CASE WHEN NEW.status IS DISTINCT FROM OLD.status THEN NEW.status ELSE m.status END,
            config = CASE WHEN NEW.config_json::text IS DISTINCT FROM OLD.config_json::text
                          THEN legacy.document(NEW.config_json, 'module_registry.config_json') ELSE m.config END,
            error_message = CASE WHEN NEW.error_message IS DISTINCT FROM OLD.error_message THEN NEW.error_message ELSE m.error_message END,
            updated_at = CASE WHEN NEW.updated_at IS DISTINCT FROM OLD.updated_at
                              THEN coalesce(legacy.utc(NEW.updated_at, 'module_registry.updated_at'), now()) ELSE clock_timestamp() END
        WHERE m.module_id = OLD.id;
    END IF;
    SELECT v.* INTO NEW FROM legacy.module_registry v WHERE v.id = NEW.id;
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION legacy.module_registry_write() IS 'Registers or changes a module; a new execution_count becomes an execution. A module with a history is not deleted';
CREATE OR REPLACE TRIGGER module_registry_write INSTEAD OF INSERT OR UPDATE OR DELETE ON legacy.module_registry
    FOR EACH ROW EXECUTE FUNCTION legacy.module_registry_write();

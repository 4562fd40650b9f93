CREATE OR REPLACE VIEW legacy.regime_states AS
SELECT r.legacy_id AS id, r.regime::varchar AS regime_type, r.confidence, r.method::varchar AS classification_method, r.classified_by::varchar AS classified_by,
       r.status = 'active' AS is_active, r.confirmed AS confirmed_by_human, r.requires_confirmation, r.effective_from AT TIME ZONE 'UTC' AS effective_from,
       r.effective_until AT TIME ZONE 'UTC' AS effective_until, r.context::json AS context_json, r.reasoning, r.notes,
       r.proposed_at AT TIME ZONE 'UTC' AS created_at, greatest(r.proposed_at, r.decided_at, r.effective_until) AT TIME ZONE 'UTC' AS updated_at
FROM hitherto.regime_state r
WHERE NOT EXISTS (SELECT FROM hitherto.legacy_tombstone t WHERE t.table_name = 'regime_state' AND t.legacy_id = r.legacy_id);
ALTER VIEW legacy.regime_states ALTER COLUMN id SET DEFAULT nextval('hitherto.regime_state_legacy_id');
ALTER VIEW legacy.regime_states ALTER COLUMN is_active SET DEFAULT false;
ALTER VIEW legacy.regime_states ALTER COLUMN confirmed_by_human SET DEFAULT false;
ALTER VIEW legacy.regime_states ALTER COLUMN requires_confirmation SET DEFAULT false;
ALTER VIEW legacy.regime_states ALTER COLUMN created_at SET DEFAULT now() AT TIME ZONE 'UTC';

COMMENT ON VIEW legacy.regime_states IS 'hitherto.regime_state under its old name; setting is_active is a decision';
COMMENT ON COLUMN legacy.regime_states.id IS 'regime_state.legacy_id';
COMMENT ON COLUMN legacy.regime_states.regime_type IS 'bull, bear, sideways, high_vol, low_vol, crisis, recovery or unknown';
COMMENT ON COLUMN legacy.regime_states.confidence IS '0 to 1';
COMMENT ON COLUMN legacy.regime_states.classification_method IS 'method';
COMMENT ON COLUMN legacy.regime_states.classified_by IS 'Module or person that proposed it, and decided where old code made it active';
COMMENT ON COLUMN legacy.regime_states.is_active IS 'Whether it is in force; true for one row at most';
COMMENT ON COLUMN legacy.regime_states.confirmed_by_human IS 'Whether a person confirmed it';
COMMENT ON COLUMN legacy.regime_states.requires_confirmation IS 'Whether a person must confirm it';
COMMENT ON COLUMN legacy.regime_states.effective_from IS 'When it came into force, UTC; NULL until it does';
COMMENT ON COLUMN legacy.regime_states.effective_until IS 'When it ended, UTC';
COMMENT ON COLUMN legacy.regime_states.context_json IS 'context';
COMMENT ON COLUMN legacy.regime_states.reasoning IS 'Why, in the proposer''s words';
COMMENT ON COLUMN legacy.regime_states.notes IS 'Words of those who decided';
COMMENT ON COLUMN legacy.regime_states.created_at IS 'proposed_at, UTC';
COMMENT ON COLUMN legacy.regime_states.updated_at IS 'Its latest step, UTC';

CREATE OR REPLACE FUNCTION legacy.regime_states_write()
-- Its writer has decided: one regime may end without the next.
RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, hitherto, pg_temp AS $$
DECLARE
    r hitherto.regime_state;
    decider text;
    since timestamptz;
    until timestamptz;
    past boolean;
    step_before text := current_setting('hitherto.regime_step', true);
BEGIN
    PERFORM set_config('hitherto.regime_step', 'on', true);
    -- One decision on regimes at a time: what others decided meanwhile is seen from here on.
    PERFORM pg_advisory_xact_lock(hashtext('hitherto.regime_state'));
    IF TG_OP <> 'INSERT' THEN
        SELECT s.* INTO r FROM hitherto.regime_state s WHERE s.legacy_id = OLD.id FOR UPDATE;
    END IF;
    IF TG_OP = 'DELETE' THEN
        UPDATE hitherto.regime_state s SET status = 'superseded', effective_until = greatest(clock_timestamp(), s.effective_from)
        WHERE s.legacy_id = OLD.id AND s.status = 'active';
        PERFORM set_config('hitherto.regime_step', coalesce(step_before, ''), true);
        RETURN CASE WHEN legacy.hide('regime_state', OLD.id, NULL, r.proposed_at) THEN OLD END;
    END IF;
    NEW.regime_type := legacy.word(NEW.regime_type, 'regime_states.regime_type',
                                   'bull', 'bear', 'sideways', 'high_vol', 'low_vol', 'crisis', 'recovery', 'unknown');
    NEW.is_active := coalesce(NEW.is_active, false);
    decider := coalesce(nullif(btrim(NEW.classified_by), ''), 'legacy');
    since := CASE WHEN NEW.effective_from IS DISTINCT FROM OLD.effective_from THEN legacy.utc(NEW.effective_from, 'regime_states.effective_from') END;
    until := CASE WHEN NEW.effective_until IS DISTINCT FROM OLD.effective_until THEN legacy.utc(NEW.effective_until, 'regime_states.effective_until') END;

    IF TG_OP = 'INSERT' OR NEW.is_active AND r.status NOT IN ('proposed', 'active') THEN
        -- What was in force once and is to be again gets a period of its own, and its id goes with it.
        IF TG_OP = 'UPDATE' THEN
            UPDATE hitherto.regime_state s SET legacy_id = nextval('hitherto.regime_state_legacy_id') WHERE s.regime_id = r.regime_id;
            NEW.created_at := clock_timestamp() AT TIME ZONE 'UTC';
        END IF;
        past := NOT NEW.is_active AND since IS NOT NULL AND until IS NOT NULL;
        INSERT INTO hitherto.regime_state AS s
            (regime_id, legacy_id, legacy, regime, confidence, method, classified_by, reasoning, notes, context, requires_confirmation, confirmed,
             proposed_at, status, decided_at, decided_by, effective_from, effective_until)
        VALUES (gen_random_uuid(), coalesce(NEW.id, nextval('hitherto.regime_state_legacy_id')), true, NEW.regime_type, NEW.confidence, NEW.classification_method,
                decider, NEW.reasoning, NEW.notes, legacy.document(NEW.context_json, 'regime_states.context_json'), coalesce(NEW.requires_confirmation, false),
                coalesce(NEW.confirmed_by_human, false), coalesce(legacy.utc(NEW.created_at, 'regime_states.created_at'), now()),
                CASE WHEN past THEN 'superseded' ELSE 'proposed' END, CASE WHEN past THEN since END, CASE WHEN past THEN decider END,
                CASE WHEN past THEN since END, CASE WHEN past THEN greatest(least(until, clock_timestamp()), since) END)
        RETURNING s.* INTO r;
    ELSE
        IF NEW.id IS DISTINCT FROM OLD.id THEN
            RAISE EXCEPTION 'regime_states.id: % can''t be changed', OLD.id USING ERRCODE = 'check_violation';
        ELSIF NEW.is_active AND r.status = 'active' AND until IS NOT NULL THEN
            RAISE EXCEPTION 'regime_states.effective_until: the active regime has no end; set is_active = false, or insert the one that follows'
                USING ERRCODE = 'check_violation';
        END IF;
        UPDATE hitherto.regime_state s SET
            regime = CASE WHEN NEW.regime_type IS DISTINCT FROM OLD.regime_type THEN NEW.regime_type ELSE s.regime END,
            confidence = CASE WHEN NEW.confidence IS DISTINCT FROM OLD.confidence THEN NEW.confidence ELSE s.confidence END,
            method = CASE WHEN NEW.classification_method IS DISTINCT FROM OLD.classification_method THEN NEW.classification_method ELSE s.method END,
            classified_by = CASE WHEN NEW.classified_by IS DISTINCT FROM OLD.classified_by THEN decider ELSE s.classified_by END,
            reasoning = CASE WHEN NEW.reasoning IS DISTINCT FROM OLD.reasoning THEN NEW.reasoning ELSE s.reasoning END,
            notes = CASE WHEN NEW.notes IS DISTINCT FROM OLD.notes THEN NEW.notes ELSE s.notes END,
            context = CASE WHEN NEW.context_json::text IS DISTINCT FROM OLD.context_json::text
                           THEN legacy.document(NEW.context_json, 'regime_states.context_json') ELSE s.context END,
            requires_confirmation = CASE WHEN NEW.requires_confirmation IS DISTINCT FROM OLD.requires_confirmation
                                         THEN coalesce(NEW.requires_confirmation, false) ELSE s.requires_confirmation END,
            -- A proposal of the new way is confirmed in the new way, below.
            confirmed = CASE WHEN NEW.confirmed_by_human IS DISTINCT FROM OLD.confirmed_by_human AND (s.legacy OR NEW.is_active OR s.status <> 'proposed')
                             THEN coalesce(NEW.confirmed_by_human, false) ELSE s.confirmed END,
            legacy = s.legacy OR NEW.is_active AND s.status = 'proposed',
            effective_from = CASE WHEN s.effective_from IS NOT NULL AND NEW.effective_from IS DISTINCT FROM OLD.effective_from THEN since ELSE s.effective_from END,
            status = CASE WHEN OLD.is_active AND NOT NEW.is_active AND s.status = 'active' THEN 'superseded' ELSE s.status END,
            effective_until = CASE WHEN OLD.is_active AND NOT NEW.is_active AND s.status = 'active'
                                   THEN greatest(least(until, clock_timestamp()), s.effective_from) ELSE s.effective_until END
        WHERE s.regime_id = r.regime_id;
        IF r.status = 'proposed' AND NOT r.legacy AND NOT NEW.is_active AND NEW.confirmed_by_human AND NOT OLD.confirmed_by_human THEN
            PERFORM hitherto.regime_decide(r.regime_id, true, 'legacy');
        END IF;
    END IF;
    IF NEW.is_active AND r.status = 'proposed' THEN
        PERFORM hitherto.regime_put_in_force(r.regime_id, decider, coalesce(since, CASE TG_OP WHEN 'UPDATE' THEN clock_timestamp() END));
    END IF;
    PERFORM set_config('hitherto.regime_step', coalesce(step_before, ''), true);
    SELECT v.* INTO NEW FROM legacy.regime_states v WHERE v.id = r.legacy_id;
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION legacy.regime_states_write() IS
    'is_active = true puts a regime in force, decided by whoever classified it, and supersedes the one before; false ends it. A DELETE hides it';
CREATE OR REPLACE TRIGGER regime_states_write INSTEAD OF INSERT OR UPDATE OR DELETE ON legacy.regime_states
    FOR EACH ROW EXECUTE FUNCTION legacy.regime_states_write();

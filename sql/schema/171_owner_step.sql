-- The settings hitherto.set_based and hitherto.regime_step let code of this schema take steps that its triggers
-- would refuse. Anybody can set them: they count for who may do as the table's owner does, which is what having TRIGGER
-- on it tells, for nobody else is given that.

-- Whoever lacks it comes here with the setting on, and is refused: its ids are claimed already, maybe, and
-- every event would be passed over as known.
CREATE OR REPLACE FUNCTION hitherto.order_event_claim()
RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, hitherto, pg_temp AS $$
DECLARE
    key hitherto.order_event_key;
    event jsonb := to_jsonb(NEW) - '{recorded_at,batch_id}'::text[];
    stands jsonb;
BEGIN
    IF current_setting('hitherto.set_based', true) = 'on' THEN
        RAISE EXCEPTION 'hitherto.set_based is for hitherto.order_event_store' USING ERRCODE = 'insufficient_privilege', HINT = 'Call that, or reset the setting.';
    END IF;
    IF NOT has_table_privilege(session_user, 'hitherto.order_event', 'TRIGGER') THEN
        NEW.recorded_at := clock_timestamp();
    END IF;
    INSERT INTO hitherto.order_event_key (event_id, event_at, order_id) VALUES (NEW.event_id, NEW.event_at, NEW.order_id) ON CONFLICT DO NOTHING;
    IF FOUND THEN
        RETURN NEW;
    END IF;
    IF EXISTS (SELECT FROM hitherto.order_event e WHERE e.event_id = NEW.event_id AND e.event_at = NEW.event_at
               AND to_jsonb(e) - '{recorded_at,batch_id}'::text[] = event) THEN
        RETURN NULL;
    END IF;
    SELECT * INTO key FROM hitherto.order_event_key k WHERE k.event_id = NEW.event_id;
    SELECT to_jsonb(e) - '{recorded_at,batch_id}'::text[] INTO stands FROM hitherto.order_event e WHERE e.event_id = key.event_id AND e.event_at = key.event_at;
    -- Retention has dropped the event: id, time and order tell it from another.
    IF NOT FOUND AND (key.event_at, key.order_id) = (NEW.event_at, NEW.order_id) THEN
        RETURN NULL;
    END IF;
    INSERT INTO hitherto.order_event_conflict (event_id, digest, order_id, refused_order_id, batch_id)
    VALUES (NEW.event_id, sha256(convert_to(event::text, 'UTF8')), key.order_id, NEW.order_id, NEW.batch_id) ON CONFLICT DO NOTHING;
    IF FOUND THEN
        INSERT INTO hitherto.quarantine (batch_id, producer, table_name, record, sqlstate, reason)
        VALUES (NEW.batch_id, session_user, 'order_event', event::text, '23505',
                format('event_id %s stands with other content, which stays: %s', NEW.event_id, coalesce(stands, to_jsonb(key))));
        PERFORM hitherto.execution_report_fold(ARRAY[key.order_id, NEW.order_id]);
    END IF;
    RETURN NULL;
END
$$;
ALTER FUNCTION hitherto.order_event_folded() SECURITY DEFINER SET search_path = pg_catalog, hitherto, pg_temp;

DROP TRIGGER order_event_claim ON hitherto.order_event;
DROP TRIGGER order_event_folded ON hitherto.order_event;
CREATE TRIGGER order_event_claim BEFORE INSERT ON hitherto.order_event FOR EACH ROW
WHEN (current_setting('hitherto.set_based', true) IS DISTINCT FROM 'on' OR NOT has_table_privilege('hitherto.order_event'::regclass, 'TRIGGER'))
EXECUTE FUNCTION hitherto.order_event_claim();
CREATE TRIGGER order_event_folded AFTER INSERT ON hitherto.order_event FOR EACH ROW
WHEN (current_setting('hitherto.set_based', true) IS DISTINCT FROM 'on' OR NOT has_table_privilege('hitherto.order_event'::regclass, 'TRIGGER'))
EXECUTE FUNCTION hitherto.order_event_folded();

-- Runs as whoever changes the row: the workflow's own functions, below, do as the owner.
CREATE OR REPLACE FUNCTION hitherto.regime_state_updated()
RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    -- Set by the functions that take a whole step, as from one regime in force to the next.
    step boolean := current_setting('hitherto.regime_step', true) IS NOT DISTINCT FROM 'on' AND has_table_privilege('hitherto.regime_state', 'TRIGGER');
BEGIN
    IF OLD.status <> NEW.status AND (OLD.status, NEW.status) NOT IN (('proposed', 'active'), ('proposed', 'rejected'), ('proposed', 'expired'), ('active', 'superseded')) THEN
        RAISE EXCEPTION 'regime % is % since %, decided by %: it can''t become %', OLD.regime_id, OLD.status,
            coalesce(OLD.effective_until, OLD.decided_at, OLD.decide_by), coalesce(OLD.decided_by, 'nobody'), NEW.status
            USING ERRCODE = '55000', HINT = 'propose another one';
    END IF;
    IF NEW.regime_id <> OLD.regime_id
       OR NEW.legacy <> OLD.legacy AND NOT step
       OR NOT NEW.legacy AND (NEW.regime, NEW.confidence, NEW.method, NEW.classified_by, NEW.reasoning, NEW.context, NEW.proposed_at, NEW.decide_by, NEW.requires_confirmation)
          IS DISTINCT FROM (OLD.regime, OLD.confidence, OLD.method, OLD.classified_by, OLD.reasoning, OLD.context, OLD.proposed_at, OLD.decide_by, OLD.requires_confirmation)
       OR NOT NEW.legacy AND NOT step AND OLD.status <> 'proposed' AND (NEW.confirmed, NEW.first_confirmed_by) IS DISTINCT FROM (OLD.confirmed, OLD.first_confirmed_by)
       OR OLD.status <> 'proposed' AND (NEW.decided_at, NEW.decided_by, NEW.effective_from) IS DISTINCT FROM (OLD.decided_at, OLD.decided_by, OLD.effective_from)
       OR OLD.status = 'superseded' AND NEW.effective_until <> OLD.effective_until THEN
        RAISE EXCEPTION 'regime % is %: what was proposed and decided stays as it was', OLD.regime_id, OLD.status
            USING ERRCODE = '55000', HINT = 'propose another one';
    END IF;
    IF NEW.status = 'superseded' AND OLD.status = 'active' AND NOT step THEN
        RAISE EXCEPTION 'regime % is in force until another one takes its place', OLD.regime_id USING ERRCODE = '55000',
            HINT = 'propose that one, or put a proposed one in force with hitherto.regime_decide or hitherto.regime_put_in_force';
    ELSIF NEW.status = 'active' AND OLD.status <> 'active' AND NEW.effective_from > clock_timestamp() THEN
        RAISE EXCEPTION 'regime % would be in force from %, which is to come', NEW.regime_id, NEW.effective_from USING ERRCODE = '55000';
    END IF;
    IF OLD.status = 'proposed' AND NEW.status = 'active' AND NOT NEW.legacy THEN
        IF OLD.decide_by < clock_timestamp() THEN
            RAISE EXCEPTION 'regime % was to be decided by % and has expired', OLD.regime_id, OLD.decide_by USING ERRCODE = '55000', HINT = 'propose it again';
        END IF;
        IF OLD.requires_confirmation AND NOT NEW.confirmed AND NEW.decided_by = OLD.classified_by THEN
            RAISE EXCEPTION 'regime % requires confirmation: % has classified it, somebody else must decide', OLD.regime_id, OLD.classified_by USING ERRCODE = '55000';
        END IF;
        NEW.confirmed := OLD.requires_confirmation;
        IF OLD.requires_confirmation AND (SELECT crisis_deciders FROM hitherto.regime_rule) = 2 AND hitherto.regime_changes_crisis(OLD.regime_id, OLD.regime)
           AND (OLD.first_confirmed_by IS NULL OR lower(btrim(OLD.first_confirmed_by)) = lower(btrim(NEW.decided_by))) THEN
            RAISE EXCEPTION 'regime % changes into or out of crisis: two different people must confirm it, and only % has', OLD.regime_id,
                coalesce(OLD.first_confirmed_by, NEW.decided_by) USING ERRCODE = '55000';
        END IF;
    ELSIF OLD.status = 'proposed' AND NEW.status = 'expired' AND NOT coalesce(OLD.decide_by < clock_timestamp(), false) THEN
        RAISE EXCEPTION 'regime % can be decided until %', OLD.regime_id, coalesce(OLD.decide_by::text, 'somebody does') USING ERRCODE = '55000';
    END IF;
    RETURN NEW;
END
$$;

-- Only a superuser can tie a setting of ours to a function: it sets it itself.
CREATE OR REPLACE FUNCTION hitherto.regime_put_in_force(regime_id text, decided_by text, effective_from timestamptz DEFAULT NULL)
RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, hitherto, pg_temp AS $$
DECLARE
    since timestamptz;
    step_before text := current_setting('hitherto.regime_step', true);
BEGIN
    PERFORM set_config('hitherto.regime_step', 'on', true);
    PERFORM pg_advisory_xact_lock(hashtext('hitherto.regime_state'));
    SELECT greatest(least(coalesce(regime_put_in_force.effective_from, n.proposed_at), clock_timestamp()),
                    (SELECT max(greatest(r.effective_from, r.effective_until)) FROM hitherto.regime_state r)) INTO since
    FROM hitherto.regime_state n WHERE n.regime_id = regime_put_in_force.regime_id;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no regime %', regime_put_in_force.regime_id USING ERRCODE = 'P0002';
    END IF;
    UPDATE hitherto.regime_state r SET status = 'superseded', effective_until = since
    WHERE r.status = 'active' AND r.regime_id <> regime_put_in_force.regime_id;
    UPDATE hitherto.regime_state r SET status = 'active', effective_from = since, decided_at = since, decided_by = regime_put_in_force.decided_by
    WHERE r.regime_id = regime_put_in_force.regime_id;
    PERFORM set_config('hitherto.regime_step', coalesce(step_before, ''), true);
END
$$;

-- A writer proposes, and may say what is in force where no person must confirm it. Regimes that others have decided on, or that
-- are past, are the owner's to tell: they would stand in the way of those to come.
CREATE OR REPLACE FUNCTION hitherto.regime_state_inserted()
RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, hitherto, pg_temp AS $$
BEGIN
    IF NEW.legacy THEN
        RETURN NEW;
    END IF;
    IF NEW.status = 'proposed' THEN
        -- Nobody has decided yet, whatever the row says.
        NEW.requires_confirmation := hitherto.regime_rule_holds(NEW);
        NEW.confirmed := false;
        NEW.first_confirmed_by := NULL;
        NEW.decided_at := NULL;
        NEW.decided_by := NULL;
    ELSIF NEW.status = 'active' THEN
        IF hitherto.regime_rule_holds(NEW) THEN
            RAISE EXCEPTION 'regime % requires confirmation', NEW.regime_id USING ERRCODE = '23514', HINT = 'insert it as proposed, and confirm it';
        ELSIF NEW.effective_from > clock_timestamp() THEN
            RAISE EXCEPTION 'regime % would be in force from %, which is to come', NEW.regime_id, NEW.effective_from USING ERRCODE = '23514';
        END IF;
    ELSIF NOT has_table_privilege(session_user, 'hitherto.regime_state', 'TRIGGER') THEN
        RAISE EXCEPTION 'regime % is said to be % already, which only the schema''s owner may tell', NEW.regime_id, NEW.status
            USING ERRCODE = '23514', HINT = 'insert it as proposed';
    END IF;
    RETURN NEW;
END
$$;

-- One that comes so late that its time has passed expires, in place of holding its whole batch up.
CREATE OR REPLACE FUNCTION hitherto.regime_state_noted()
RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, hitherto, pg_temp AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO hitherto.regime_event (regime_id, event, actor, notes) VALUES (NEW.regime_id, 'proposed', NEW.classified_by, NEW.reasoning);
        IF NEW.status = 'proposed' AND NOT NEW.requires_confirmation AND NOT NEW.legacy THEN
            IF NEW.decide_by < clock_timestamp() THEN
                UPDATE hitherto.regime_state r SET status = 'expired' WHERE r.regime_id = NEW.regime_id;
            ELSE
                PERFORM hitherto.regime_put_in_force(NEW.regime_id, NEW.classified_by);
            END IF;
            RETURN NULL;
        END IF;
        INSERT INTO hitherto.regime_event (regime_id, event, actor, notes)
        SELECT NEW.regime_id, s.event, s.actor, s.notes FROM (VALUES
            (1, 'confirmed', NEW.decided_by, NEW.notes, NEW.confirmed),
            (2, 'activated', NEW.decided_by, NEW.notes, NEW.effective_from IS NOT NULL),
            (3, NEW.status, NEW.decided_by, NEW.notes, NEW.status = 'rejected'),
            (3, NEW.status, NULL, NULL, NEW.status IN ('expired', 'superseded'))) AS s (n, event, actor, notes, took_place)
        WHERE s.took_place ORDER BY s.n;
        RETURN NULL;
    END IF;
    INSERT INTO hitherto.regime_event (regime_id, event, actor, notes)
    SELECT NEW.regime_id, s.event, s.actor, nullif(btrim(right(NEW.notes, greatest(length(NEW.notes) - coalesce(length(OLD.notes), 0), 0)), E'\n'), '') FROM (VALUES
        (1, 'confirmed', NEW.first_confirmed_by, NEW.first_confirmed_by IS DISTINCT FROM OLD.first_confirmed_by),
        (2, 'confirmed', coalesce(NEW.decided_by, NEW.classified_by), NEW.confirmed AND NOT OLD.confirmed),
        (3, CASE NEW.status WHEN 'active' THEN 'activated' ELSE NEW.status END,
            CASE WHEN NEW.status IN ('active', 'rejected') THEN NEW.decided_by END, NEW.status <> OLD.status),
        (4, 'amended', NULL, (NEW.regime, NEW.confidence, NEW.method, NEW.classified_by, NEW.reasoning, NEW.context, NEW.decide_by)
                   IS DISTINCT FROM (OLD.regime, OLD.confidence, OLD.method, OLD.classified_by, OLD.reasoning, OLD.context, OLD.decide_by)
                   OR NEW.notes IS DISTINCT FROM OLD.notes AND (NEW.status, NEW.confirmed, NEW.first_confirmed_by) IS NOT DISTINCT FROM (OLD.status, OLD.confirmed, OLD.first_confirmed_by)
        )) AS s (n, event, actor, took_place)
    WHERE s.took_place ORDER BY s.n;
    RETURN NULL;
END
$$;

ALTER FUNCTION hitherto.regime_decide(text, boolean, text, text) SECURITY DEFINER SET search_path = pg_catalog, hitherto, pg_temp;
ALTER FUNCTION hitherto.regime_expire() SECURITY DEFINER SET search_path = pg_catalog, hitherto, pg_temp;

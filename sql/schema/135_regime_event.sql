-- A decision names who made it; what was written as decided before this rule was its classifier's.
UPDATE hitherto.regime_state
SET decided_by = coalesce(nullif(btrim(decided_by), ''), classified_by), decided_at = coalesce(decided_at, effective_from, proposed_at)
WHERE status IN ('active', 'superseded', 'rejected') AND (decided_at IS NULL OR coalesce(btrim(decided_by), '') = '');

ALTER TABLE hitherto.regime_state
    ADD COLUMN confirmed           boolean NOT NULL DEFAULT false,
    ADD COLUMN first_confirmed_by  text,
    ADD COLUMN legacy              boolean NOT NULL DEFAULT false,
    ADD CONSTRAINT regime_state_times_finite CHECK
        (isfinite(proposed_at) AND isfinite(decide_by) AND isfinite(decided_at) AND isfinite(effective_from) AND isfinite(effective_until)),
    ADD CONSTRAINT regime_state_decided_by_present CHECK
        (status IN ('proposed', 'expired') OR (decided_at IS NOT NULL AND decided_by IS NOT NULL AND length(btrim(decided_by)) BETWEEN 1 AND 200));
COMMENT ON COLUMN hitherto.regime_state.confirmed IS 'Whether a person confirmed it';
COMMENT ON COLUMN hitherto.regime_state.first_confirmed_by IS 'First of the two people who must confirm a change into or out of crisis, where two must';
COMMENT ON COLUMN hitherto.regime_state.legacy IS 'Written through the schema legacy: its writer had made the decision, the rules of confirmation do not hold it back';

CREATE TABLE hitherto.regime_rule (
    singleton        boolean          NOT NULL DEFAULT true CONSTRAINT regime_rule_pkey PRIMARY KEY CONSTRAINT regime_rule_singleton_true CHECK (singleton),
    confirm_below    double precision NOT NULL CONSTRAINT regime_rule_confirm_below_range CHECK (confirm_below BETWEEN 0 AND 1),
    confirm_crisis   boolean          NOT NULL,
    crisis_deciders  integer          NOT NULL CONSTRAINT regime_rule_crisis_deciders_range CHECK (crisis_deciders BETWEEN 1 AND 2)
);
COMMENT ON TABLE hitherto.regime_rule IS 'Which proposed regimes a person must confirm, besides those whose proposer asks for it; one row';
COMMENT ON COLUMN hitherto.regime_rule.singleton IS 'True: there is one row';
COMMENT ON COLUMN hitherto.regime_rule.confirm_below IS 'Those of lower confidence, 0 to 1';
COMMENT ON COLUMN hitherto.regime_rule.confirm_crisis IS 'Those that change into crisis or out of it';
COMMENT ON COLUMN hitherto.regime_rule.crisis_deciders IS 'How many different people must confirm a change into crisis or out of it, 1 or 2';
INSERT INTO hitherto.regime_rule (confirm_below, confirm_crisis, crisis_deciders) VALUES (0.5, true, 1);

CREATE TABLE hitherto.regime_event (
    event_number  bigint           GENERATED ALWAYS AS IDENTITY CONSTRAINT regime_event_pkey PRIMARY KEY,
    regime_id     text COLLATE "C" NOT NULL CONSTRAINT regime_event_regime_id_fkey REFERENCES hitherto.regime_state,
    event         text             NOT NULL CONSTRAINT regime_event_event_word CHECK
                                   (event IN ('proposed', 'confirmed', 'activated', 'rejected', 'expired', 'superseded', 'amended')),
    actor         text,
    notes         text,
    login         text             NOT NULL DEFAULT session_user,
    event_at      timestamptz      NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX regime_event_regime_id_idx ON hitherto.regime_event (regime_id, event_number);
COMMENT ON TABLE hitherto.regime_event IS 'Every step of the regime workflow; written by the database, append-only';
COMMENT ON COLUMN hitherto.regime_event.event_number IS 'Order of the steps';
COMMENT ON COLUMN hitherto.regime_event.regime_id IS 'The regime';
COMMENT ON COLUMN hitherto.regime_event.event IS 'proposed, confirmed, activated, rejected, expired, superseded or amended';
COMMENT ON COLUMN hitherto.regime_event.actor IS 'Module or person that made the step; NULL where it followed from another';
COMMENT ON COLUMN hitherto.regime_event.notes IS 'Their words';
COMMENT ON COLUMN hitherto.regime_event.login IS 'Login of the session that wrote it';
COMMENT ON COLUMN hitherto.regime_event.event_at IS 'When it was written';

-- What is there already has been through these steps.
INSERT INTO hitherto.regime_event (regime_id, event, actor, notes, event_at)
SELECT r.regime_id, s.event, s.actor, s.notes, s.event_at
FROM hitherto.regime_state r
CROSS JOIN LATERAL (VALUES
    ('proposed', r.classified_by, r.reasoning, r.proposed_at, true),
    ('activated', r.decided_by, r.notes, coalesce(r.decided_at, r.effective_from), r.effective_from IS NOT NULL),
    ('rejected', r.decided_by, r.notes, coalesce(r.decided_at, r.proposed_at), r.status = 'rejected'),
    ('expired', NULL, NULL, coalesce(r.decide_by, r.proposed_at), r.status = 'expired'),
    ('superseded', NULL, NULL, r.effective_until, r.status = 'superseded')
) AS s (event, actor, notes, event_at, took_place)
WHERE s.took_place ORDER BY s.event_at;

CREATE FUNCTION hitherto.regime_in_force(besides text)
RETURNS text LANGUAGE sql STABLE AS $$
    SELECT r.regime FROM hitherto.regime_state r WHERE r.effective_from IS NOT NULL AND r.regime_id IS DISTINCT FROM besides
    ORDER BY r.status = 'active' DESC, r.effective_until DESC LIMIT 1
$$;
COMMENT ON FUNCTION hitherto.regime_in_force(text) IS 'The regime that is in force, or was last, not looking at the one with this regime_id';

CREATE FUNCTION hitherto.regime_changes_crisis(regime_id text, regime text)
RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT (regime = 'crisis') <> coalesce(hitherto.regime_in_force(regime_id) = 'crisis', false)
$$;
COMMENT ON FUNCTION hitherto.regime_changes_crisis(text, text) IS 'Whether this regime would be a change into crisis or out of it';

CREATE FUNCTION hitherto.regime_rule_holds(r hitherto.regime_state)
RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT r.requires_confirmation OR r.confidence < rule.confirm_below
           OR (rule.confirm_crisis AND hitherto.regime_changes_crisis(r.regime_id, r.regime))
    FROM hitherto.regime_rule rule
$$;
COMMENT ON FUNCTION hitherto.regime_rule_holds(hitherto.regime_state) IS 'Whether a person must confirm this regime';

CREATE FUNCTION hitherto.regime_state_lock()
RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('hitherto.regime_state'));
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION hitherto.regime_state_lock() IS 'One decision on regimes at a time, whoever makes it';

CREATE FUNCTION hitherto.regime_state_inserted()
RETURNS trigger LANGUAGE plpgsql AS $$
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
    END IF;
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION hitherto.regime_state_inserted() IS 'Sets requires_confirmation by rule; refuses an active regime that a person must confirm';

CREATE FUNCTION hitherto.regime_state_updated()
RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    -- Set by the functions that take a whole step, as from one regime in force to the next.
    step boolean := current_setting('hitherto.regime_step', true) IS NOT DISTINCT FROM 'on';
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
COMMENT ON FUNCTION hitherto.regime_state_updated() IS 'The workflow''s steps: proposed to active, rejected or expired, active to superseded; nothing else changes';

CREATE FUNCTION hitherto.regime_state_noted()
RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO hitherto.regime_event (regime_id, event, actor, notes) VALUES (NEW.regime_id, 'proposed', NEW.classified_by, NEW.reasoning);
        IF NEW.status = 'proposed' AND NOT NEW.requires_confirmation AND NOT NEW.legacy THEN
            PERFORM hitherto.regime_put_in_force(NEW.regime_id, NEW.classified_by);
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
COMMENT ON FUNCTION hitherto.regime_state_noted() IS 'Writes each step to regime_event; a proposal that needs no confirmation takes effect';

-- What waits already is held to the rule as well.
UPDATE hitherto.regime_state r SET requires_confirmation = true WHERE r.status = 'proposed' AND hitherto.regime_rule_holds(r);

CREATE TRIGGER regime_state_lock BEFORE INSERT OR UPDATE ON hitherto.regime_state FOR EACH STATEMENT EXECUTE FUNCTION hitherto.regime_state_lock();
CREATE TRIGGER regime_state_inserted BEFORE INSERT ON hitherto.regime_state FOR EACH ROW EXECUTE FUNCTION hitherto.regime_state_inserted();
CREATE TRIGGER regime_state_updated BEFORE UPDATE ON hitherto.regime_state FOR EACH ROW EXECUTE FUNCTION hitherto.regime_state_updated();
CREATE TRIGGER regime_state_noted AFTER INSERT OR UPDATE ON hitherto.regime_state FOR EACH ROW EXECUTE FUNCTION hitherto.regime_state_noted();

-- It takes effect when it was proposed, unless a time is given, but not in the future, nor before the one that
-- it replaces did.
CREATE FUNCTION hitherto.regime_put_in_force(regime_id text, decided_by text, effective_from timestamptz DEFAULT NULL)
RETURNS void LANGUAGE plpgsql SET hitherto.regime_step = 'on' AS $$
DECLARE
    since timestamptz;
BEGIN
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
END
$$;
COMMENT ON FUNCTION hitherto.regime_put_in_force(text, text, timestamptz) IS 'Makes a proposed regime the active one; the one in force is superseded at the same instant';

CREATE FUNCTION hitherto.regime_decide(regime_id text, confirm boolean, decided_by text, notes text DEFAULT NULL)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    r hitherto.regime_state;
    who text := btrim(decided_by);
    words text := nullif(btrim(regime_decide.notes), '');
BEGIN
    IF coalesce(who, '') = '' THEN
        RAISE EXCEPTION 'a decision needs the name of whoever makes it' USING ERRCODE = '22023';
    END IF;
    PERFORM pg_advisory_xact_lock(hashtext('hitherto.regime_state'));
    SELECT * INTO r FROM hitherto.regime_state s WHERE s.regime_id = regime_decide.regime_id FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no regime %', regime_decide.regime_id USING ERRCODE = 'P0002', HINT = 'hitherto regime show lists those to be decided';
    ELSIF r.status = 'expired' OR r.status = 'proposed' AND r.decide_by < clock_timestamp() THEN
        RAISE EXCEPTION 'regime % was to be decided by % and has expired', r.regime_id, r.decide_by USING ERRCODE = '55000', HINT = 'propose it again';
    ELSIF r.status <> 'proposed' THEN
        RAISE EXCEPTION 'regime % is % already, decided by % at %', r.regime_id, r.status, coalesce(r.decided_by, 'nobody'), coalesce(r.decided_at, r.effective_from)
            USING ERRCODE = '55000', HINT = 'propose another one to change that';
    END IF;
    IF NOT confirm THEN
        UPDATE hitherto.regime_state s SET status = 'rejected', decided_at = clock_timestamp(), decided_by = who, notes = nullif(concat_ws(E'\n', s.notes, words), '')
        WHERE s.regime_id = r.regime_id;
    ELSIF r.requires_confirmation AND r.first_confirmed_by IS NULL AND (SELECT crisis_deciders FROM hitherto.regime_rule) = 2
          AND hitherto.regime_changes_crisis(r.regime_id, r.regime) THEN
        UPDATE hitherto.regime_state s SET first_confirmed_by = who, notes = nullif(concat_ws(E'\n', s.notes, words), '') WHERE s.regime_id = r.regime_id;
    ELSE
        IF lower(btrim(r.first_confirmed_by)) = lower(who) THEN
            RAISE EXCEPTION '% has confirmed regime % already: another person must confirm it, too', who, r.regime_id USING ERRCODE = '55000';
        END IF;
        UPDATE hitherto.regime_state s SET confirmed = true, decided_by = who, notes = nullif(concat_ws(E'\n', s.notes, words), '') WHERE s.regime_id = r.regime_id;
        PERFORM hitherto.regime_put_in_force(r.regime_id, who, clock_timestamp());
    END IF;
END
$$;
COMMENT ON FUNCTION hitherto.regime_decide(text, boolean, text, text) IS
    'A person confirms (true) or rejects (false) a proposed regime; of a change into or out of crisis that two must confirm, the first confirmation is noted';

CREATE FUNCTION hitherto.regime_expire()
RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    expired bigint;
BEGIN
    UPDATE hitherto.regime_state SET status = 'expired' WHERE status = 'proposed' AND decide_by < clock_timestamp();
    GET DIAGNOSTICS expired = ROW_COUNT;
    RETURN expired;
END
$$;
COMMENT ON FUNCTION hitherto.regime_expire() IS 'Proposals that nobody decided in time expire; how many did';

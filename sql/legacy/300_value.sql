-- What the triggers make of the old tables' values.

CREATE OR REPLACE FUNCTION legacy.utc(value timestamp, field text)
RETURNS timestamptz LANGUAGE plpgsql STABLE AS $$
DECLARE
    at timestamptz := value AT TIME ZONE 'UTC';
BEGIN
    -- A row dated far ahead would hide later ones from the aggregates.
    IF at > clock_timestamp() + INTERVAL '1 hour' OR at < clock_timestamp() - INTERVAL '3653 days' THEN
        RAISE EXCEPTION '%: % is %', field, value, CASE WHEN at > now() THEN 'more than 60 minutes ahead; times are UTC' ELSE 'more than 3653 days back' END
            USING ERRCODE = 'datetime_field_overflow';
    END IF;
    RETURN at;
END
$$;
COMMENT ON FUNCTION legacy.utc(timestamp, text) IS 'A naive UTC time as the store keeps it; refuses what lies more than ten years back or an hour ahead';

CREATE OR REPLACE FUNCTION legacy.word(value text, field text, VARIADIC allowed text[])
RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    word text := lower(btrim(value));
BEGIN
    IF word IS NULL OR NOT word = ANY (allowed) THEN
        RAISE EXCEPTION '%: % is none of %', field, coalesce('''' || value || '''', 'NULL'), array_to_string(allowed, ', ') USING ERRCODE = 'check_violation';
    END IF;
    RETURN word;
END
$$;
COMMENT ON FUNCTION legacy.word(text, text, text[]) IS 'A word in lower case; refuses one that is not among the allowed ones, and names them';

CREATE OR REPLACE FUNCTION legacy.exact(value double precision, field text)
RETURNS numeric LANGUAGE plpgsql IMMUTABLE SET extra_float_digits = 1 AS $$
BEGIN
    IF value IN ('NaN', 'Infinity', '-Infinity') OR abs(value) >= 1e20 THEN
        RAISE EXCEPTION '%: % is not a number within 20 digits before the point', field, value USING ERRCODE = 'numeric_value_out_of_range';
    END IF;
    -- The shortest decimal that reads back as this float, and no binary noise behind it.
    RETURN round(value::text::numeric, 18);
END
$$;
COMMENT ON FUNCTION legacy.exact(double precision, text) IS 'A float as the decimal that its writer meant; places past the 18th are rounded';

CREATE OR REPLACE FUNCTION legacy.document(value json, field text)
RETURNS jsonb LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    IF octet_length(value::text) > 262144 THEN
        RAISE EXCEPTION '%: is % bytes of JSON, more than 262144', field, octet_length(value::text) USING ERRCODE = 'check_violation';
    END IF;
    -- SQLAlchemy writes None as JSON null.
    RETURN nullif(value::jsonb, 'null');
END
$$;
COMMENT ON FUNCTION legacy.document(json, text) IS 'JSON as the store keeps it: null is NULL, and 256 KiB at most';

CREATE OR REPLACE FUNCTION legacy.hide(of_table text, id bigint, kept_batch_id uuid, row_at timestamptz)
RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO hitherto.legacy_tombstone AS t (table_name, legacy_id, kept_batch_id, row_at) VALUES (of_table, id, hide.kept_batch_id, hide.row_at)
    ON CONFLICT ON CONSTRAINT legacy_tombstone_pkey DO UPDATE
        SET kept_batch_id = excluded.kept_batch_id, row_at = excluded.row_at, hidden_at = excluded.hidden_at
        -- What somebody else deleted meanwhile stays deleted.
        WHERE t.kept_batch_id IS NOT NULL;
    RETURN FOUND;
END
$$;
COMMENT ON FUNCTION legacy.hide(text, bigint, uuid, timestamptz) IS
    'Lets the views show no row with this legacy_id but the one of kept_batch_id; false when it was deleted already';

-- A view's row is not locked by its UPDATE: by the time the trigger holds it, others may have changed it.
CREATE OR REPLACE FUNCTION legacy.hold(of_table text, id bigint, batch_id uuid, row_at timestamptz)
RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    -- The first to change a row notes the batch that it came with: it is shown as before.
    INSERT INTO hitherto.legacy_tombstone AS t (table_name, legacy_id, kept_batch_id, row_at) VALUES (of_table, id, hold.batch_id, hold.row_at)
    ON CONFLICT ON CONSTRAINT legacy_tombstone_pkey DO UPDATE SET hidden_at = t.hidden_at WHERE t.kept_batch_id IS NOT NULL;
    RETURN FOUND;
END
$$;
COMMENT ON FUNCTION legacy.hold(text, bigint, uuid, timestamptz) IS
    'Lets nobody else change the row with this legacy_id until this transaction ends; false when it was deleted already';

CREATE OR REPLACE FUNCTION legacy.merged(was anyelement, becomes anyelement, stands anyelement, called text)
RETURNS anyelement LANGUAGE plpgsql STABLE SET extra_float_digits = 1 AS $$
DECLARE
    before jsonb := to_jsonb(was);
    now_there jsonb := to_jsonb(stands);
    changed jsonb := (SELECT coalesce(jsonb_object_agg(e.key, e.value), '{}') FROM jsonb_each(to_jsonb(becomes)) e WHERE e.value <> before -> e.key);
    taken text := (SELECT string_agg(e.key, ', ') FROM jsonb_each(changed) e WHERE now_there -> e.key <> before -> e.key);
BEGIN
    IF taken IS NOT NULL THEN
        RAISE EXCEPTION '%: somebody else has changed % meanwhile; nothing was stored', called, taken
            USING ERRCODE = 'serialization_failure', HINT = 'Read it again, and repeat the transaction.';
    END IF;
    RETURN jsonb_populate_record(stands, changed);
END
$$;
COMMENT ON FUNCTION legacy.merged(anyelement, anyelement, anyelement, text) IS
    'The row that stands with what an UPDATE changes in the one that it saw; refuses to change what others have changed since';

CREATE OR REPLACE VIEW legacy.execution_reports AS
SELECT r.legacy_id AS id, r.proposal_id::varchar AS proposal_id, r.order_id::varchar AS order_id, r.asset::varchar AS asset, r.side::varchar AS side,
       r.quantity::double precision AS quantity, r.order_type::varchar AS order_type, r.status::varchar AS status,
       r.filled_quantity::double precision AS filled_quantity, r.average_fill_price::double precision AS average_fill_price,
       r.total_commission::double precision AS total_commission, r.submitted_at AT TIME ZONE 'UTC' AS submitted_at, r.filled_at AT TIME ZONE 'UTC' AS filled_at,
       r.broker::varchar AS broker_name, l.execution_metadata::json AS execution_metadata, l.execution_summary,
       coalesce(l.created_at, r.first_event_at) AT TIME ZONE 'UTC' AS created_at
FROM hitherto.execution_report r LEFT JOIN hitherto.legacy_order l USING (order_id)
WHERE NOT EXISTS (SELECT FROM hitherto.legacy_tombstone t WHERE t.table_name = 'execution_report' AND t.legacy_id = r.legacy_id);
ALTER VIEW legacy.execution_reports ALTER COLUMN filled_quantity SET DEFAULT 0;
ALTER VIEW legacy.execution_reports ALTER COLUMN created_at SET DEFAULT now() AT TIME ZONE 'UTC';

COMMENT ON VIEW legacy.execution_reports IS 'hitherto.execution_report under its old name; what is written to it becomes order events, decimals are shown as floats';
COMMENT ON COLUMN legacy.execution_reports.id IS 'execution_report.legacy_id';
COMMENT ON COLUMN legacy.execution_reports.proposal_id IS 'Proposal it carries out';
COMMENT ON COLUMN legacy.execution_reports.order_id IS 'The order, unique';
COMMENT ON COLUMN legacy.execution_reports.asset IS 'What is traded';
COMMENT ON COLUMN legacy.execution_reports.side IS 'buy or sell';
COMMENT ON COLUMN legacy.execution_reports.quantity IS 'Ordered quantity';
COMMENT ON COLUMN legacy.execution_reports.order_type IS 'As the broker calls it';
COMMENT ON COLUMN legacy.execution_reports.status IS 'What the events make of it: pending, submitted, partially_filled, filled, cancelled, rejected or expired';
COMMENT ON COLUMN legacy.execution_reports.filled_quantity IS 'Sum of its fills; a larger one records a fill of the difference';
COMMENT ON COLUMN legacy.execution_reports.average_fill_price IS 'Mean price of its fills';
COMMENT ON COLUMN legacy.execution_reports.total_commission IS 'Sum of its fills'' commissions';
COMMENT ON COLUMN legacy.execution_reports.submitted_at IS 'First submitted event, UTC';
COMMENT ON COLUMN legacy.execution_reports.filled_at IS 'When the fills reached the quantity, UTC';
COMMENT ON COLUMN legacy.execution_reports.broker_name IS 'Who executes';
COMMENT ON COLUMN legacy.execution_reports.execution_metadata IS 'As old code gave it';
COMMENT ON COLUMN legacy.execution_reports.execution_summary IS 'As old code gave it';
COMMENT ON COLUMN legacy.execution_reports.created_at IS 'When the report was made, or the order''s first event, UTC';

-- The shortest price that makes the average come out as the float that old code said.
CREATE OR REPLACE FUNCTION legacy.fill_price(average double precision, of_quantity numeric, other_notional numeric, quantity numeric)
RETURNS numeric LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    ideal numeric := (legacy.exact(average, 'execution_reports.average_fill_price') * of_quantity - other_notional) / quantity;
BEGIN
    FOR places IN 0..18 LOOP
        IF hitherto.divide_half_even(other_notional + round(ideal, places) * quantity, of_quantity)::double precision = average THEN
            RETURN round(ideal, places);
        END IF;
    END LOOP;
    RETURN round(ideal, 18);
END
$$;
COMMENT ON FUNCTION legacy.fill_price(double precision, numeric, numeric, numeric) IS
    'Price of a fill of quantity, given the average over of_quantity and the notional of the other fills';

CREATE OR REPLACE FUNCTION legacy.order_fills(of_order text)
RETURNS TABLE (event_id text, quantity numeric, price numeric, commission numeric, step bigint) LANGUAGE sql STABLE AS $$
    WITH event AS (
        SELECT e.*, row_number() OVER (ORDER BY e.event_at, e.sequence NULLS FIRST, hitherto.order_event_rank(e.event_type), e.event_id) AS step
        FROM hitherto.order_event e WHERE e.order_id = of_order
    )
    SELECT f.event_id, coalesce(c.last_quantity, f.last_quantity), coalesce(c.last_price, f.last_price), coalesce(c.commission, f.commission, 0), f.step
    FROM event f
    LEFT JOIN LATERAL (SELECT * FROM event x WHERE x.event_type = 'fill_corrected' AND x.ref_event_id = f.event_id ORDER BY x.step DESC LIMIT 1) c ON true
    WHERE f.event_type = 'fill' AND coalesce(c.last_quantity, f.last_quantity) > 0
      AND NOT EXISTS (SELECT FROM event v WHERE v.event_type = 'fill_voided' AND v.ref_event_id = f.event_id)
    ORDER BY f.step DESC
$$;
COMMENT ON FUNCTION legacy.order_fills(text) IS 'An order''s fills as they stand after corrections and voids, the latest first';

CREATE OR REPLACE FUNCTION legacy.order_event_store(e hitherto.order_event)
RETURNS hitherto.order_event LANGUAGE plpgsql AS $$
BEGIN
    e.event_id := gen_random_uuid();
    -- Events of one instant stay in the order in which they are written here.
    e.sequence := coalesce((SELECT r.event_count FROM hitherto.execution_report r WHERE r.order_id = e.order_id), 0) + 1;
    e.recorded_at := clock_timestamp();
    PERFORM hitherto.order_event_record(e);
    RETURN e;
END
$$;
COMMENT ON FUNCTION legacy.order_event_store(hitherto.order_event) IS 'Stores an order event under a fresh id';

CREATE OR REPLACE FUNCTION legacy.execution_reports_write()
RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, hitherto, pg_temp AS $$
DECLARE
    blank hitherto.order_event;
    e hitherto.order_event;
    stored hitherto.order_event[] := '{}';
    r hitherto.execution_report;
    stands legacy.execution_reports;
    fill record;
    filled_changed boolean;
    quantity numeric;
    filled numeric;
    commission numeric;
    excess numeric;
    submitted timestamptz := NULL;
    moment timestamptz := clock_timestamp();
    filled_at timestamptz;
BEGIN
    -- Running as the owner, this would heed the caller's setting: events are claimed and folded here by their triggers.
    PERFORM set_config('hitherto.set_based', '', true);
    IF TG_OP = 'DELETE' THEN
        RETURN CASE WHEN legacy.hide('execution_report', OLD.id, NULL, OLD.created_at AT TIME ZONE 'UTC') THEN OLD END;
    END IF;
    NEW.order_id := coalesce(NEW.order_id, gen_random_uuid()::text);
    NEW.status := legacy.word(coalesce(NEW.status, 'pending'), 'execution_reports.status',
                              'pending', 'submitted', 'partially_filled', 'filled', 'cancelled', 'rejected', 'expired');
    NEW.side := CASE WHEN NEW.side IS NOT NULL THEN legacy.word(NEW.side, 'execution_reports.side', 'buy', 'sell') END;
    IF NEW.filled_quantity < 0 THEN
        RAISE EXCEPTION 'execution_reports.filled_quantity of ''%'': % is negative', NEW.order_id, NEW.filled_quantity USING ERRCODE = 'check_violation';
    END IF;
    IF TG_OP = 'INSERT' THEN
        NEW.created_at := coalesce(legacy.utc(NEW.created_at, 'execution_reports.created_at') AT TIME ZONE 'UTC', moment AT TIME ZONE 'UTC');
        moment := NEW.created_at AT TIME ZONE 'UTC';
        -- Whoever comes second with an order waits here, and is told as the old table told it.
        BEGIN
            INSERT INTO hitherto.legacy_order VALUES (NEW.order_id, legacy.document(NEW.execution_metadata, 'execution_reports.execution_metadata'),
                                                      NEW.execution_summary, moment);
            IF EXISTS (SELECT FROM hitherto.execution_report x WHERE x.order_id = NEW.order_id) THEN
                RAISE unique_violation;
            END IF;
        EXCEPTION WHEN unique_violation THEN
            RAISE EXCEPTION 'duplicate key value violates unique constraint "execution_reports_order_id_key"'
                USING ERRCODE = 'unique_violation', CONSTRAINT = 'execution_reports_order_id_key',
                      DETAIL = format('Key (order_id)=(%s) already exists.', NEW.order_id),
                      HINT = coalesce((SELECT 'Its report was deleted here, at ' || t.hidden_at || ': it is not shown, but its events stand. Use another order_id.'
                              FROM hitherto.execution_report x JOIN hitherto.legacy_tombstone t ON t.table_name = 'execution_report' AND t.legacy_id = x.legacy_id
                              WHERE x.order_id = NEW.order_id), 'Update it instead.');
        END;
    ELSE
        IF NEW.order_id <> OLD.order_id OR NEW.id IS DISTINCT FROM OLD.id THEN
            RAISE EXCEPTION 'execution_reports: id and order_id of ''%'' can''t be changed: its events name it', OLD.order_id USING ERRCODE = 'check_violation';
        END IF;
        PERFORM FROM hitherto.execution_report x WHERE x.order_id = OLD.order_id FOR UPDATE;
        SELECT x.* INTO r FROM hitherto.execution_report x WHERE x.order_id = OLD.order_id;
        SELECT v.* INTO stands FROM legacy.execution_reports v WHERE v.id = OLD.id;
        IF NOT FOUND THEN
            RETURN NULL;
        END IF;
        NEW := legacy.merged(OLD::legacy.execution_reports, NEW::legacy.execution_reports, stands, format('execution_reports, order ''%s''', OLD.order_id));
        OLD := stands;
        IF (NEW.execution_metadata::text, NEW.execution_summary, NEW.created_at) IS DISTINCT FROM (OLD.execution_metadata::text, OLD.execution_summary, OLD.created_at) THEN
            INSERT INTO hitherto.legacy_order VALUES (NEW.order_id, legacy.document(NEW.execution_metadata, 'execution_reports.execution_metadata'),
                                                      NEW.execution_summary, coalesce(legacy.utc(NEW.created_at, 'execution_reports.created_at'), moment))
            ON CONFLICT ON CONSTRAINT legacy_order_pkey DO UPDATE SET execution_metadata = excluded.execution_metadata,
                execution_summary = excluded.execution_summary, created_at = excluded.created_at;
        END IF;
    END IF;
    blank.order_id := NEW.order_id;
    blank.batch_id := gen_random_uuid();

    -- What is said of the order, and that it was sent. On INSERT, OLD is NULL in every column.
    e := blank;
    quantity := CASE WHEN NEW.quantity IS DISTINCT FROM OLD.quantity THEN legacy.exact(NEW.quantity, 'execution_reports.quantity') ELSE r.quantity END;
    filled := coalesce(r.filled_quantity, 0);
    filled_changed := coalesce(NEW.filled_quantity, 0) <> coalesce(OLD.filled_quantity, 0);
    IF filled_changed THEN
        filled := coalesce(legacy.exact(NEW.filled_quantity, 'execution_reports.filled_quantity'), 0);
    ELSIF NEW.status = 'filled' AND OLD.status IS DISTINCT FROM 'filled' THEN
        filled := greatest(filled, quantity);
    END IF;
    -- 0.7 + 0.1 is not 0.8 in floats: what is left to fill is what was meant.
    IF filled_changed AND abs(filled - quantity) <= 1e-9 * quantity THEN
        filled := quantity;
    END IF;
    commission := CASE WHEN NEW.total_commission IS DISTINCT FROM OLD.total_commission
                       THEN legacy.exact(NEW.total_commission, 'execution_reports.total_commission') - coalesce(r.total_commission, 0) END;
    filled_at := CASE WHEN NEW.filled_at IS DISTINCT FROM OLD.filled_at THEN legacy.utc(NEW.filled_at, 'execution_reports.filled_at') END;
    submitted := CASE WHEN NEW.submitted_at IS DISTINCT FROM OLD.submitted_at THEN legacy.utc(NEW.submitted_at, 'execution_reports.submitted_at') END;
    e.proposal_id := CASE WHEN NEW.proposal_id IS DISTINCT FROM OLD.proposal_id THEN NEW.proposal_id END;
    e.asset := CASE WHEN NEW.asset IS DISTINCT FROM OLD.asset THEN NEW.asset END;
    e.side := CASE WHEN NEW.side IS DISTINCT FROM OLD.side THEN NEW.side END;
    e.order_type := CASE WHEN NEW.order_type IS DISTINCT FROM OLD.order_type THEN NEW.order_type END;
    e.broker := CASE WHEN NEW.broker_name IS DISTINCT FROM OLD.broker_name THEN NEW.broker_name END;
    e.quantity := CASE WHEN NEW.quantity IS DISTINCT FROM OLD.quantity THEN quantity END;
    -- Only fills have a commission of their own.
    e.commission := CASE WHEN filled = 0 THEN nullif(commission, 0) END;
    IF submitted IS NOT NULL OR NEW.status = 'submitted' AND OLD.status IS DISTINCT FROM 'submitted'
       OR coalesce(r.status, 'pending') = 'pending' AND (NEW.status IN ('partially_filled', 'filled') OR filled > coalesce(r.filled_quantity, 0)) THEN
        e.event_type := 'submitted';
    ELSIF TG_OP = 'INSERT' OR NEW.status = 'pending' AND OLD.status <> 'pending' THEN
        e.event_type := 'pending';
    ELSIF num_nonnulls(e.proposal_id, e.asset, e.side, e.order_type, e.broker, e.quantity, e.commission) > 0 THEN
        e.event_type := CASE r.status WHEN 'pending' THEN 'pending' ELSE 'replaced' END;
    END IF;
    IF e.event_type IS NOT NULL THEN
        e.event_at := coalesce(submitted, least(moment, filled_at));
        stored := stored || legacy.order_event_store(e);
    END IF;

    IF filled > coalesce(r.filled_quantity, 0) THEN
        e := blank;
        e.event_type := 'fill';
        e.event_at := coalesce(filled_at, greatest(moment, submitted));
        e.last_quantity := filled - coalesce(r.filled_quantity, 0);
        IF NEW.average_fill_price IS NOT NULL THEN
            e.last_price := legacy.fill_price(NEW.average_fill_price, e.last_quantity + CASE WHEN r.average_fill_price IS NULL THEN 0 ELSE r.filled_quantity END,
                                              coalesce(r.filled_notional, 0), e.last_quantity);
        END IF;
        e.commission := nullif(commission, 0);
        -- What was said before there was a fill to charge it to is the first one's.
        IF commission IS NULL AND coalesce(r.filled_quantity, 0) = 0 THEN
            e.commission := (SELECT x.commission FROM hitherto.order_event x JOIN hitherto.ingest_batch b USING (batch_id)
                             WHERE x.order_id = NEW.order_id AND x.commission IS NOT NULL AND x.event_type NOT LIKE 'fill%' AND b.producer = 'legacy'
                             ORDER BY x.recorded_at DESC LIMIT 1);
        END IF;
        stored := stored || legacy.order_event_store(e);
    ELSIF TG_OP = 'UPDATE' THEN
        -- Smaller than what the writer itself had seen: the latest fills did not happen, or not whole.
        excess := CASE WHEN NEW.filled_quantity < OLD.filled_quantity THEN r.filled_quantity - filled ELSE 0 END;
        FOR fill IN SELECT * FROM legacy.order_fills(NEW.order_id) LOOP
            EXIT WHEN excess <= 0;
            e := blank;
            e.event_at := moment;
            e.ref_event_id := fill.event_id;
            e.event_type := CASE WHEN fill.quantity <= excess THEN 'fill_voided' ELSE 'fill_corrected' END;
            IF e.event_type = 'fill_corrected' THEN
                -- The latest correction is the one that counts: it says all there is to say.
                e.last_quantity := fill.quantity - excess;
                e.last_price := fill.price;
                e.commission := fill.commission;
            END IF;
            excess := excess - fill.quantity;
            stored := stored || legacy.order_event_store(e);
        END LOOP;
        SELECT x.* INTO r FROM hitherto.execution_report x WHERE x.order_id = NEW.order_id;
        SELECT * INTO fill FROM legacy.order_fills(NEW.order_id) LIMIT 1;
        -- Whoever says less than others have said meanwhile corrects nothing.
        IF FOUND AND NOT coalesce(NEW.filled_quantity > OLD.filled_quantity, false) THEN
            e := blank;
            e.event_at := moment;
            e.event_type := 'fill_corrected';
            e.ref_event_id := fill.event_id;
            e.last_quantity := fill.quantity;
            e.last_price := fill.price;
            IF NEW.average_fill_price IS DISTINCT FROM OLD.average_fill_price AND NEW.average_fill_price IS DISTINCT FROM r.average_fill_price::double precision THEN
                e.last_price := legacy.fill_price(NEW.average_fill_price, r.filled_quantity, r.filled_notional - fill.quantity * coalesce(fill.price, 0), fill.quantity);
            END IF;
            e.commission := fill.commission;
            IF NEW.total_commission IS DISTINCT FROM OLD.total_commission THEN
                e.commission := coalesce(fill.commission + legacy.exact(NEW.total_commission, 'execution_reports.total_commission') - r.total_commission, fill.commission);
            END IF;
            IF (e.last_price, e.commission) IS DISTINCT FROM (fill.price, fill.commission) THEN
                stored := stored || legacy.order_event_store(e);
            END IF;
        END IF;
    END IF;

    IF NEW.status IN ('cancelled', 'rejected', 'expired') AND NEW.status IS DISTINCT FROM OLD.status THEN
        e := blank;
        e.event_type := NEW.status;
        e.event_at := greatest(moment, submitted, filled_at);
        stored := stored || legacy.order_event_store(e);
    END IF;
    IF cardinality(stored) > 0 THEN
        PERFORM hitherto.ledger_add(blank.batch_id, 'legacy', 'order_event', array_agg(hitherto.canonical_row(s)), min(s.event_at), max(s.event_at))
        FROM unnest(stored) AS s;
    END IF;
    IF TG_OP = 'INSERT' AND NEW.id IS NOT NULL THEN
        UPDATE hitherto.execution_report x SET legacy_id = NEW.id WHERE x.order_id = NEW.order_id;
    END IF;
    SELECT v.* INTO NEW FROM legacy.execution_reports v WHERE v.order_id = NEW.order_id;
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION legacy.execution_reports_write() IS
    'Turns what old code writes into order events: what changed becomes pending, submitted, replaced, fills, corrections, voids and the end. A DELETE hides the report';
CREATE OR REPLACE TRIGGER execution_reports_write INSTEAD OF INSERT OR UPDATE OR DELETE ON legacy.execution_reports
    FOR EACH ROW EXECUTE FUNCTION legacy.execution_reports_write();

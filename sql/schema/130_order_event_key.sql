-- An event's id is unique whatever its time: a hypertable's own unique key must contain the time. Kept
-- when retention drops the event, so that a producer that replays an old log still changes nothing.
CREATE TABLE hitherto.order_event_key (
    event_id  text COLLATE "C" NOT NULL CONSTRAINT order_event_key_pkey PRIMARY KEY,
    event_at  timestamptz      NOT NULL,
    order_id  text COLLATE "C" NOT NULL
);
COMMENT ON TABLE hitherto.order_event_key IS 'Ids that order events have taken; outlives the events';
COMMENT ON COLUMN hitherto.order_event_key.event_id IS 'The event''s own id';
COMMENT ON COLUMN hitherto.order_event_key.event_at IS 'Time of the event that took it first';
COMMENT ON COLUMN hitherto.order_event_key.order_id IS 'Its order';
-- Nobody stores an event between its ids being read and the triggers below.
LOCK TABLE hitherto.order_event IN SHARE ROW EXCLUSIVE MODE;
INSERT INTO hitherto.order_event_key SELECT DISTINCT ON (event_id) event_id, event_at, order_id FROM hitherto.order_event ORDER BY event_id, event_at;

CREATE TABLE hitherto.order_event_conflict (
    event_id  text COLLATE "C" NOT NULL,
    digest    bytea            NOT NULL,
    order_id  text COLLATE "C" NOT NULL,
    refused_order_id  text COLLATE "C" NOT NULL,
    batch_id  uuid             NOT NULL,
    CONSTRAINT order_event_conflict_pkey PRIMARY KEY (event_id, digest)
);
-- The fold flags both orders: the one whose event's id was taken a second time, and the one that lacks an event.
CREATE INDEX order_event_conflict_order_id_idx ON hitherto.order_event_conflict (order_id);
CREATE INDEX order_event_conflict_refused_order_id_idx ON hitherto.order_event_conflict (refused_order_id);
COMMENT ON TABLE hitherto.order_event_conflict IS 'Events that came under an id that stands with other content: they are in quarantine, the first stays';
COMMENT ON COLUMN hitherto.order_event_conflict.event_id IS 'The id';
COMMENT ON COLUMN hitherto.order_event_conflict.digest IS 'SHA-256 of the refused event, so that it is refused once however often it comes';
COMMENT ON COLUMN hitherto.order_event_conflict.order_id IS 'Order of the event that stands';
COMMENT ON COLUMN hitherto.order_event_conflict.refused_order_id IS 'Order of the refused event';
COMMENT ON COLUMN hitherto.order_event_conflict.batch_id IS 'Batch that the refused event came with';

-- Both are asked for every event or order of a batch. Without STRICT they become part of the query.
CREATE OR REPLACE FUNCTION hitherto.divide_half_even(dividend numeric, divisor numeric)
RETURNS numeric LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT (div(dividend * 1e18, divisor)
            + CASE WHEN 2 * abs(mod(dividend * 1e18, divisor)) > abs(divisor)
                        OR (2 * abs(mod(dividend * 1e18, divisor)) = abs(divisor) AND mod(div(dividend * 1e18, divisor), 2) <> 0)
                   THEN sign(dividend) * sign(divisor) ELSE 0 END) * 1e-18
$$;

CREATE OR REPLACE FUNCTION hitherto.order_event_rank(event_type text)
RETURNS integer LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT array_position(ARRAY['pending', 'submitted', 'accepted', 'replaced', 'fill', 'fill_corrected', 'fill_voided',
                                'cancel_requested', 'cancelled', 'rejected', 'expired'], event_type)
$$;

-- Reports that exist are locked first (in one order for everybody), and then computed in a second
-- snapshot that sees whatever other writers committed meanwhile. A report that did not exist has no row
-- to lock: if somebody else was faster to make it, the insert waits for them, overwrites what they
-- wrote from a snapshot without their events, holds the row from then on, and a second round mends it.
-- It must run under READ COMMITTED.
CREATE OR REPLACE FUNCTION hitherto.execution_report_fold(order_ids text[])
-- Compiling the query for every chunk takes far longer than running it; a plan made for any number of orders
-- joins them one by one, or looks for each row's id in the whole array.
RETURNS void LANGUAGE plpgsql VOLATILE SET jit = off SET enable_nestloop = off SET plan_cache_mode = force_custom_plan AS $$
DECLARE
    whole text[];
    locked bigint;
    existed bigint;
BEGIN
    WITH held AS (
        SELECT r.order_id, r.events_dropped FROM hitherto.execution_report r WHERE r.order_id = ANY (order_ids) ORDER BY r.order_id FOR UPDATE
    )
    SELECT count(*) FILTER (WHERE NOT h.events_dropped),
           ARRAY(SELECT id FROM unnest(order_ids) AS id EXCEPT SELECT d.order_id FROM held d WHERE d.events_dropped)
    INTO locked, whole FROM held h;
    -- An order of which retention has dropped events stays as it is, and says so.
    UPDATE hitherto.execution_report r SET anomalies = array_append(r.anomalies, 'event_after_retention')
    WHERE r.events_dropped AND r.order_id = ANY (order_ids) AND NOT 'event_after_retention' = ANY (r.anomalies);

    FOR round IN 1..2 LOOP
        WITH event AS MATERIALIZED (
            SELECT e.order_id, e.event_id, e.event_at, e.event_type, e.proposal_id, e.asset, e.side, e.order_type, e.quantity,
                   e.last_quantity, e.last_price, e.commission, e.broker, e.ref_event_id,
                   row_number() OVER (PARTITION BY e.order_id
                                      ORDER BY e.event_at, e.sequence NULLS FIRST, hitherto.order_event_rank(e.event_type), e.event_id) AS step
            FROM hitherto.order_event e
            WHERE e.order_id = ANY (whole)
        ), correction AS (
            SELECT DISTINCT ON (order_id, ref_event_id) order_id, ref_event_id, last_quantity, last_price, commission
            FROM event WHERE event_type = 'fill_corrected'
            ORDER BY order_id, ref_event_id, step DESC
        ), voided AS (
            SELECT DISTINCT order_id, ref_event_id FROM event WHERE event_type = 'fill_voided'
        ), fill AS (
            SELECT f.order_id, f.step, f.event_at,
                   coalesce(c.last_quantity, f.last_quantity) AS quantity,
                   coalesce(c.last_price, f.last_price) AS price,
                   coalesce(c.commission, f.commission, 0) AS commission
            FROM event f
            LEFT JOIN correction c ON c.order_id = f.order_id AND c.ref_event_id = f.event_id
            LEFT JOIN voided v ON v.order_id = f.order_id AND v.ref_event_id = f.event_id
            WHERE f.event_type = 'fill' AND v.order_id IS NULL
        ), counted AS (
            SELECT *, sum(quantity) OVER (PARTITION BY order_id ORDER BY step) AS cumulative
            FROM fill WHERE quantity > 0
        ), gathered AS (
            -- What is gathered in the order of steps needs no sort of its own: nine an order took most of the time.
            SELECT order_id,
                   (array_agg(proposal_id) FILTER (WHERE proposal_id IS NOT NULL))[1] AS proposal_id,
                   (array_agg(asset) FILTER (WHERE asset IS NOT NULL))[1] AS asset,
                   (array_agg(side) FILTER (WHERE side IS NOT NULL))[1] AS side,
                   (array_agg(order_type) FILTER (WHERE order_type IS NOT NULL))[1] AS order_type,
                   (array_agg(broker) FILTER (WHERE broker IS NOT NULL))[1] AS broker,
                   array_agg(quantity) FILTER (WHERE quantity IS NOT NULL AND event_type IN ('pending', 'submitted', 'replaced')) AS quantities,
                   max(event_at) FILTER (WHERE quantity IS NOT NULL AND event_type IN ('pending', 'submitted', 'replaced')) AS quantity_at,
                   min(event_at) FILTER (WHERE event_type = 'submitted') AS submitted_at,
                   min(event_at) FILTER (WHERE event_type = 'cancelled') AS cancelled_at,
                   min(event_at) FILTER (WHERE event_type = 'expired') AS expired_at,
                   min(event_at) FILTER (WHERE event_type = 'rejected') AS rejected_at,
                   min(step) FILTER (WHERE event_type = 'rejected') AS rejected_step,
                   bool_or(event_type IN ('submitted', 'accepted', 'replaced', 'cancel_requested')) AS submitted,
                   min(asset) <> max(asset) AS asset_changed,
                   min(side) <> max(side) AS side_changed,
                   bool_or(CASE event_type WHEN 'fill' THEN coalesce(last_quantity, 0) <= 0 WHEN 'fill_corrected' THEN last_quantity <= 0
                                           ELSE quantity <= 0 AND event_type IN ('pending', 'submitted', 'replaced') END) AS quantity_not_positive,
                   count(*) AS event_count, min(event_at) AS first_event_at, max(event_at) AS last_event_at
            FROM (SELECT * FROM event ORDER BY order_id, step) AS e GROUP BY order_id
        ), told AS (
            SELECT *, quantities[cardinality(quantities)] AS quantity FROM gathered
        ), filled AS (
            SELECT c.order_id, sum(c.quantity) AS quantity, sum(c.quantity * c.price) AS notional, sum(c.quantity) FILTER (WHERE c.price IS NOT NULL) AS priced,
                   sum(c.commission) AS commission, min(c.event_at) AS first_fill_at,
                   min(c.event_at) FILTER (WHERE c.cumulative >= t.quantity) AS reached_at,
                   max(c.step) AS last_step
            FROM counted c JOIN told t USING (order_id) GROUP BY c.order_id
        ), flaw AS (
            SELECT e.order_id, bool_or(e.event_type = 'fill_voided') AS void_unknown, bool_or(e.event_type = 'fill_corrected') AS correction_unknown
            FROM event e
            WHERE e.event_type IN ('fill_corrected', 'fill_voided')
              AND NOT EXISTS (SELECT FROM event f WHERE f.order_id = e.order_id AND f.event_type = 'fill' AND f.event_id = e.ref_event_id)
            GROUP BY e.order_id
        ), stood AS (
            SELECT t.*, coalesce(f.quantity, 0) AS filled_quantity, coalesce(f.notional, 0) AS notional, f.priced, coalesce(f.commission, 0) AS total_commission,
                   f.first_fill_at, greatest(f.reached_at, t.quantity_at) AS reached_at, f.last_step,
                   CASE WHEN f.quantity >= t.quantity AND t.quantity > 0 THEN 'filled'
                        WHEN t.cancelled_at IS NOT NULL THEN 'cancelled'
                        WHEN t.expired_at IS NOT NULL THEN 'expired'
                        WHEN f.quantity > 0 THEN 'partially_filled'
                        WHEN t.rejected_at IS NOT NULL THEN 'rejected'
                        WHEN t.submitted THEN 'submitted'
                        ELSE 'pending' END AS status,
                   coalesce(w.void_unknown, false) AS void_unknown, coalesce(w.correction_unknown, false) AS correction_unknown,
                   coalesce(greatest(f.quantity, abs(f.commission), abs(f.notional) / nullif(f.priced, 0)) > 99999999999999999999, false) AS out_of_range
            FROM told t LEFT JOIN filled f USING (order_id) LEFT JOIN flaw w USING (order_id)
        ), put AS (
            INSERT INTO hitherto.execution_report AS r
                (order_id, proposal_id, asset, side, order_type, quantity, status, filled_quantity, leaves_quantity, average_fill_price, total_commission,
                 submitted_at, first_fill_at, filled_at, closed_at, broker, anomalies, event_count, last_event_at, first_event_at, filled_notional)
            SELECT s.order_id, s.proposal_id, s.asset, s.side, s.order_type, s.quantity, s.status,
                   CASE WHEN s.out_of_range THEN 0 ELSE s.filled_quantity END,
                   CASE WHEN s.status NOT IN ('pending', 'submitted', 'partially_filled') OR s.quantity <= s.filled_quantity THEN 0 ELSE s.quantity - s.filled_quantity END,
                   CASE WHEN s.priced > 0 AND NOT s.out_of_range THEN hitherto.divide_half_even(s.notional, s.priced) END,
                   CASE WHEN s.out_of_range THEN 0 ELSE s.total_commission END,
                   s.submitted_at, s.first_fill_at,
                   CASE s.status WHEN 'filled' THEN s.reached_at END,
                   CASE s.status WHEN 'filled' THEN s.reached_at WHEN 'cancelled' THEN s.cancelled_at
                                 WHEN 'expired' THEN s.expired_at WHEN 'rejected' THEN s.rejected_at END,
                   s.broker,
                   array_remove(ARRAY[
                       CASE WHEN s.asset_changed THEN 'asset_changed' END,
                       CASE WHEN s.correction_unknown THEN 'correction_of_unknown_fill' END,
                       CASE WHEN EXISTS (SELECT FROM hitherto.order_event_conflict c WHERE c.order_id = s.order_id)
                             OR EXISTS (SELECT FROM hitherto.order_event_conflict c WHERE c.refused_order_id = s.order_id) THEN 'event_id_conflict' END,
                       CASE WHEN s.last_step > s.rejected_step THEN 'fill_after_reject' END,
                       CASE WHEN s.quantity_not_positive THEN 'non_positive_quantity' END,
                       CASE WHEN s.out_of_range THEN 'out_of_range' END,
                       CASE WHEN s.filled_quantity > s.quantity AND s.quantity > 0 THEN 'overfill' END,
                       CASE WHEN s.side_changed THEN 'side_changed' END,
                       CASE WHEN s.void_unknown THEN 'void_of_unknown_fill' END], NULL),
                   s.event_count, s.last_event_at, s.first_event_at, s.notional
            FROM stood s ORDER BY s.order_id
            ON CONFLICT (order_id) DO UPDATE SET
                proposal_id = excluded.proposal_id, asset = excluded.asset, side = excluded.side, order_type = excluded.order_type,
                quantity = excluded.quantity, status = excluded.status, filled_quantity = excluded.filled_quantity,
                leaves_quantity = excluded.leaves_quantity, average_fill_price = excluded.average_fill_price,
                total_commission = excluded.total_commission, submitted_at = excluded.submitted_at, first_fill_at = excluded.first_fill_at,
                filled_at = excluded.filled_at, closed_at = excluded.closed_at, broker = excluded.broker, anomalies = excluded.anomalies,
                event_count = excluded.event_count, last_event_at = excluded.last_event_at, first_event_at = excluded.first_event_at,
                filled_notional = excluded.filled_notional
            -- A row that this very statement made has no xmax.
            RETURNING r.xmax <> 0 AS existed
        )
        SELECT count(*) FILTER (WHERE put.existed) INTO existed FROM put;
        EXIT WHEN existed <= locked;
        locked := existed;
    END LOOP;
END
$$;
COMMENT ON FUNCTION hitherto.execution_report_fold(text[]) IS
    'Folds these orders'' events into execution_report; call it in the transaction that inserted events, under READ COMMITTED';

-- Rows written by hand are held to the same rules as a writer's, which claims ids and folds a batch at once
-- and says so in hitherto.set_based.
CREATE FUNCTION hitherto.order_event_claim()
RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    key hitherto.order_event_key;
    event jsonb := to_jsonb(NEW) - '{recorded_at,batch_id}'::text[];
    stands jsonb;
BEGIN
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
COMMENT ON FUNCTION hitherto.order_event_claim() IS 'Takes an event''s id; the same event again is passed over, another one under its id goes to quarantine';

CREATE FUNCTION hitherto.order_event_folded()
RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM hitherto.execution_report_fold(ARRAY[NEW.order_id]);
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION hitherto.order_event_folded() IS 'Folds the order of an event written by hand';

CREATE TRIGGER order_event_claim BEFORE INSERT ON hitherto.order_event FOR EACH ROW
WHEN (current_setting('hitherto.set_based', true) IS DISTINCT FROM 'on') EXECUTE FUNCTION hitherto.order_event_claim();
CREATE TRIGGER order_event_folded AFTER INSERT ON hitherto.order_event FOR EACH ROW
WHEN (current_setting('hitherto.set_based', true) IS DISTINCT FROM 'on') EXECUTE FUNCTION hitherto.order_event_folded();

CREATE FUNCTION hitherto.order_event_record(e hitherto.order_event)
RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO hitherto.order_event (event_at, order_id, event_id, sequence, proposal_id, event_type, asset, side, order_type, quantity, price,
                                      last_quantity, last_price, commission, broker, reason, ref_event_id, details, batch_id)
    VALUES (e.event_at, e.order_id, e.event_id, e.sequence, e.proposal_id, e.event_type, e.asset, e.side, e.order_type, e.quantity, e.price,
            e.last_quantity, e.last_price, e.commission, e.broker, e.reason, e.ref_event_id, e.details, e.batch_id);
    RETURN FOUND;
END
$$;
COMMENT ON FUNCTION hitherto.order_event_record(hitherto.order_event) IS
    'Stores one event and folds its order; false when it was there already, or went to quarantine because its id stands with other content';

-- Nearly all events are new. Their ids are claimed and the events stored without a look at what stands, which takes
-- two thirds of the time; an id that is taken, or that comes twice, undoes that and sends the whole call
-- the long way. A replay finds out by its first id: the ids are claimed in their order.
CREATE OR REPLACE FUNCTION hitherto.order_event_store(
    event_at timestamptz[], order_id text[], event_id text[], sequence bigint[], proposal_id text[], event_type text[], asset text[],
    side text[], order_type text[], quantity numeric[], price numeric[], last_quantity numeric[], last_price numeric[],
    commission numeric[], broker text[], reason text[], ref_event_id text[], details jsonb[], batch_id uuid)
RETURNS TABLE (stored_id text, stored_at timestamptz) LANGUAGE plpgsql SECURITY DEFINER
-- Ids are claimed for the batch as a whole, not by a trigger row by row.
SET search_path = pg_catalog, hitherto, pg_temp SET plan_cache_mode = force_custom_plan AS $$
#variable_conflict use_column
DECLARE
    set_based_before text := current_setting('hitherto.set_based', true);
    all_new boolean := true;
BEGIN
    IF NOT has_table_privilege('hitherto.order_event', 'TRIGGER') THEN
        RAISE EXCEPTION 'hitherto.order_event and hitherto.order_event_store have different owners' USING ERRCODE = 'insufficient_privilege',
            HINT = 'Give all objects of the schema one owner.';
    END IF;
    PERFORM set_config('hitherto.set_based', 'on', true);
    BEGIN
        INSERT INTO hitherto.order_event_key (event_id, event_at, order_id)
        SELECT r.event_id, r.event_at, r.order_id FROM unnest($1, $2, $3) AS r (event_at, order_id, event_id) ORDER BY r.event_id COLLATE "C";
        INSERT INTO hitherto.order_event (event_at, order_id, event_id, sequence, proposal_id, event_type, asset, side, order_type, quantity, price, last_quantity,
                last_price, commission, broker, reason, ref_event_id, details, batch_id)
        SELECT r.event_at, r.order_id, r.event_id, r.sequence, r.proposal_id, r.event_type, r.asset, r.side, r.order_type, r.quantity, r.price,
                r.last_quantity, r.last_price, r.commission, r.broker, r.reason, r.ref_event_id, r.details, $19
        FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18) AS r (event_at, order_id, event_id, sequence, proposal_id, event_type, asset, side, order_type, quantity, price, last_quantity,
                last_price, commission, broker, reason, ref_event_id, details);
    EXCEPTION WHEN unique_violation THEN
        all_new := false;
    END;
    IF all_new THEN
        RETURN QUERY SELECT r.event_id, r.event_at FROM unnest($1, $3) AS r (event_at, event_id);
    ELSE
        RETURN QUERY
        WITH incoming AS (
            SELECT DISTINCT ON (r.event_id COLLATE "C") r.event_at, r.order_id, r.event_id, r.sequence, r.proposal_id, r.event_type, r.asset, r.side, r.order_type, r.quantity, r.price,
                    r.last_quantity, r.last_price, r.commission, r.broker, r.reason, r.ref_event_id, r.details
            FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18) WITH ORDINALITY AS r (event_at, order_id, event_id, sequence, proposal_id, event_type, asset, side, order_type, quantity, price, last_quantity,
                    last_price, commission, broker, reason, ref_event_id, details, n)
            ORDER BY r.event_id COLLATE "C", r.n
        ), claimed AS (
            INSERT INTO hitherto.order_event_key AS k (event_id, event_at, order_id) SELECT i.event_id, i.event_at, i.order_id FROM incoming i ORDER BY i.event_id COLLATE "C"
            ON CONFLICT DO NOTHING RETURNING k.event_id
        )
        INSERT INTO hitherto.order_event AS s (event_at, order_id, event_id, sequence, proposal_id, event_type, asset, side, order_type, quantity, price, last_quantity,
                last_price, commission, broker, reason, ref_event_id, details, batch_id)
        SELECT i.event_at, i.order_id, i.event_id, i.sequence, i.proposal_id, i.event_type, i.asset, i.side, i.order_type, i.quantity, i.price,
                i.last_quantity, i.last_price, i.commission, i.broker, i.reason, i.ref_event_id, i.details, $19
        FROM incoming i JOIN claimed c ON c.event_id = i.event_id
        ON CONFLICT DO NOTHING
        RETURNING s.event_id::text, s.event_at;
    END IF;
    PERFORM set_config('hitherto.set_based', coalesce(set_based_before, ''), true);
END
$$;

-- The events of a large batch fit in memory.
ALTER FUNCTION hitherto.execution_report_fold(text[]) SET work_mem = '64MB';

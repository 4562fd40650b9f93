CREATE OR REPLACE VIEW legacy.portfolio_snapshots AS
SELECT s.legacy_id AS id, s.positions::json AS positions_json, s.cash_balance::double precision AS cash_balance,
       s.total_value::double precision AS total_value, s.portfolio_var, s.portfolio_volatility, s.max_position_concentration, s.correlation_risk,
       s.reason::varchar AS snapshot_reason, s.market_hours, s.taken_at AT TIME ZONE 'UTC' AS created_at
FROM hitherto.portfolio_snapshot s
WHERE NOT EXISTS (SELECT FROM hitherto.legacy_tombstone t WHERE t.table_name = 'portfolio_snapshot' AND t.legacy_id = s.legacy_id
                  AND t.kept_batch_id IS DISTINCT FROM s.batch_id);
ALTER VIEW legacy.portfolio_snapshots ALTER COLUMN id SET DEFAULT nextval('hitherto.portfolio_snapshot_legacy_id');
ALTER VIEW legacy.portfolio_snapshots ALTER COLUMN created_at SET DEFAULT now() AT TIME ZONE 'UTC';

COMMENT ON VIEW legacy.portfolio_snapshots IS 'hitherto.portfolio_snapshot under its old name; decimals as floats';
COMMENT ON COLUMN legacy.portfolio_snapshots.id IS 'portfolio_snapshot.legacy_id';
COMMENT ON COLUMN legacy.portfolio_snapshots.positions_json IS 'asset -> quantity, or asset -> {quantity, price}';
COMMENT ON COLUMN legacy.portfolio_snapshots.cash_balance IS 'Cash, in the portfolio''s currency';
COMMENT ON COLUMN legacy.portfolio_snapshots.total_value IS 'Cash and positions, in the portfolio''s currency';
COMMENT ON COLUMN legacy.portfolio_snapshots.portfolio_var IS 'Value at risk';
COMMENT ON COLUMN legacy.portfolio_snapshots.portfolio_volatility IS 'Standard deviation of returns';
COMMENT ON COLUMN legacy.portfolio_snapshots.max_position_concentration IS 'A fraction';
COMMENT ON COLUMN legacy.portfolio_snapshots.correlation_risk IS 'Mean correlation';
COMMENT ON COLUMN legacy.portfolio_snapshots.snapshot_reason IS 'reason';
COMMENT ON COLUMN legacy.portfolio_snapshots.market_hours IS 'Whether the market was open, as its writer said';
COMMENT ON COLUMN legacy.portfolio_snapshots.created_at IS 'taken_at, UTC';

-- portfolio_position casts every quantity and price to numeric(38,18): all of them must fit.
CREATE OR REPLACE FUNCTION legacy.positions(value json)
RETURNS jsonb LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    all_of jsonb := coalesce(legacy.document(value, 'portfolio_snapshots.positions_json'), '{}');
    p record;
    number text;
BEGIN
    IF jsonb_typeof(all_of) <> 'object' THEN
        RAISE EXCEPTION 'portfolio_snapshots.positions_json: is % and no object of asset -> quantity or asset -> {quantity, price}', jsonb_typeof(all_of)
            USING ERRCODE = 'check_violation';
    END IF;
    FOR p IN SELECT e.key AS asset, e.value, jsonb_typeof(e.value) AS kind FROM jsonb_each(all_of) AS e LOOP
        FOREACH number IN ARRAY CASE WHEN p.kind <> 'object' THEN ARRAY[p.value #>> '{}']
                                     WHEN p.value ->> 'price' IS NULL THEN ARRAY[p.value ->> 'quantity']
                                     ELSE ARRAY[p.value ->> 'quantity', p.value ->> 'price'] END LOOP
            -- Other than a cast, this neither rounds nor lets NaN pass.
            IF number ~ '^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?$' IS NOT TRUE OR abs(number::numeric) >= 1e20 THEN
                RAISE EXCEPTION 'portfolio_snapshots.positions_json: position ''%'' is neither a quantity nor {quantity, price}: %', p.asset, p.value
                    USING ERRCODE = 'check_violation';
            END IF;
        END LOOP;
    END LOOP;
    RETURN all_of;
END
$$;
COMMENT ON FUNCTION legacy.positions(json) IS 'Positions as the store keeps them; refuses what is neither a quantity nor an object with one';

CREATE OR REPLACE FUNCTION legacy.portfolio_snapshots_write()
RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, hitherto, pg_temp AS $$
DECLARE
    r hitherto.portfolio_snapshot;
    stands legacy.portfolio_snapshots;
BEGIN
    IF TG_OP = 'DELETE' THEN
        RETURN CASE WHEN legacy.hide('portfolio_snapshot', OLD.id, NULL, OLD.created_at AT TIME ZONE 'UTC') THEN OLD END;
    END IF;
    r.batch_id := gen_random_uuid();
    IF TG_OP = 'UPDATE' THEN
        NEW.id := OLD.id;
        IF NOT legacy.hold('portfolio_snapshot', OLD.id, (SELECT h.batch_id FROM hitherto.portfolio_snapshot h WHERE h.legacy_id = OLD.id LIMIT 1), OLD.created_at AT TIME ZONE 'UTC') THEN
            RETURN NULL;
        END IF;
        SELECT v.* INTO stands FROM legacy.portfolio_snapshots v WHERE v.id = OLD.id;
        NEW := legacy.merged(OLD::legacy.portfolio_snapshots, NEW::legacy.portfolio_snapshots, stands, 'portfolio_snapshots ' || OLD.id);
        OLD := stands;
        PERFORM legacy.hide('portfolio_snapshot', OLD.id, r.batch_id, OLD.created_at AT TIME ZONE 'UTC');
        -- What was not changed keeps the digits that a float has no room for.
        SELECT s.cash_balance, s.total_value INTO r.cash_balance, r.total_value FROM hitherto.portfolio_snapshot s
        WHERE s.legacy_id = OLD.id AND s.cash_balance::double precision = OLD.cash_balance AND s.total_value::double precision = OLD.total_value LIMIT 1;
    END IF;
    IF TG_OP = 'INSERT' OR NEW.cash_balance IS DISTINCT FROM OLD.cash_balance THEN
        r.cash_balance := legacy.exact(NEW.cash_balance, 'portfolio_snapshots.cash_balance');
    END IF;
    IF TG_OP = 'INSERT' OR NEW.total_value IS DISTINCT FROM OLD.total_value THEN
        r.total_value := legacy.exact(NEW.total_value, 'portfolio_snapshots.total_value');
    END IF;
    r.legacy_id := coalesce(NEW.id, nextval('hitherto.portfolio_snapshot_legacy_id'));
    r.taken_at := coalesce(legacy.utc(NEW.created_at, 'portfolio_snapshots.created_at'), now());
    r.snapshot_id := gen_random_uuid();
    r.positions := legacy.positions(NEW.positions_json);
    r.portfolio_var := NEW.portfolio_var;
    r.portfolio_volatility := NEW.portfolio_volatility;
    r.max_position_concentration := NEW.max_position_concentration;
    r.correlation_risk := NEW.correlation_risk;
    r.reason := NEW.snapshot_reason;
    r.market_hours := NEW.market_hours;
    INSERT INTO hitherto.portfolio_snapshot SELECT r.*;
    PERFORM hitherto.ledger_add(r.batch_id, 'legacy', 'portfolio_snapshot', ARRAY[hitherto.canonical_row(r)], r.taken_at, r.taken_at);
    NEW.id := r.legacy_id;
    NEW.positions_json := r.positions;
    NEW.created_at := r.taken_at AT TIME ZONE 'UTC';
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION legacy.portfolio_snapshots_write() IS 'Stores a snapshot; an UPDATE stores it anew and hides the old row, a DELETE hides it';
CREATE OR REPLACE TRIGGER portfolio_snapshots_write INSTEAD OF INSERT OR UPDATE OR DELETE ON legacy.portfolio_snapshots
    FOR EACH ROW EXECUTE FUNCTION legacy.portfolio_snapshots_write();

CREATE TABLE hitherto.execution_report (
    order_id            text COLLATE "C" NOT NULL CONSTRAINT execution_report_pkey PRIMARY KEY,
    proposal_id         text COLLATE "C",
    asset               text COLLATE "C",
    side                text COLLATE "C",
    order_type          text COLLATE "C",
    quantity            numeric(38,18),
    status              text             NOT NULL CONSTRAINT execution_report_status_word CHECK
                                         (status IN ('pending', 'submitted', 'partially_filled', 'filled', 'cancelled', 'rejected', 'expired')),
    filled_quantity     numeric(38,18)   NOT NULL DEFAULT 0,
    leaves_quantity     numeric(38,18),
    average_fill_price  numeric(38,18),
    total_commission    numeric(38,18)   NOT NULL DEFAULT 0,
    submitted_at        timestamptz,
    first_fill_at       timestamptz,
    filled_at           timestamptz,
    closed_at           timestamptz,
    broker              text,
    anomalies           text[]           NOT NULL DEFAULT '{}',
    event_count         bigint           NOT NULL DEFAULT 0,
    last_event_at       timestamptz,
    first_event_at      timestamptz,
    filled_notional     numeric          NOT NULL DEFAULT 0,
    events_dropped      boolean          NOT NULL DEFAULT false
);
-- decision_trail: the orders of a proposal.
CREATE INDEX execution_report_proposal_id_idx ON hitherto.execution_report (proposal_id);
-- order_execution_hour and _day: the orders of a range of time.
CREATE INDEX execution_report_first_event_at_idx ON hitherto.execution_report (first_event_at);
COMMENT ON TABLE hitherto.execution_report IS 'Where each order stands: a fold over its events, never written by hand';
COMMENT ON COLUMN hitherto.execution_report.order_id IS 'The order';
COMMENT ON COLUMN hitherto.execution_report.proposal_id IS 'Proposal it carries out, from the first event that names one';
COMMENT ON COLUMN hitherto.execution_report.asset IS 'What is traded, from the first event that names it';
COMMENT ON COLUMN hitherto.execution_report.side IS 'buy or sell, from the first event that names it';
COMMENT ON COLUMN hitherto.execution_report.order_type IS 'Type, from the first event that names it';
COMMENT ON COLUMN hitherto.execution_report.quantity IS 'Ordered quantity (FIX OrderQty): the last of pending, submitted and replaced that names it';
COMMENT ON COLUMN hitherto.execution_report.status IS 'pending, submitted, partially_filled, filled, cancelled, rejected or expired (FIX OrdStatus by its precedence)';
COMMENT ON COLUMN hitherto.execution_report.filled_quantity IS 'Sum of its fills (FIX CumQty), corrections and voids applied';
COMMENT ON COLUMN hitherto.execution_report.leaves_quantity IS 'Still to be filled (FIX LeavesQty); 0 once closed; NULL while the quantity is unknown';
COMMENT ON COLUMN hitherto.execution_report.average_fill_price IS 'Mean price of its fills weighted by quantity (FIX AvgPx), half-even at 18 places';
COMMENT ON COLUMN hitherto.execution_report.total_commission IS 'Sum of its fills'' commissions';
COMMENT ON COLUMN hitherto.execution_report.submitted_at IS 'First submitted event';
COMMENT ON COLUMN hitherto.execution_report.first_fill_at IS 'First fill that counts';
COMMENT ON COLUMN hitherto.execution_report.filled_at IS 'When the fills reached the quantity';
COMMENT ON COLUMN hitherto.execution_report.closed_at IS 'When it was filled, cancelled, rejected or expired';
COMMENT ON COLUMN hitherto.execution_report.broker IS 'Who executes, from the first event that names one';
COMMENT ON COLUMN hitherto.execution_report.anomalies IS 'Names of what should not have happened, sorted; with out_of_range, sums that do not fit are left at 0';
COMMENT ON COLUMN hitherto.execution_report.event_count IS 'Distinct events';
COMMENT ON COLUMN hitherto.execution_report.last_event_at IS 'Latest event';
COMMENT ON COLUMN hitherto.execution_report.first_event_at IS 'Earliest event; order_execution counts the order in its bucket';
COMMENT ON COLUMN hitherto.execution_report.filled_notional IS 'Sum of quantity times price over its fills, exact';
COMMENT ON COLUMN hitherto.execution_report.events_dropped IS 'Retention has dropped events of the order: its report can''t be folded again';

-- PostgreSQL rounds numeric half away from zero; the quotient's remainder decides exactly.
CREATE FUNCTION hitherto.divide_half_even(dividend numeric, divisor numeric)
RETURNS numeric LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT (q + CASE WHEN 2 * abs(r) > abs(divisor) OR (2 * abs(r) = abs(divisor) AND mod(q, 2) <> 0)
                     THEN sign(dividend) * sign(divisor) ELSE 0 END) * 1e-18
    FROM (SELECT div(dividend * 1e18, divisor) AS q,
                 dividend * 1e18 - div(dividend * 1e18, divisor) * divisor AS r) AS parts
$$;
COMMENT ON FUNCTION hitherto.divide_half_even(numeric, numeric) IS 'Quotient rounded half-even at 18 places';

CREATE FUNCTION hitherto.order_event_rank(event_type text)
RETURNS integer LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT array_position(ARRAY['pending', 'submitted', 'accepted', 'replaced', 'fill', 'fill_corrected', 'fill_voided',
                                'cancel_requested', 'cancelled', 'rejected', 'expired'], event_type)
$$;
COMMENT ON FUNCTION hitherto.order_event_rank(text) IS 'The lifecycle''s own order, for events of one instant without a sequence';

-- Two steps, because they need two snapshots: the first locks each order's row (in one order for
-- everybody, so that nobody deadlocks), the second reads whatever other writers committed while
-- this one waited. It must run under READ COMMITTED.
CREATE FUNCTION hitherto.execution_report_fold(order_ids text[])
-- Compiling the query for every chunk takes far longer than running it.
RETURNS void LANGUAGE plpgsql VOLATILE SET jit = off AS $$
DECLARE
    whole text[];
BEGIN
    INSERT INTO hitherto.execution_report (order_id, status)
    SELECT DISTINCT id COLLATE "C", 'pending' FROM unnest(order_ids) AS id ORDER BY 1
    ON CONFLICT (order_id) DO UPDATE SET status = execution_report.status;

    -- An order of which retention has dropped events stays as it is, and says so.
    UPDATE hitherto.execution_report r SET anomalies = array_append(r.anomalies, 'event_after_retention')
    WHERE r.events_dropped AND r.order_id = ANY (order_ids) AND NOT 'event_after_retention' = ANY (r.anomalies);
    whole := ARRAY(SELECT r.order_id FROM hitherto.execution_report r WHERE r.order_id = ANY (order_ids) AND NOT r.events_dropped);

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
    ), told AS (
        SELECT order_id,
               (array_agg(proposal_id ORDER BY step) FILTER (WHERE proposal_id IS NOT NULL))[1] AS proposal_id,
               (array_agg(asset ORDER BY step) FILTER (WHERE asset IS NOT NULL))[1] AS asset,
               (array_agg(side ORDER BY step) FILTER (WHERE side IS NOT NULL))[1] AS side,
               (array_agg(order_type ORDER BY step) FILTER (WHERE order_type IS NOT NULL))[1] AS order_type,
               (array_agg(broker ORDER BY step) FILTER (WHERE broker IS NOT NULL))[1] AS broker,
               (array_agg(quantity ORDER BY step DESC) FILTER (WHERE quantity IS NOT NULL AND event_type IN ('pending', 'submitted', 'replaced')))[1] AS quantity,
               (array_agg(event_at ORDER BY step DESC) FILTER (WHERE quantity IS NOT NULL AND event_type IN ('pending', 'submitted', 'replaced')))[1] AS quantity_at,
               min(event_at) FILTER (WHERE event_type = 'submitted') AS submitted_at,
               min(event_at) FILTER (WHERE event_type = 'cancelled') AS cancelled_at,
               min(event_at) FILTER (WHERE event_type = 'expired') AS expired_at,
               min(event_at) FILTER (WHERE event_type = 'rejected') AS rejected_at,
               min(step) FILTER (WHERE event_type = 'rejected') AS rejected_step,
               bool_or(event_type IN ('submitted', 'accepted', 'replaced', 'cancel_requested')) AS submitted,
               count(DISTINCT asset) > 1 AS asset_changed,
               count(DISTINCT side) > 1 AS side_changed,
               bool_or(quantity <= 0 AND event_type IN ('pending', 'submitted', 'replaced')) AS quantity_not_positive,
               count(*) AS event_count, min(event_at) AS first_event_at, max(event_at) AS last_event_at
        FROM event GROUP BY order_id
    ), filled AS (
        SELECT c.order_id, sum(c.quantity) AS quantity, sum(c.quantity * c.price) AS notional, sum(c.quantity) FILTER (WHERE c.price IS NOT NULL) AS priced,
               sum(c.commission) AS commission, min(c.event_at) AS first_fill_at,
               (array_agg(c.event_at ORDER BY c.step) FILTER (WHERE c.cumulative >= t.quantity))[1] AS reached_at,
               max(c.step) AS last_step
        FROM counted c JOIN told t USING (order_id) GROUP BY c.order_id
    ), flaw AS (
        SELECT e.order_id,
               bool_or(e.event_type = 'fill_voided' AND f.event_id IS NULL) AS void_unknown,
               bool_or(e.event_type = 'fill_corrected' AND f.event_id IS NULL) AS correction_unknown,
               bool_or(e.event_type = 'fill' AND coalesce(e.last_quantity, 0) <= 0 OR e.event_type = 'fill_corrected' AND e.last_quantity <= 0) AS fill_not_positive
        FROM event e LEFT JOIN event f ON f.order_id = e.order_id AND f.event_type = 'fill' AND f.event_id = e.ref_event_id
        WHERE e.event_type IN ('fill', 'fill_corrected', 'fill_voided') GROUP BY e.order_id
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
               coalesce(w.fill_not_positive, false) AS fill_not_positive,
               coalesce(greatest(f.quantity, abs(f.commission), abs(f.notional) / nullif(f.priced, 0)) > 99999999999999999999, false) AS out_of_range
        FROM told t LEFT JOIN filled f USING (order_id) LEFT JOIN flaw w USING (order_id)
    )
    UPDATE hitherto.execution_report r SET
        proposal_id = s.proposal_id, asset = s.asset, side = s.side, order_type = s.order_type, quantity = s.quantity, status = s.status,
        filled_quantity = CASE WHEN s.out_of_range THEN 0 ELSE s.filled_quantity END,
        leaves_quantity = CASE WHEN s.status IN ('pending', 'submitted', 'partially_filled') THEN CASE WHEN s.quantity > s.filled_quantity THEN s.quantity - s.filled_quantity WHEN s.quantity IS NOT NULL THEN 0 END ELSE 0 END,
        average_fill_price = CASE WHEN s.priced > 0 AND NOT s.out_of_range THEN hitherto.divide_half_even(s.notional, s.priced) END,
        total_commission = CASE WHEN s.out_of_range THEN 0 ELSE s.total_commission END,
        submitted_at = s.submitted_at, first_fill_at = s.first_fill_at,
        filled_at = CASE s.status WHEN 'filled' THEN s.reached_at END,
        closed_at = CASE s.status WHEN 'filled' THEN s.reached_at WHEN 'cancelled' THEN s.cancelled_at
                                  WHEN 'expired' THEN s.expired_at WHEN 'rejected' THEN s.rejected_at END,
        broker = s.broker,
        anomalies = array_remove(ARRAY[
            CASE WHEN s.asset_changed THEN 'asset_changed' END,
            CASE WHEN s.correction_unknown THEN 'correction_of_unknown_fill' END,
            CASE WHEN s.last_step > s.rejected_step THEN 'fill_after_reject' END,
            CASE WHEN s.fill_not_positive OR s.quantity_not_positive THEN 'non_positive_quantity' END,
            CASE WHEN s.out_of_range THEN 'out_of_range' END,
            CASE WHEN s.filled_quantity > s.quantity AND s.quantity > 0 THEN 'overfill' END,
            CASE WHEN s.side_changed THEN 'side_changed' END,
            CASE WHEN s.void_unknown THEN 'void_of_unknown_fill' END], NULL),
        event_count = s.event_count, last_event_at = s.last_event_at, first_event_at = s.first_event_at, filled_notional = s.notional
    FROM stood s WHERE r.order_id = s.order_id;
END
$$;
COMMENT ON FUNCTION hitherto.execution_report_fold(text[]) IS
    'Folds these orders'' events into execution_report; call it in the transaction that inserted events, under READ COMMITTED';

-- Each branch can be narrowed by proposal_id through an index, and so can the whole: the windows are
-- partitioned by it. The report says which orders belong to a proposal (not every event of an order
-- need name it) and between which times their events lie, so that other chunks are left alone.
-- OFFSET 0 keeps a planner that is wrong about how many signals or events there are from reading all.
CREATE OR REPLACE VIEW hitherto.decision_trail AS
SELECT s.proposal_id, s.step_at, s.step, s.actor, s.summary, s.details,
       row_number() OVER trail AS step_number,
       s.step_at - lag(s.step_at) OVER trail AS gap,
       (SELECT r.regime FROM hitherto.regime_state r
        WHERE r.effective_from IS NOT NULL AND tstzrange(r.effective_from, r.effective_until) @> s.step_at) AS regime,
       s.order_id
FROM (
    -- A signal that is named but not stored (dropped by retention, not arrived yet) shows at the proposal's instant.
    SELECT p.proposal_id, coalesce(s.emitted_at, p.proposed_at) AS step_at,
           CASE WHEN s.signal_id IS NULL THEN 'signal_missing' ELSE 'signal' END AS step, m.name::text AS actor,
           CASE WHEN s.signal_id IS NULL THEN 'signal ' || named.signal_id || ' is not stored'
                ELSE concat_ws(' ', s.kind, s.asset, 'score ' || round(s.score::numeric, 4), 'confidence ' || round(s.confidence::numeric, 2)) END AS summary,
           CASE WHEN s.signal_id IS NULL THEN jsonb_build_object('signal_id', named.signal_id)
                ELSE jsonb_build_object('signal_id', s.signal_id, 'kind', s.kind, 'asset', s.asset, 'score', s.score, 'confidence', s.confidence, 'payload', s.payload) END AS details,
           1 AS place, NULL::text COLLATE "C" AS order_id, NULL::bigint AS sequence, NULL::integer AS event_rank, named.signal_id AS id
    FROM hitherto.proposal p
    CROSS JOIN LATERAL (SELECT DISTINCT e.value COLLATE "C" AS signal_id
                        FROM jsonb_array_elements_text(CASE jsonb_typeof(p.payload -> 'signal_ids') WHEN 'array' THEN p.payload -> 'signal_ids' ELSE '[]' END) AS e (value)) AS named
    LEFT JOIN LATERAL (SELECT * FROM hitherto.signal s WHERE s.signal_id = named.signal_id OFFSET 0) AS s ON true
    LEFT JOIN hitherto.module m ON m.module_id = s.module_id
    UNION ALL
    -- The regime in force when it was proposed, and every change until its last order event.
    SELECT p.proposal_id, greatest(p.proposed_at, r.effective_from), 'regime', r.decided_by,
           coalesce(r.regime || ', confidence ' || round(r.confidence::numeric, 2) || ', since ' || to_char(r.effective_from AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI'), 'none in force'),
           CASE WHEN r.regime_id IS NOT NULL THEN jsonb_build_object(
               'regime_id', r.regime_id, 'regime', r.regime, 'confidence', r.confidence, 'method', r.method, 'reasoning', r.reasoning, 'classified_by', r.classified_by,
               'decided_by', r.decided_by, 'decided_at', r.decided_at, 'effective_from', r.effective_from, 'effective_until', r.effective_until) END,
           2, NULL, NULL, NULL, r.regime_id
    FROM hitherto.proposal p
    CROSS JOIN LATERAL (SELECT max(o.last_event_at) AS last_event_at FROM hitherto.execution_report o WHERE o.proposal_id = p.proposal_id) AS o
    LEFT JOIN hitherto.regime_state r ON r.effective_from IS NOT NULL
        AND tstzrange(r.effective_from, r.effective_until) && tstzrange(p.proposed_at, greatest(p.proposed_at, o.last_event_at), '[]')
    UNION ALL
    SELECT p.proposal_id, p.proposed_at, 'proposed', m.name::text, concat_ws(' ', p.payload ->> 'side', p.payload ->> 'quantity', p.asset), p.payload,
           3, NULL, NULL, NULL, NULL
    FROM hitherto.proposal p JOIN hitherto.module m USING (module_id)
    UNION ALL
    SELECT r.proposal_id, r.evaluated_at, 'risk', m.name::text, concat_ws(' ', r.verdict || ',', r.risk_level, 'risk, var_99', round(r.var_99::numeric, 4)),
           jsonb_build_object('evaluation_id', r.evaluation_id, 'var_99', r.var_99, 'expected_shortfall', r.expected_shortfall,
                              'max_drawdown', r.max_drawdown, 'sharpe_ratio', r.sharpe_ratio, 'flags', r.flags, 'recommendations', r.recommendations),
           4, NULL, NULL, NULL, r.evaluation_id
    FROM hitherto.risk_evaluation r JOIN hitherto.module m USING (module_id)
    -- What old code has rewritten or deleted stays on record, and is no step of the decision.
    WHERE NOT EXISTS (SELECT FROM hitherto.legacy_tombstone t WHERE t.table_name = 'risk_evaluation' AND t.legacy_id = r.legacy_id
                      AND t.kept_batch_id IS DISTINCT FROM r.batch_id)
    UNION ALL
    SELECT o.proposal_id, e.event_at, CASE WHEN e.event_type IN ('pending', 'submitted', 'accepted') THEN 'order' ELSE e.event_type END, coalesce(e.broker, o.broker),
           concat_ws(' ', e.event_type, o.side, trim_scale(coalesce(e.last_quantity, e.quantity)), o.asset, 'at ' || trim_scale(coalesce(e.last_price, e.price)), '(' || e.reason || ')'),
           jsonb_build_object('order_id', e.order_id, 'event_id', e.event_id, 'event_type', e.event_type, 'sequence', e.sequence, 'details', e.details,
                              'ref_event_id', e.ref_event_id, 'commission', trim_scale(e.commission)::text),
           5, o.order_id, e.sequence, hitherto.order_event_rank(e.event_type), e.event_id
    FROM hitherto.execution_report o
    CROSS JOIN LATERAL (
        SELECT * FROM hitherto.order_event e
        WHERE e.order_id = o.order_id
          -- A report that lost events to retention no longer follows those that come.
          AND e.event_at >= CASE WHEN o.events_dropped THEN '-infinity' ELSE o.first_event_at END
          AND e.event_at <= CASE WHEN o.events_dropped THEN 'infinity' ELSE o.last_event_at END
        OFFSET 0) AS e
    WHERE o.proposal_id IS NOT NULL
    UNION ALL
    SELECT o.proposal_id, o.last_event_at, 'anomaly', NULL, concat_ws(', ', nullif(array_to_string(o.anomalies, ', '), ''), CASE WHEN o.events_dropped THEN 'retention has dropped events' END),
           jsonb_build_object('order_id', o.order_id, 'anomalies', o.anomalies, 'events_dropped', o.events_dropped), 6, o.order_id, NULL, NULL, NULL
    FROM hitherto.execution_report o
    WHERE o.proposal_id IS NOT NULL AND (o.anomalies <> '{}' OR o.events_dropped)
) AS s
WINDOW trail AS (PARTITION BY s.proposal_id
                 ORDER BY s.step_at, s.place, s.order_id, s.sequence NULLS FIRST, s.event_rank, s.id, s.summary COLLATE "C");

COMMENT ON VIEW hitherto.decision_trail IS 'Every step of a proposal, from signal to fill; ORDER BY step_number';
COMMENT ON COLUMN hitherto.decision_trail.proposal_id IS 'The proposal';
COMMENT ON COLUMN hitherto.decision_trail.step_at IS 'When the step was made';
COMMENT ON COLUMN hitherto.decision_trail.step IS 'signal (signal_missing: named but not stored), regime (in force when proposed, and changes since), proposed, risk, order, fill or another order event, anomaly (what should not have happened to an order)';
COMMENT ON COLUMN hitherto.decision_trail.actor IS 'Module, broker or person that made it';
COMMENT ON COLUMN hitherto.decision_trail.summary IS 'The step in a few words';
COMMENT ON COLUMN hitherto.decision_trail.details IS 'The step in full';
COMMENT ON COLUMN hitherto.decision_trail.step_number IS 'Place of the step among those of its proposal, from 1; steps of one instant follow the order of the decision';
COMMENT ON COLUMN hitherto.decision_trail.gap IS 'Time since the step before; NULL at the first';
COMMENT ON COLUMN hitherto.decision_trail.regime IS 'Regime in force at that time; NULL if none was';
COMMENT ON COLUMN hitherto.decision_trail.order_id IS 'Order that the step belongs to; NULL before there was one';

-- Each branch can be narrowed by proposal_id through an index. The report says which orders belong
-- to a proposal: not every event of an order need name it.
CREATE OR REPLACE VIEW hitherto.decision_trail AS
SELECT p.proposal_id, s.emitted_at AS step_at, 'signal' AS step, m.name::text AS actor,
       concat_ws(' ', s.kind, s.asset, 'score ' || round(s.score::numeric, 4), 'confidence ' || round(s.confidence::numeric, 2)) AS summary,
       s.payload AS details
FROM hitherto.proposal p
CROSS JOIN LATERAL jsonb_array_elements_text(CASE jsonb_typeof(p.payload -> 'signal_ids') WHEN 'array' THEN p.payload -> 'signal_ids' ELSE '[]' END) AS named (signal_id)
JOIN hitherto.signal s ON s.signal_id = named.signal_id COLLATE "C"
JOIN hitherto.module m ON m.module_id = s.module_id
UNION ALL
SELECT p.proposal_id, p.proposed_at, 'proposed', m.name::text, concat_ws(' ', p.payload ->> 'side', p.payload ->> 'quantity', p.asset), p.payload
FROM hitherto.proposal p JOIN hitherto.module m USING (module_id)
UNION ALL
SELECT r.proposal_id, r.evaluated_at, 'risk', m.name::text, concat_ws(' ', r.verdict || ',', r.risk_level, 'risk, var_99', round(r.var_99::numeric, 4)),
       jsonb_build_object('evaluation_id', r.evaluation_id, 'var_99', r.var_99, 'expected_shortfall', r.expected_shortfall,
                          'max_drawdown', r.max_drawdown, 'sharpe_ratio', r.sharpe_ratio, 'flags', r.flags, 'recommendations', r.recommendations)
FROM hitherto.risk_evaluation r JOIN hitherto.module m USING (module_id)
UNION ALL
SELECT o.proposal_id, e.event_at, CASE WHEN e.event_type IN ('pending', 'submitted', 'accepted') THEN 'order' ELSE e.event_type END, coalesce(e.broker, o.broker),
       concat_ws(' ', e.event_type, o.side, trim_scale(coalesce(e.last_quantity, e.quantity)), o.asset, 'at ' || trim_scale(coalesce(e.last_price, e.price)), '(' || e.reason || ')'),
       jsonb_build_object('order_id', e.order_id, 'event_id', e.event_id, 'event_type', e.event_type, 'sequence', e.sequence, 'details', e.details)
FROM hitherto.execution_report o JOIN hitherto.order_event e ON e.order_id = o.order_id
WHERE o.proposal_id IS NOT NULL;

COMMENT ON VIEW hitherto.decision_trail IS 'Every step of a proposal, from signal to fill; ORDER BY step_at';
COMMENT ON COLUMN hitherto.decision_trail.proposal_id IS 'The proposal';
COMMENT ON COLUMN hitherto.decision_trail.step_at IS 'When the step was made';
COMMENT ON COLUMN hitherto.decision_trail.step IS 'signal, proposed, risk, order, fill, or another order event';
COMMENT ON COLUMN hitherto.decision_trail.actor IS 'Module or broker that made it';
COMMENT ON COLUMN hitherto.decision_trail.summary IS 'The step in a few words';
COMMENT ON COLUMN hitherto.decision_trail.details IS 'The step in full';

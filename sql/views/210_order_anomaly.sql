CREATE OR REPLACE VIEW hitherto.order_anomaly AS
SELECT r.order_id, a.anomaly, w.explanation, r.proposal_id, r.asset, r.side, r.status, r.quantity, r.filled_quantity, r.first_event_at, r.last_event_at
FROM hitherto.execution_report r
CROSS JOIN LATERAL unnest(r.anomalies) AS a (anomaly)
LEFT JOIN (VALUES
    ('asset_changed', 'two events name different assets'),
    ('correction_of_unknown_fill', 'a fill_corrected event speaks of a fill that the order does not have'),
    ('event_after_retention', 'an event came after retention had dropped others of the order: the report stays as it was'),
    ('event_id_conflict', 'two events came with one id: the first stands, the other is in hitherto.quarantine'),
    ('fill_after_reject', 'a fill that counts comes after a rejected event'),
    ('non_positive_quantity', 'an ordered, filled or corrected quantity is not above zero, or a fill has none'),
    ('out_of_range', 'sums pass 20 digits before the point: quantity, price and commission are not computed'),
    ('overfill', 'the fills exceed the quantity'),
    ('side_changed', 'two events name different sides'),
    ('void_of_unknown_fill', 'a fill_voided event speaks of a fill that the order does not have')
) AS w (anomaly, explanation) USING (anomaly);

COMMENT ON VIEW hitherto.order_anomaly IS 'What should not have happened to orders, one row an order and anomaly';
COMMENT ON COLUMN hitherto.order_anomaly.order_id IS 'The order';
COMMENT ON COLUMN hitherto.order_anomaly.anomaly IS 'The anomaly''s name, as in execution_report.anomalies';
COMMENT ON COLUMN hitherto.order_anomaly.explanation IS 'What happened';
COMMENT ON COLUMN hitherto.order_anomaly.proposal_id IS 'Proposal that the order carries out';
COMMENT ON COLUMN hitherto.order_anomaly.asset IS 'What is traded';
COMMENT ON COLUMN hitherto.order_anomaly.side IS 'buy or sell';
COMMENT ON COLUMN hitherto.order_anomaly.status IS 'Where the order stands';
COMMENT ON COLUMN hitherto.order_anomaly.quantity IS 'Ordered quantity';
COMMENT ON COLUMN hitherto.order_anomaly.filled_quantity IS 'Sum of its fills';
COMMENT ON COLUMN hitherto.order_anomaly.first_event_at IS 'Its earliest event';
COMMENT ON COLUMN hitherto.order_anomaly.last_event_at IS 'Its latest event';

CREATE OR REPLACE VIEW hitherto.regime_timeline AS
SELECT regime, effective_from, effective_until, confidence, decided_by, coalesce(effective_until, now()) - effective_from AS duration
FROM hitherto.regime_state
WHERE effective_from IS NOT NULL;

COMMENT ON VIEW hitherto.regime_timeline IS 'Regimes that were or are in force, one row a period';
COMMENT ON COLUMN hitherto.regime_timeline.regime IS 'The regime';
COMMENT ON COLUMN hitherto.regime_timeline.effective_from IS 'When it came into force';
COMMENT ON COLUMN hitherto.regime_timeline.effective_until IS 'When the next one replaced it; NULL while active';
COMMENT ON COLUMN hitherto.regime_timeline.confidence IS 'How sure the classifier was, 0 to 1';
COMMENT ON COLUMN hitherto.regime_timeline.decided_by IS 'Who decided';
COMMENT ON COLUMN hitherto.regime_timeline.duration IS 'How long it has been in force';

CREATE OR REPLACE VIEW hitherto.risk_verdict_hour AS
SELECT bucket, risk_level, verdict, evaluations, sum_var_99 / nullif(var_99_readings, 0) AS mean_var_99, max_var_99
FROM hitherto.risk_verdict_hour_aggregate;

CREATE OR REPLACE VIEW hitherto.risk_verdict_day AS
SELECT bucket, risk_level, verdict, evaluations, sum_var_99 / nullif(var_99_readings, 0) AS mean_var_99, max_var_99
FROM hitherto.risk_verdict_day_aggregate;

COMMENT ON VIEW hitherto.risk_verdict_hour IS 'Risk evaluations by hour, level and verdict';
COMMENT ON COLUMN hitherto.risk_verdict_hour.bucket IS 'Start of the bucket, UTC';
COMMENT ON COLUMN hitherto.risk_verdict_hour.risk_level IS 'low, medium, high or critical';
COMMENT ON COLUMN hitherto.risk_verdict_hour.verdict IS 'approved, downgraded or rejected';
COMMENT ON COLUMN hitherto.risk_verdict_hour.evaluations IS 'Evaluations';
COMMENT ON COLUMN hitherto.risk_verdict_hour.mean_var_99 IS 'Mean value at risk at 99 %, a fraction';
COMMENT ON COLUMN hitherto.risk_verdict_hour.max_var_99 IS 'Largest value at risk at 99 %, a fraction';
COMMENT ON VIEW hitherto.risk_verdict_day IS 'Risk evaluations by day, level and verdict';
COMMENT ON COLUMN hitherto.risk_verdict_day.bucket IS 'Start of the bucket, UTC';
COMMENT ON COLUMN hitherto.risk_verdict_day.risk_level IS 'low, medium, high or critical';
COMMENT ON COLUMN hitherto.risk_verdict_day.verdict IS 'approved, downgraded or rejected';
COMMENT ON COLUMN hitherto.risk_verdict_day.evaluations IS 'Evaluations';
COMMENT ON COLUMN hitherto.risk_verdict_day.mean_var_99 IS 'Mean value at risk at 99 %, a fraction';
COMMENT ON COLUMN hitherto.risk_verdict_day.max_var_99 IS 'Largest value at risk at 99 %, a fraction';

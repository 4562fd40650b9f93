SELECT create_hypertable('hitherto.risk_evaluation', by_range('evaluated_at', INTERVAL '7 days'), create_default_indexes => false);
ALTER TABLE hitherto.risk_evaluation SET (timescaledb.enable_columnstore, timescaledb.segmentby = 'module_id', timescaledb.orderby = 'evaluated_at, evaluation_id');
CALL add_columnstore_policy('hitherto.risk_evaluation', after => INTERVAL '30 days');

CREATE MATERIALIZED VIEW hitherto.risk_verdict_hour_aggregate
WITH (timescaledb.continuous, timescaledb.materialized_only = false) AS
SELECT time_bucket(INTERVAL '1 hour', evaluated_at) AS bucket, risk_level, verdict,
       count(*) AS evaluations,
       count(var_99) AS var_99_readings,
       sum(var_99) AS sum_var_99,
       max(var_99) AS max_var_99
FROM hitherto.risk_evaluation
GROUP BY 1, 2, 3
WITH NO DATA;

CREATE MATERIALIZED VIEW hitherto.risk_verdict_day_aggregate
WITH (timescaledb.continuous, timescaledb.materialized_only = false) AS
SELECT time_bucket(INTERVAL '1 day', evaluated_at) AS bucket, risk_level, verdict,
       count(*) AS evaluations,
       count(var_99) AS var_99_readings,
       sum(var_99) AS sum_var_99,
       max(var_99) AS max_var_99
FROM hitherto.risk_evaluation
GROUP BY 1, 2, 3
WITH NO DATA;

COMMENT ON VIEW hitherto.risk_verdict_hour_aggregate IS 'Parts that the views are made of';
COMMENT ON COLUMN hitherto.risk_verdict_hour_aggregate.bucket IS 'Start of the bucket, UTC';
COMMENT ON COLUMN hitherto.risk_verdict_hour_aggregate.evaluations IS 'Evaluations';
COMMENT ON COLUMN hitherto.risk_verdict_hour_aggregate.var_99_readings IS 'Evaluations with a var_99';
COMMENT ON COLUMN hitherto.risk_verdict_hour_aggregate.sum_var_99 IS 'Sum of var_99';
COMMENT ON COLUMN hitherto.risk_verdict_hour_aggregate.max_var_99 IS 'Largest value at risk at 99 %, a fraction';
COMMENT ON COLUMN hitherto.risk_verdict_hour_aggregate.risk_level IS 'low, medium, high or critical';
COMMENT ON COLUMN hitherto.risk_verdict_hour_aggregate.verdict IS 'approved, downgraded or rejected';

COMMENT ON VIEW hitherto.risk_verdict_day_aggregate IS 'Parts that the views are made of';
COMMENT ON COLUMN hitherto.risk_verdict_day_aggregate.bucket IS 'Start of the bucket, UTC';
COMMENT ON COLUMN hitherto.risk_verdict_day_aggregate.evaluations IS 'Evaluations';
COMMENT ON COLUMN hitherto.risk_verdict_day_aggregate.var_99_readings IS 'Evaluations with a var_99';
COMMENT ON COLUMN hitherto.risk_verdict_day_aggregate.sum_var_99 IS 'Sum of var_99';
COMMENT ON COLUMN hitherto.risk_verdict_day_aggregate.max_var_99 IS 'Largest value at risk at 99 %, a fraction';
COMMENT ON COLUMN hitherto.risk_verdict_day_aggregate.risk_level IS 'low, medium, high or critical';
COMMENT ON COLUMN hitherto.risk_verdict_day_aggregate.verdict IS 'approved, downgraded or rejected';

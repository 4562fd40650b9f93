SELECT create_hypertable('hitherto.portfolio_snapshot', by_range('taken_at', INTERVAL '7 days'), create_default_indexes => false);
ALTER TABLE hitherto.portfolio_snapshot SET (timescaledb.enable_columnstore, timescaledb.orderby = 'taken_at');
CALL add_columnstore_policy('hitherto.portfolio_snapshot', after => INTERVAL '30 days');

-- first() and last() leave ties to chance; an ordered array does not.
CREATE MATERIALIZED VIEW hitherto.portfolio_value_hour_aggregate
WITH (timescaledb.continuous, timescaledb.materialized_only = false) AS
SELECT time_bucket(INTERVAL '1 hour', taken_at) AS bucket,
       (array_agg(total_value ORDER BY taken_at, snapshot_id))[1] AS open,
       max(total_value) AS high,
       min(total_value) AS low,
       (array_agg(total_value ORDER BY taken_at DESC, snapshot_id DESC))[1] AS close,
       min(cash_balance) AS min_cash,
       hitherto.max_drawdown(total_value ORDER BY taken_at, snapshot_id) AS max_drawdown
FROM hitherto.portfolio_snapshot
GROUP BY 1
WITH NO DATA;

CREATE MATERIALIZED VIEW hitherto.portfolio_value_day_aggregate
WITH (timescaledb.continuous, timescaledb.materialized_only = false) AS
SELECT time_bucket(INTERVAL '1 day', taken_at) AS bucket,
       (array_agg(total_value ORDER BY taken_at, snapshot_id))[1] AS open,
       max(total_value) AS high,
       min(total_value) AS low,
       (array_agg(total_value ORDER BY taken_at DESC, snapshot_id DESC))[1] AS close,
       min(cash_balance) AS min_cash,
       hitherto.max_drawdown(total_value ORDER BY taken_at, snapshot_id) AS max_drawdown
FROM hitherto.portfolio_snapshot
GROUP BY 1
WITH NO DATA;

COMMENT ON VIEW hitherto.portfolio_value_hour_aggregate IS 'Parts that the views are made of';
COMMENT ON COLUMN hitherto.portfolio_value_hour_aggregate.bucket IS 'Start of the bucket, UTC';
COMMENT ON COLUMN hitherto.portfolio_value_hour_aggregate.open IS 'First total_value';
COMMENT ON COLUMN hitherto.portfolio_value_hour_aggregate.high IS 'Highest total_value';
COMMENT ON COLUMN hitherto.portfolio_value_hour_aggregate.low IS 'Lowest total_value';
COMMENT ON COLUMN hitherto.portfolio_value_hour_aggregate.close IS 'Last total_value';
COMMENT ON COLUMN hitherto.portfolio_value_hour_aggregate.min_cash IS 'Lowest cash balance';
COMMENT ON COLUMN hitherto.portfolio_value_hour_aggregate.max_drawdown IS 'Largest fall from a peak within the bucket, a fraction of the peak';

COMMENT ON VIEW hitherto.portfolio_value_day_aggregate IS 'Parts that the views are made of';
COMMENT ON COLUMN hitherto.portfolio_value_day_aggregate.bucket IS 'Start of the bucket, UTC';
COMMENT ON COLUMN hitherto.portfolio_value_day_aggregate.open IS 'First total_value';
COMMENT ON COLUMN hitherto.portfolio_value_day_aggregate.high IS 'Highest total_value';
COMMENT ON COLUMN hitherto.portfolio_value_day_aggregate.low IS 'Lowest total_value';
COMMENT ON COLUMN hitherto.portfolio_value_day_aggregate.close IS 'Last total_value';
COMMENT ON COLUMN hitherto.portfolio_value_day_aggregate.min_cash IS 'Lowest cash balance';
COMMENT ON COLUMN hitherto.portfolio_value_day_aggregate.max_drawdown IS 'Largest fall from a peak within the bucket, a fraction of the peak';

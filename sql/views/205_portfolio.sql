CREATE OR REPLACE VIEW hitherto.portfolio_value_hour AS
SELECT bucket, open, high, low, close, min_cash, max_drawdown FROM hitherto.portfolio_value_hour_aggregate;

CREATE OR REPLACE VIEW hitherto.portfolio_value_day AS
SELECT bucket, open, high, low, close, min_cash, max_drawdown FROM hitherto.portfolio_value_day_aggregate;

CREATE OR REPLACE VIEW hitherto.portfolio_position AS
SELECT s.taken_at, s.snapshot_id, p.key AS asset,
       (CASE jsonb_typeof(p.value) WHEN 'object' THEN p.value ->> 'quantity' ELSE p.value #>> '{}' END)::numeric(38,18) AS quantity,
       (CASE jsonb_typeof(p.value) WHEN 'object' THEN p.value ->> 'price' END)::numeric(38,18) AS price
FROM hitherto.portfolio_snapshot s, jsonb_each(s.positions) AS p;

COMMENT ON VIEW hitherto.portfolio_value_hour IS 'What the portfolio was worth, by hour';
COMMENT ON COLUMN hitherto.portfolio_value_hour.bucket IS 'Start of the bucket, UTC';
COMMENT ON COLUMN hitherto.portfolio_value_hour.open IS 'First total_value';
COMMENT ON COLUMN hitherto.portfolio_value_hour.high IS 'Highest total_value';
COMMENT ON COLUMN hitherto.portfolio_value_hour.low IS 'Lowest total_value';
COMMENT ON COLUMN hitherto.portfolio_value_hour.close IS 'Last total_value';
COMMENT ON COLUMN hitherto.portfolio_value_hour.min_cash IS 'Lowest cash balance';
COMMENT ON COLUMN hitherto.portfolio_value_hour.max_drawdown IS 'Largest fall from a peak within the bucket, a fraction of the peak';
COMMENT ON VIEW hitherto.portfolio_value_day IS 'What the portfolio was worth, by day';
COMMENT ON COLUMN hitherto.portfolio_value_day.bucket IS 'Start of the bucket, UTC';
COMMENT ON COLUMN hitherto.portfolio_value_day.open IS 'First total_value';
COMMENT ON COLUMN hitherto.portfolio_value_day.high IS 'Highest total_value';
COMMENT ON COLUMN hitherto.portfolio_value_day.low IS 'Lowest total_value';
COMMENT ON COLUMN hitherto.portfolio_value_day.close IS 'Last total_value';
COMMENT ON COLUMN hitherto.portfolio_value_day.min_cash IS 'Lowest cash balance';
COMMENT ON COLUMN hitherto.portfolio_value_day.max_drawdown IS 'Largest fall from a peak within the bucket, a fraction of the peak';
COMMENT ON VIEW hitherto.portfolio_position IS 'Positions of each snapshot, one row an asset';
COMMENT ON COLUMN hitherto.portfolio_position.taken_at IS 'When the snapshot was taken';
COMMENT ON COLUMN hitherto.portfolio_position.snapshot_id IS 'The snapshot';
COMMENT ON COLUMN hitherto.portfolio_position.asset IS 'What is held';
COMMENT ON COLUMN hitherto.portfolio_position.quantity IS 'How much; negative for a short position';
COMMENT ON COLUMN hitherto.portfolio_position.price IS 'Price it was valued at; NULL where the snapshot has none';

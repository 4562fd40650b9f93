-- An order counts in the bucket of its first event, with what has become of it since: rates stay
-- within 0 and 1, and a late fill changes the bucket that its order belongs to.
CREATE OR REPLACE VIEW hitherto.order_execution_hour AS
SELECT date_bin(INTERVAL '1 hour', first_event_at, TIMESTAMPTZ '2000-01-01 00:00:00+00') AS bucket, asset,
       count(*) FILTER (WHERE status <> 'pending') AS submitted,
       count(*) FILTER (WHERE status = 'filled') AS filled,
       count(*) FILTER (WHERE status = 'cancelled') AS cancelled,
       count(*) FILTER (WHERE status = 'rejected') AS rejected,
       count(*) FILTER (WHERE status = 'expired') AS expired,
       count(*) FILTER (WHERE status = 'filled')::double precision / nullif(count(*) FILTER (WHERE status <> 'pending'), 0) AS fill_rate,
       sum(filled_notional) AS filled_notional,
       sum(total_commission) AS commission,
       avg(time_to_fill_ms) AS mean_time_to_fill_ms,
       percentile_cont(0.95) WITHIN GROUP (ORDER BY time_to_fill_ms) AS p95_time_to_fill_ms
FROM (SELECT *, extract(epoch FROM filled_at - coalesce(submitted_at, first_event_at))::double precision * 1000 AS time_to_fill_ms
      FROM hitherto.execution_report) AS report
GROUP BY 1, 2;

CREATE OR REPLACE VIEW hitherto.order_execution_day AS
SELECT date_bin(INTERVAL '1 day', first_event_at, TIMESTAMPTZ '2000-01-01 00:00:00+00') AS bucket, asset,
       count(*) FILTER (WHERE status <> 'pending') AS submitted,
       count(*) FILTER (WHERE status = 'filled') AS filled,
       count(*) FILTER (WHERE status = 'cancelled') AS cancelled,
       count(*) FILTER (WHERE status = 'rejected') AS rejected,
       count(*) FILTER (WHERE status = 'expired') AS expired,
       count(*) FILTER (WHERE status = 'filled')::double precision / nullif(count(*) FILTER (WHERE status <> 'pending'), 0) AS fill_rate,
       sum(filled_notional) AS filled_notional,
       sum(total_commission) AS commission,
       avg(time_to_fill_ms) AS mean_time_to_fill_ms,
       percentile_cont(0.95) WITHIN GROUP (ORDER BY time_to_fill_ms) AS p95_time_to_fill_ms
FROM (SELECT *, extract(epoch FROM filled_at - coalesce(submitted_at, first_event_at))::double precision * 1000 AS time_to_fill_ms
      FROM hitherto.execution_report) AS report
GROUP BY 1, 2;

COMMENT ON VIEW hitherto.order_execution_hour IS 'Orders by hour of their first event and asset';
COMMENT ON COLUMN hitherto.order_execution_hour.bucket IS 'Start of the bucket, UTC';
COMMENT ON COLUMN hitherto.order_execution_hour.asset IS 'What is traded';
COMMENT ON COLUMN hitherto.order_execution_hour.submitted IS 'Orders of the bucket that went past pending';
COMMENT ON COLUMN hitherto.order_execution_hour.filled IS 'Orders filled whole';
COMMENT ON COLUMN hitherto.order_execution_hour.cancelled IS 'Orders cancelled';
COMMENT ON COLUMN hitherto.order_execution_hour.rejected IS 'Orders rejected';
COMMENT ON COLUMN hitherto.order_execution_hour.expired IS 'Orders expired';
COMMENT ON COLUMN hitherto.order_execution_hour.fill_rate IS 'filled over submitted, 0 to 1; NULL when none was submitted';
COMMENT ON COLUMN hitherto.order_execution_hour.filled_notional IS 'Sum of quantity times price over the fills, exact';
COMMENT ON COLUMN hitherto.order_execution_hour.commission IS 'Sum of commissions';
COMMENT ON COLUMN hitherto.order_execution_hour.mean_time_to_fill_ms IS 'Mean time from submission to filled, milliseconds';
COMMENT ON COLUMN hitherto.order_execution_hour.p95_time_to_fill_ms IS '95th percentile of the time from submission to filled, milliseconds, exact';
COMMENT ON VIEW hitherto.order_execution_day IS 'Orders by day of their first event and asset';
COMMENT ON COLUMN hitherto.order_execution_day.bucket IS 'Start of the bucket, UTC';
COMMENT ON COLUMN hitherto.order_execution_day.asset IS 'What is traded';
COMMENT ON COLUMN hitherto.order_execution_day.submitted IS 'Orders of the bucket that went past pending';
COMMENT ON COLUMN hitherto.order_execution_day.filled IS 'Orders filled whole';
COMMENT ON COLUMN hitherto.order_execution_day.cancelled IS 'Orders cancelled';
COMMENT ON COLUMN hitherto.order_execution_day.rejected IS 'Orders rejected';
COMMENT ON COLUMN hitherto.order_execution_day.expired IS 'Orders expired';
COMMENT ON COLUMN hitherto.order_execution_day.fill_rate IS 'filled over submitted, 0 to 1; NULL when none was submitted';
COMMENT ON COLUMN hitherto.order_execution_day.filled_notional IS 'Sum of quantity times price over the fills, exact';
COMMENT ON COLUMN hitherto.order_execution_day.commission IS 'Sum of commissions';
COMMENT ON COLUMN hitherto.order_execution_day.mean_time_to_fill_ms IS 'Mean time from submission to filled, milliseconds';
COMMENT ON COLUMN hitherto.order_execution_day.p95_time_to_fill_ms IS '95th percentile of the time from submission to filled, milliseconds, exact';

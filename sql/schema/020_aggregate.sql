CREATE TABLE hitherto.aggregate (
    view_name           text        NOT NULL CONSTRAINT aggregate_pkey PRIMARY KEY,
    aggregate_name      text        NOT NULL,
    source_table        text        NOT NULL,
    bucket_width        interval    NOT NULL,
    -- Exact where a single xid is not: a long transaction elsewhere holds an xmin back, not this.
    refreshed_snapshot  pg_snapshot NOT NULL DEFAULT '1:1:',
    last_refresh        timestamptz,
    last_error          text
);
COMMENT ON TABLE hitherto.aggregate IS 'Which aggregates there are, and which batches of the ledger are in each';
COMMENT ON COLUMN hitherto.aggregate.view_name IS 'View (or, for latency_percentile, function) that people read';
COMMENT ON COLUMN hitherto.aggregate.aggregate_name IS 'What it reads: a continuous aggregate, or a plain view of the same columns on plain PostgreSQL';
COMMENT ON COLUMN hitherto.aggregate.source_table IS 'Table that it aggregates';
COMMENT ON COLUMN hitherto.aggregate.bucket_width IS 'Width of its buckets';
COMMENT ON COLUMN hitherto.aggregate.refreshed_snapshot IS 'Every ledger line whose xid this snapshot sees is in it';
COMMENT ON COLUMN hitherto.aggregate.last_refresh IS 'When touched ranges were last refreshed';
COMMENT ON COLUMN hitherto.aggregate.last_error IS 'Why the last refresh failed; NULL when it did not';

INSERT INTO hitherto.aggregate (view_name, aggregate_name, source_table, bucket_width) VALUES
    ('module_execution_minute', 'module_execution_minute_aggregate', 'module_execution',   '1 minute'),
    ('module_execution_hour',   'module_execution_hour_aggregate',   'module_execution',   '1 hour'),
    ('module_execution_day',    'module_execution_day_aggregate',    'module_execution',   '1 day'),
    ('latency_percentile',      'module_latency_hour_aggregate',     'module_execution',   '1 hour'),
    ('health_check_hour',       'health_check_hour_aggregate',       'health_check',       '1 hour'),
    ('health_check_day',        'health_check_day_aggregate',        'health_check',       '1 day'),
    ('risk_verdict_hour',       'risk_verdict_hour_aggregate',       'risk_evaluation',    '1 hour'),
    ('risk_verdict_day',        'risk_verdict_day_aggregate',        'risk_evaluation',    '1 day'),
    ('portfolio_value_hour',    'portfolio_value_hour_aggregate',    'portfolio_snapshot', '1 hour'),
    ('portfolio_value_day',     'portfolio_value_day_aggregate',     'portfolio_snapshot', '1 day');

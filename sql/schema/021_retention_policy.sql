CREATE TABLE hitherto.retention_policy (
    table_name  text     NOT NULL CONSTRAINT retention_policy_pkey PRIMARY KEY
                         CONSTRAINT retention_policy_table_name_known CHECK (table_name IN
                            ('module_execution', 'health_check', 'signal', 'risk_evaluation', 'order_event', 'portfolio_snapshot')),
    -- TimescaleDB's own refresh policies look back a week: rows dropped within it would be erased from aggregates.
    drop_after  interval NOT NULL CONSTRAINT retention_policy_drop_after_least CHECK (drop_after >= '8 days')
);
COMMENT ON TABLE hitherto.retention_policy IS 'How long raw rows are kept; a table that is not here keeps them for ever. Change it with hitherto.retention_set';
COMMENT ON COLUMN hitherto.retention_policy.table_name IS 'Table whose old rows go';
COMMENT ON COLUMN hitherto.retention_policy.drop_after IS 'Age at which they go, by the row''s own time; 8 days at least';

CREATE TABLE hitherto.retention_horizon (
    table_name      text        NOT NULL CONSTRAINT retention_horizon_pkey PRIMARY KEY,
    dropped_before  timestamptz NOT NULL
);
COMMENT ON TABLE hitherto.retention_horizon IS 'What retention has dropped so far; written in the transaction that drops, or before it';
COMMENT ON COLUMN hitherto.retention_horizon.table_name IS 'Table whose old rows went';
COMMENT ON COLUMN hitherto.retention_horizon.dropped_before IS 'Rows with an earlier time are gone, but for those that came since; no later row was dropped';

CREATE TABLE hitherto.retention_range (
    table_name   text        NOT NULL,
    range_start  timestamptz NOT NULL,
    range_end    timestamptz NOT NULL,
    CONSTRAINT retention_range_pkey PRIMARY KEY (table_name, range_start, range_end)
);
COMMENT ON TABLE hitherto.retention_range IS 'Ranges of time that chunks were dropped of: aggregates there are not made anew from what came since. Empty on plain PostgreSQL';
COMMENT ON COLUMN hitherto.retention_range.table_name IS 'Table whose chunk went';
COMMENT ON COLUMN hitherto.retention_range.range_start IS 'Start of the chunk''s range';
COMMENT ON COLUMN hitherto.retention_range.range_end IS 'End of the chunk''s range, itself not included';

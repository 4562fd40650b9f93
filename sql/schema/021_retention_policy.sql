CREATE TABLE hitherto.retention_policy (
    table_name  text     NOT NULL CONSTRAINT retention_policy_pkey PRIMARY KEY
                         CONSTRAINT retention_policy_table_name_known CHECK (table_name IN
                            ('module_execution', 'health_check', 'signal', 'risk_evaluation', 'order_event', 'portfolio_snapshot')),
    drop_after  interval NOT NULL CONSTRAINT retention_policy_drop_after_positive CHECK (drop_after > '0')
);
COMMENT ON TABLE hitherto.retention_policy IS 'How long raw rows are kept; a table that is not here keeps them for ever. Change it with hitherto.retention_set';
COMMENT ON COLUMN hitherto.retention_policy.table_name IS 'Table whose old rows go';
COMMENT ON COLUMN hitherto.retention_policy.drop_after IS 'Age at which they go, by the row''s own time';

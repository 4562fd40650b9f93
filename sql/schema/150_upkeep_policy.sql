-- One row a table says all of its upkeep. retention_policy stays, as what retention reads.
ALTER TABLE hitherto.retention_policy RENAME TO upkeep_policy;
ALTER TABLE hitherto.upkeep_policy RENAME CONSTRAINT retention_policy_pkey TO upkeep_policy_pkey;
ALTER TABLE hitherto.upkeep_policy RENAME CONSTRAINT retention_policy_table_name_known TO upkeep_policy_table_name_known;
ALTER TABLE hitherto.upkeep_policy RENAME CONSTRAINT retention_policy_drop_after_least TO upkeep_policy_drop_after_least;
ALTER TABLE hitherto.upkeep_policy
    ALTER COLUMN drop_after DROP NOT NULL,
    ADD COLUMN columnstore_after interval CONSTRAINT upkeep_policy_columnstore_after_least CHECK (columnstore_after >= '1 day'),
    ADD COLUMN refresh_every     interval CONSTRAINT upkeep_policy_refresh_every_range CHECK (refresh_every BETWEEN '10 seconds' AND '1 day'),
    ADD COLUMN time_column       text;

INSERT INTO hitherto.upkeep_policy AS p (table_name, columnstore_after, refresh_every, time_column) VALUES
    ('module_execution',   '7 days',  '1 minute', 'started_at'),
    ('health_check',       '7 days',  '1 minute', 'checked_at'),
    ('signal',             '7 days',  NULL,       'emitted_at'),
    ('risk_evaluation',    '30 days', '1 minute', 'evaluated_at'),
    ('order_event',        '30 days', NULL,       'event_at'),
    ('portfolio_snapshot', '30 days', '1 minute', 'taken_at')
ON CONFLICT (table_name) DO UPDATE SET columnstore_after = excluded.columnstore_after, refresh_every = excluded.refresh_every,
                                       time_column = excluded.time_column;
ALTER TABLE hitherto.upkeep_policy ALTER COLUMN time_column SET NOT NULL;

COMMENT ON TABLE hitherto.upkeep_policy IS 'How each table is kept: how long, when it goes to the columnstore, how often its aggregates are refreshed. UPDATE it, or use hitherto retention set';
COMMENT ON COLUMN hitherto.upkeep_policy.table_name IS 'The table';
COMMENT ON COLUMN hitherto.upkeep_policy.drop_after IS 'Age at which raw rows go, by the row''s own time; 8 days at least; NULL: never';
COMMENT ON COLUMN hitherto.upkeep_policy.columnstore_after IS 'Age at which chunks go to the columnstore (TimescaleDB), 1 day at least; NULL: never. Of no use past drop_after';
COMMENT ON COLUMN hitherto.upkeep_policy.refresh_every IS 'How often the server refreshes the table''s aggregates (TimescaleDB), 10 seconds to 1 day; NULL for a table without aggregates';
COMMENT ON COLUMN hitherto.upkeep_policy.time_column IS 'Column that holds the rows'' time; not to be changed';

CREATE VIEW hitherto.retention_policy AS
SELECT table_name, drop_after FROM hitherto.upkeep_policy WHERE drop_after IS NOT NULL;
COMMENT ON VIEW hitherto.retention_policy IS 'How long raw rows are kept; a table that is not here keeps them for ever. Change it with hitherto.retention_set';
COMMENT ON COLUMN hitherto.retention_policy.table_name IS 'Table whose old rows go';
COMMENT ON COLUMN hitherto.retention_policy.drop_after IS 'Age at which they go, by the row''s own time; 8 days at least';

-- A view of one table could be written to: a DELETE would take the table's whole policy.
CREATE FUNCTION hitherto.retention_policy_refuse()
RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'hitherto.retention_policy is read only: % is refused', TG_OP
        USING ERRCODE = 'insufficient_privilege', HINT = 'Use SELECT hitherto.retention_set(table_name, drop_after); drop_after NULL keeps rows for ever';
END
$$;
COMMENT ON FUNCTION hitherto.retention_policy_refuse() IS 'Trigger of retention_policy: points to retention_set';
CREATE TRIGGER retention_policy_read_only INSTEAD OF INSERT OR UPDATE OR DELETE ON hitherto.retention_policy
FOR EACH ROW EXECUTE FUNCTION hitherto.retention_policy_refuse();

CREATE OR REPLACE FUNCTION hitherto.retention_set(table_name text, drop_after interval)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE hitherto.upkeep_policy p SET drop_after = retention_set.drop_after WHERE p.table_name = retention_set.table_name;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'table % can''t have a retention policy; these can: %', table_name,
            (SELECT string_agg(p.table_name, ', ' ORDER BY p.table_name) FROM hitherto.upkeep_policy p) USING ERRCODE = '22023';
    END IF;
END
$$;
COMMENT ON FUNCTION hitherto.retention_set(text, interval) IS 'How long a table''s raw rows are kept from now on; NULL: for ever';

COMMENT ON TABLE hitherto.retention_range IS 'Ranges of time that rows were dropped of: aggregates there are not made anew from what came since';
COMMENT ON COLUMN hitherto.retention_range.table_name IS 'Table whose rows went';
COMMENT ON COLUMN hitherto.retention_range.range_start IS 'Start of the range: of a chunk, or of a day on plain PostgreSQL';
COMMENT ON COLUMN hitherto.retention_range.range_end IS 'End of the range, itself not included';

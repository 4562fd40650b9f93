-- stale_from and stale_until span rows that the ledger knows and the aggregate, for being read as
-- last refreshed there, does not show; hitherto maintain refreshes them.
CREATE OR REPLACE VIEW hitherto.aggregate_freshness AS
SELECT a.view_name, w.materialized_until,
       CASE WHEN c.continuous THEN greatest(l.newest - coalesce(w.materialized_until, l.oldest), INTERVAL '0') ELSE INTERVAL '0' END AS lag,
       a.last_refresh, a.last_error,
       t.stale_from, t.stale_until
FROM hitherto.aggregate a
CROSS JOIN LATERAL (SELECT hitherto.aggregate_watermark(a.view_name) AS materialized_until) w
CROSS JOIN LATERAL (SELECT EXISTS (SELECT FROM hitherto.schema_migration s WHERE s.name LIKE 'timescaledb/%') AS continuous) c
LEFT JOIN LATERAL (SELECT min(b.min_time) AS oldest, max(b.max_time) AS newest FROM hitherto.ingest_batch b
                   WHERE b.table_name = a.source_table) l ON true
LEFT JOIN LATERAL (SELECT min(r.touched_from) AS stale_from, max(least(r.touched_until, w.materialized_until)) AS stale_until
                   FROM hitherto.aggregate_touched(a.view_name) r WHERE r.touched_from < w.materialized_until) t ON true;

COMMENT ON VIEW hitherto.aggregate_freshness IS 'How current each aggregate is';
COMMENT ON COLUMN hitherto.aggregate_freshness.view_name IS 'View, or function, that people read';
COMMENT ON COLUMN hitherto.aggregate_freshness.materialized_until IS 'Rows before this are served as last refreshed, later ones are aggregated when read; NULL when nothing is materialised';
COMMENT ON COLUMN hitherto.aggregate_freshness.lag IS 'How far the newest row is past materialized_until; 0 for a plain view';
COMMENT ON COLUMN hitherto.aggregate_freshness.last_refresh IS 'When touched ranges were last refreshed';
COMMENT ON COLUMN hitherto.aggregate_freshness.last_error IS 'Why the last refresh failed; NULL when it did not';
COMMENT ON COLUMN hitherto.aggregate_freshness.stale_from IS 'Start of the rows that the aggregate does not show yet; NULL when it shows all';
COMMENT ON COLUMN hitherto.aggregate_freshness.stale_until IS 'End of those rows';

-- xid says in which order batches became visible; committed_at and sequences do not.
CREATE TABLE hitherto.ingest_batch (
    batch_id      uuid        NOT NULL CONSTRAINT ingest_batch_pkey PRIMARY KEY,
    producer      text        NOT NULL,
    table_name    text        NOT NULL,
    row_count     bigint      NOT NULL CONSTRAINT ingest_batch_row_count_not_negative CHECK (row_count >= 0),
    min_time      timestamptz,
    max_time      timestamptz,
    digest        bytea       NOT NULL,
    xid           xid8        NOT NULL DEFAULT pg_current_xact_id(),
    committed_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT ingest_batch_max_time_order CHECK (max_time >= min_time)
);
-- What has been written to a table since a watermark: aggregate refresh, aggregate_freshness, export.
CREATE INDEX ingest_batch_table_name_xid_idx ON hitherto.ingest_batch (table_name, xid);
-- The oldest and the newest row of a table: aggregate_freshness.
CREATE INDEX ingest_batch_table_name_min_time_idx ON hitherto.ingest_batch (table_name, min_time);
CREATE INDEX ingest_batch_table_name_max_time_idx ON hitherto.ingest_batch (table_name, max_time);
COMMENT ON TABLE hitherto.ingest_batch IS 'The ledger: one line a batch, committed in one transaction with the batch''s rows';
COMMENT ON COLUMN hitherto.ingest_batch.batch_id IS 'Frozen before the batch is first sent; a resend finds its line here';
COMMENT ON COLUMN hitherto.ingest_batch.producer IS 'Who wrote it, as the writer was named';
COMMENT ON COLUMN hitherto.ingest_batch.table_name IS 'Table that holds the rows';
COMMENT ON COLUMN hitherto.ingest_batch.row_count IS 'Rows stored: neither duplicates of stored events nor quarantined rows count';
COMMENT ON COLUMN hitherto.ingest_batch.min_time IS 'Earliest time of the batch''s rows; NULL for a table without a time';
COMMENT ON COLUMN hitherto.ingest_batch.max_time IS 'Latest time of the batch''s rows, itself included; NULL for a table without a time';
COMMENT ON COLUMN hitherto.ingest_batch.digest IS 'SHA-256 of the batch as it was frozen';
COMMENT ON COLUMN hitherto.ingest_batch.xid IS 'Transaction that wrote it; compare with pg_snapshot_xmin to follow commit order';
COMMENT ON COLUMN hitherto.ingest_batch.committed_at IS 'When the line was written, just before COMMIT';

CREATE TABLE hitherto.quarantine (
    quarantine_id   bigint      GENERATED ALWAYS AS IDENTITY CONSTRAINT quarantine_pkey PRIMARY KEY,
    batch_id        uuid        NOT NULL,
    producer        text        NOT NULL,
    table_name      text        NOT NULL,
    record          text        NOT NULL,
    sqlstate        text        NOT NULL,
    reason          text        NOT NULL,
    quarantined_at  timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX quarantine_batch_id_idx ON hitherto.quarantine (batch_id);
COMMENT ON TABLE hitherto.quarantine IS 'Rows that the database refused, with the reason; their neighbours were stored';
COMMENT ON COLUMN hitherto.quarantine.quarantine_id IS 'Number of the row here';
COMMENT ON COLUMN hitherto.quarantine.batch_id IS 'Batch that the row came with';
COMMENT ON COLUMN hitherto.quarantine.producer IS 'Who wrote it';
COMMENT ON COLUMN hitherto.quarantine.table_name IS 'Table that it was meant for';
COMMENT ON COLUMN hitherto.quarantine.record IS 'The record as JSON text, NDJSON field names';
COMMENT ON COLUMN hitherto.quarantine.sqlstate IS 'SQLSTATE of the refusal';
COMMENT ON COLUMN hitherto.quarantine.reason IS 'The database''s words';
COMMENT ON COLUMN hitherto.quarantine.quarantined_at IS 'When it was put here';

-- Quarantine is append-only: what became of its rows stands here. A row without a line is not resolved yet.
CREATE TABLE hitherto.quarantine_resolution (
    quarantine_id  bigint      NOT NULL CONSTRAINT quarantine_resolution_pkey PRIMARY KEY
                               CONSTRAINT quarantine_resolution_quarantine_id_fkey REFERENCES hitherto.quarantine,
    resolution     text        NOT NULL CONSTRAINT quarantine_resolution_resolution_word CHECK (resolution IN ('stored', 'dropped')),
    batch_id       uuid,
    resolved_by    text        NOT NULL CONSTRAINT quarantine_resolution_resolved_by_length CHECK (length(btrim(resolved_by)) BETWEEN 1 AND 200),
    reason         text,
    login          text        NOT NULL DEFAULT session_user,
    resolved_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT quarantine_resolution_batch_id_stored CHECK ((resolution = 'stored') = (batch_id IS NOT NULL)),
    CONSTRAINT quarantine_resolution_reason_dropped CHECK (resolution = 'stored' OR length(btrim(reason)) > 0)
);
COMMENT ON TABLE hitherto.quarantine_resolution IS 'What became of rows in quarantine: stored after all, or given up for a reason; a row without a line waits';
COMMENT ON COLUMN hitherto.quarantine_resolution.quarantine_id IS 'The row in quarantine';
COMMENT ON COLUMN hitherto.quarantine_resolution.resolution IS 'stored or dropped';
COMMENT ON COLUMN hitherto.quarantine_resolution.batch_id IS 'Batch that it was stored under, its line in ingest_batch; NULL when dropped';
COMMENT ON COLUMN hitherto.quarantine_resolution.resolved_by IS 'Who says that they did it';
COMMENT ON COLUMN hitherto.quarantine_resolution.reason IS 'Why it was dropped, or what was corrected';
COMMENT ON COLUMN hitherto.quarantine_resolution.login IS 'Database role of the session that wrote this';
COMMENT ON COLUMN hitherto.quarantine_resolution.resolved_at IS 'When it was written';

SELECT hitherto.append_only_set('quarantine_resolution');

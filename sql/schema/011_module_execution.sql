CREATE TABLE hitherto.module_execution (
    started_at     timestamptz      NOT NULL,
    module_id      bigint           NOT NULL,
    execution_id   text COLLATE "C" NOT NULL CONSTRAINT module_execution_execution_id_length CHECK (length(btrim(execution_id)) BETWEEN 1 AND 200),
    duration_ms    double precision NOT NULL CONSTRAINT module_execution_duration_ms_range CHECK (duration_ms >= 0 AND duration_ms <= 1e15),
    success        boolean          NOT NULL,
    error_message  text,
    details        jsonb,
    batch_id       uuid             NOT NULL
);
-- One module's history, newest first: module_stats, aggregates by module, export in its sort order.
CREATE INDEX module_execution_module_id_started_at_idx ON hitherto.module_execution (module_id, started_at DESC);
COMMENT ON TABLE hitherto.module_execution IS 'One run of a module''s work';
COMMENT ON COLUMN hitherto.module_execution.started_at IS 'When the run began';
COMMENT ON COLUMN hitherto.module_execution.module_id IS 'Module that ran';
COMMENT ON COLUMN hitherto.module_execution.execution_id IS 'The run''s own id';
COMMENT ON COLUMN hitherto.module_execution.duration_ms IS 'How long it took, milliseconds';
COMMENT ON COLUMN hitherto.module_execution.success IS 'Whether it did what it was to do';
COMMENT ON COLUMN hitherto.module_execution.error_message IS 'Why not';
COMMENT ON COLUMN hitherto.module_execution.details IS 'Anything else, as the module gave it';
COMMENT ON COLUMN hitherto.module_execution.batch_id IS 'Line in the ledger';

CREATE TABLE hitherto.signal (
    emitted_at  timestamptz      NOT NULL,
    module_id   bigint           NOT NULL CONSTRAINT signal_module_id_fkey REFERENCES hitherto.module,
    signal_id   text COLLATE "C" NOT NULL CONSTRAINT signal_signal_id_length CHECK (length(btrim(signal_id)) BETWEEN 1 AND 200),
    kind        text             NOT NULL CONSTRAINT signal_kind_length CHECK (length(btrim(kind)) BETWEEN 1 AND 200),
    asset       text COLLATE "C",
    score       double precision CONSTRAINT signal_score_range CHECK (score BETWEEN -1e15 AND 1e15),
    confidence  double precision CONSTRAINT signal_confidence_range CHECK (confidence BETWEEN 0 AND 1),
    payload     jsonb,
    batch_id    uuid             NOT NULL
);
-- One module's signals, newest first.
CREATE INDEX signal_module_id_emitted_at_idx ON hitherto.signal (module_id, emitted_at DESC);
-- decision_trail finds the signals that a proposal names.
CREATE INDEX signal_signal_id_idx ON hitherto.signal (signal_id);
COMMENT ON TABLE hitherto.signal IS 'What a module made of the market';
COMMENT ON COLUMN hitherto.signal.emitted_at IS 'When it was given';
COMMENT ON COLUMN hitherto.signal.module_id IS 'Module that gave it';
COMMENT ON COLUMN hitherto.signal.signal_id IS 'The signal''s own id; a proposal names it in payload.signal_ids';
COMMENT ON COLUMN hitherto.signal.kind IS 'What sort of signal';
COMMENT ON COLUMN hitherto.signal.asset IS 'Asset it speaks of; NULL for the market as a whole';
COMMENT ON COLUMN hitherto.signal.score IS 'Its strength in the module''s own units; negative points down';
COMMENT ON COLUMN hitherto.signal.confidence IS 'How sure the module is, 0 to 1';
COMMENT ON COLUMN hitherto.signal.payload IS 'Anything else, as the module gave it';
COMMENT ON COLUMN hitherto.signal.batch_id IS 'Line in the ledger';

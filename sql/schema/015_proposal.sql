CREATE TABLE hitherto.proposal (
    proposal_id  text COLLATE "C" NOT NULL CONSTRAINT proposal_pkey PRIMARY KEY
                                  CONSTRAINT proposal_proposal_id_length CHECK (length(btrim(proposal_id)) BETWEEN 1 AND 200),
    module_id    bigint           NOT NULL CONSTRAINT proposal_module_id_fkey REFERENCES hitherto.module,
    proposed_at  timestamptz      NOT NULL,
    asset        text COLLATE "C",
    payload      jsonb,
    batch_id     uuid             NOT NULL
);
CREATE INDEX proposal_proposed_at_idx ON hitherto.proposal (proposed_at DESC);
COMMENT ON TABLE hitherto.proposal IS 'What a module proposed to do';
COMMENT ON COLUMN hitherto.proposal.proposal_id IS 'The proposal''s own id; risk evaluations and orders name it';
COMMENT ON COLUMN hitherto.proposal.module_id IS 'Module that proposed';
COMMENT ON COLUMN hitherto.proposal.proposed_at IS 'When';
COMMENT ON COLUMN hitherto.proposal.asset IS 'Asset it is about; NULL for a portfolio as a whole';
COMMENT ON COLUMN hitherto.proposal.payload IS 'What exactly; signal_ids, an array, names the signals that it rests on';
COMMENT ON COLUMN hitherto.proposal.batch_id IS 'Line in the ledger';

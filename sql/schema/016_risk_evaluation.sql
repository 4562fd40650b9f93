CREATE TABLE hitherto.risk_evaluation (
    evaluated_at        timestamptz      NOT NULL,
    evaluation_id       text COLLATE "C" NOT NULL CONSTRAINT risk_evaluation_evaluation_id_length CHECK (length(btrim(evaluation_id)) BETWEEN 1 AND 200),
    proposal_id         text COLLATE "C" NOT NULL CONSTRAINT risk_evaluation_proposal_id_length CHECK (length(btrim(proposal_id)) BETWEEN 1 AND 200),
    module_id           bigint           NOT NULL CONSTRAINT risk_evaluation_module_id_fkey REFERENCES hitherto.module,
    risk_level          text COLLATE "C" NOT NULL CONSTRAINT risk_evaluation_risk_level_word CHECK (risk_level IN ('low', 'medium', 'high', 'critical')),
    verdict             text COLLATE "C" NOT NULL CONSTRAINT risk_evaluation_verdict_word CHECK (verdict IN ('approved', 'downgraded', 'rejected')),
    var_99              double precision CONSTRAINT risk_evaluation_var_99_range CHECK (var_99 BETWEEN -1e15 AND 1e15),
    expected_shortfall  double precision CONSTRAINT risk_evaluation_expected_shortfall_range CHECK (expected_shortfall BETWEEN -1e15 AND 1e15),
    max_drawdown        double precision CONSTRAINT risk_evaluation_max_drawdown_range CHECK (max_drawdown BETWEEN -1e15 AND 1e15),
    sharpe_ratio        double precision CONSTRAINT risk_evaluation_sharpe_ratio_range CHECK (sharpe_ratio BETWEEN -1e15 AND 1e15),
    flags               jsonb,
    recommendations     jsonb,
    method              text,
    model_version       text,
    batch_id            uuid             NOT NULL,
    -- A producer that replays its own log changes nothing.
    CONSTRAINT risk_evaluation_evaluation_id_unique UNIQUE (evaluation_id, evaluated_at)
);
-- decision_trail: the verdicts on a proposal.
CREATE INDEX risk_evaluation_proposal_id_evaluated_at_idx ON hitherto.risk_evaluation (proposal_id, evaluated_at);
COMMENT ON TABLE hitherto.risk_evaluation IS 'What risk management made of a proposal';
COMMENT ON COLUMN hitherto.risk_evaluation.evaluated_at IS 'When';
COMMENT ON COLUMN hitherto.risk_evaluation.evaluation_id IS 'The evaluation''s own id';
COMMENT ON COLUMN hitherto.risk_evaluation.proposal_id IS 'Proposal it judges';
COMMENT ON COLUMN hitherto.risk_evaluation.module_id IS 'Module that judged';
COMMENT ON COLUMN hitherto.risk_evaluation.risk_level IS 'low, medium, high or critical';
COMMENT ON COLUMN hitherto.risk_evaluation.verdict IS 'approved, downgraded or rejected';
COMMENT ON COLUMN hitherto.risk_evaluation.var_99 IS 'Value at risk at 99 %, a fraction of the position''s value, positive for a loss';
COMMENT ON COLUMN hitherto.risk_evaluation.expected_shortfall IS 'Mean loss beyond value at risk, a fraction, positive for a loss';
COMMENT ON COLUMN hitherto.risk_evaluation.max_drawdown IS 'Largest fall from a peak, a fraction';
COMMENT ON COLUMN hitherto.risk_evaluation.sharpe_ratio IS 'Mean return over its standard deviation, as the module scales it';
COMMENT ON COLUMN hitherto.risk_evaluation.flags IS 'What stood out';
COMMENT ON COLUMN hitherto.risk_evaluation.recommendations IS 'What to do about it';
COMMENT ON COLUMN hitherto.risk_evaluation.method IS 'How it was computed';
COMMENT ON COLUMN hitherto.risk_evaluation.model_version IS 'Version of the model that computed it';
COMMENT ON COLUMN hitherto.risk_evaluation.batch_id IS 'Line in the ledger';

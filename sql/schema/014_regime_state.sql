CREATE TABLE hitherto.regime_state (
    regime_id              text COLLATE "C" NOT NULL CONSTRAINT regime_state_pkey PRIMARY KEY
                                            CONSTRAINT regime_state_regime_id_length CHECK (length(btrim(regime_id)) BETWEEN 1 AND 200),
    regime                 text             NOT NULL CONSTRAINT regime_state_regime_word CHECK
                                            (regime IN ('bull', 'bear', 'sideways', 'high_vol', 'low_vol', 'crisis', 'recovery', 'unknown')),
    confidence             double precision NOT NULL CONSTRAINT regime_state_confidence_range CHECK (confidence BETWEEN 0 AND 1),
    method                 text,
    classified_by          text             NOT NULL CONSTRAINT regime_state_classified_by_length CHECK (length(btrim(classified_by)) BETWEEN 1 AND 200),
    reasoning              text,
    notes                  text,
    context                jsonb,
    requires_confirmation  boolean          NOT NULL DEFAULT false,
    status                 text             NOT NULL DEFAULT 'proposed' CONSTRAINT regime_state_status_word CHECK
                                            (status IN ('proposed', 'active', 'superseded', 'rejected', 'expired')),
    proposed_at            timestamptz      NOT NULL DEFAULT now(),
    decide_by              timestamptz,
    decided_at             timestamptz,
    decided_by             text,
    effective_from         timestamptz,
    effective_until        timestamptz,
    CONSTRAINT regime_state_effective_until_order CHECK (effective_until >= effective_from),
    CONSTRAINT regime_state_effective_from_status CHECK
        ((status IN ('active', 'superseded')) = (effective_from IS NOT NULL)),
    CONSTRAINT regime_state_effective_until_status CHECK
        ((status = 'superseded') = (effective_until IS NOT NULL)),
    -- No two regimes at one time, the open end of the active one included.
    CONSTRAINT regime_state_effective_no_overlap EXCLUDE USING gist
        (tstzrange(effective_from, effective_until) WITH &&) WHERE (effective_from IS NOT NULL)
);
-- Two active ones are refused even where their ranges would not meet.
CREATE UNIQUE INDEX regime_state_status_one_active ON hitherto.regime_state (status) WHERE status = 'active';
CREATE INDEX regime_state_proposed_at_idx ON hitherto.regime_state (proposed_at DESC);
COMMENT ON TABLE hitherto.regime_state IS 'The market''s regimes: proposed, decided, in force and past';
COMMENT ON COLUMN hitherto.regime_state.regime_id IS 'The regime''s own id';
COMMENT ON COLUMN hitherto.regime_state.regime IS 'bull, bear, sideways, high_vol, low_vol, crisis, recovery or unknown';
COMMENT ON COLUMN hitherto.regime_state.confidence IS 'How sure the classifier is, 0 to 1';
COMMENT ON COLUMN hitherto.regime_state.method IS 'How it was found';
COMMENT ON COLUMN hitherto.regime_state.classified_by IS 'Module or person that proposed it';
COMMENT ON COLUMN hitherto.regime_state.reasoning IS 'Why, in the proposer''s words';
COMMENT ON COLUMN hitherto.regime_state.notes IS 'Words of those who decided';
COMMENT ON COLUMN hitherto.regime_state.context IS 'The figures behind it';
COMMENT ON COLUMN hitherto.regime_state.requires_confirmation IS 'Whether a person must confirm it before it takes effect';
COMMENT ON COLUMN hitherto.regime_state.status IS 'proposed, active, superseded, rejected or expired';
COMMENT ON COLUMN hitherto.regime_state.proposed_at IS 'When it was proposed';
COMMENT ON COLUMN hitherto.regime_state.decide_by IS 'Past this, an undecided proposal expires; NULL: never';
COMMENT ON COLUMN hitherto.regime_state.decided_at IS 'When it was decided';
COMMENT ON COLUMN hitherto.regime_state.decided_by IS 'Who decided';
COMMENT ON COLUMN hitherto.regime_state.effective_from IS 'When it came into force';
COMMENT ON COLUMN hitherto.regime_state.effective_until IS 'When the next one replaced it; NULL while active';

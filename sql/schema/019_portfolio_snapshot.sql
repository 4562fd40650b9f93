CREATE TABLE hitherto.portfolio_snapshot (
    taken_at                    timestamptz      NOT NULL,
    snapshot_id                 text COLLATE "C" NOT NULL CONSTRAINT portfolio_snapshot_snapshot_id_length CHECK (length(btrim(snapshot_id)) BETWEEN 1 AND 200),
    positions                   jsonb            NOT NULL CONSTRAINT portfolio_snapshot_positions_object CHECK (jsonb_typeof(positions) = 'object'),
    cash_balance                numeric(38,18)   NOT NULL CONSTRAINT portfolio_snapshot_cash_balance_finite CHECK (cash_balance <> 'NaN'),
    total_value                 numeric(38,18)   NOT NULL CONSTRAINT portfolio_snapshot_total_value_finite CHECK (total_value <> 'NaN'),
    portfolio_var               double precision CONSTRAINT portfolio_snapshot_portfolio_var_range CHECK (portfolio_var BETWEEN -1e15 AND 1e15),
    portfolio_volatility        double precision CONSTRAINT portfolio_snapshot_portfolio_volatility_range CHECK (portfolio_volatility >= 0 AND portfolio_volatility <= 1e15),
    max_position_concentration  double precision CONSTRAINT portfolio_snapshot_max_position_concentration_range CHECK (max_position_concentration BETWEEN -1e15 AND 1e15),
    correlation_risk            double precision CONSTRAINT portfolio_snapshot_correlation_risk_range CHECK (correlation_risk BETWEEN -1e15 AND 1e15),
    reason                      text,
    market_hours                boolean,
    batch_id                    uuid             NOT NULL
);
-- The portfolio over time, and its latest state.
CREATE INDEX portfolio_snapshot_taken_at_idx ON hitherto.portfolio_snapshot (taken_at DESC);
COMMENT ON TABLE hitherto.portfolio_snapshot IS 'What the portfolio held and was worth';
COMMENT ON COLUMN hitherto.portfolio_snapshot.taken_at IS 'When';
COMMENT ON COLUMN hitherto.portfolio_snapshot.snapshot_id IS 'The snapshot''s own id';
COMMENT ON COLUMN hitherto.portfolio_snapshot.positions IS 'asset -> quantity, or asset -> {quantity, price}; see portfolio_position';
COMMENT ON COLUMN hitherto.portfolio_snapshot.cash_balance IS 'Cash, in the portfolio''s currency';
COMMENT ON COLUMN hitherto.portfolio_snapshot.total_value IS 'Cash and positions, in the portfolio''s currency';
COMMENT ON COLUMN hitherto.portfolio_snapshot.portfolio_var IS 'Value at risk, as the module computes it';
COMMENT ON COLUMN hitherto.portfolio_snapshot.portfolio_volatility IS 'Standard deviation of returns, as the module scales it';
COMMENT ON COLUMN hitherto.portfolio_snapshot.max_position_concentration IS 'Largest position''s share of the total, a fraction';
COMMENT ON COLUMN hitherto.portfolio_snapshot.correlation_risk IS 'Mean correlation of the positions, as the module computes it';
COMMENT ON COLUMN hitherto.portfolio_snapshot.reason IS 'Why it was taken: schedule, trade, ...';
COMMENT ON COLUMN hitherto.portfolio_snapshot.market_hours IS 'Whether the market was open';
COMMENT ON COLUMN hitherto.portfolio_snapshot.batch_id IS 'Line in the ledger';

CREATE FUNCTION hitherto.max_drawdown_step(state numeric[], value numeric)
RETURNS numeric[] LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT ARRAY[greatest(state[1], value),
                 greatest(state[2], CASE WHEN greatest(state[1], value) > 0
                                         THEN (greatest(state[1], value) - value) / greatest(state[1], value)
                                         ELSE 0 END)]
$$;
COMMENT ON FUNCTION hitherto.max_drawdown_step(numeric[], numeric) IS 'One step of max_drawdown: highest value so far, largest fall from it so far';

CREATE FUNCTION hitherto.max_drawdown_final(state numeric[])
RETURNS double precision LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN state[1] > '-infinity' THEN state[2]::double precision END
$$;
COMMENT ON FUNCTION hitherto.max_drawdown_final(numeric[]) IS 'Last step of max_drawdown; NULL when there was no value';

CREATE AGGREGATE hitherto.max_drawdown(value numeric) (
    SFUNC = hitherto.max_drawdown_step,
    STYPE = numeric[],
    INITCOND = '{-infinity,0}',
    FINALFUNC = hitherto.max_drawdown_final,
    PARALLEL = SAFE
);
COMMENT ON AGGREGATE hitherto.max_drawdown(numeric) IS
    'Largest fall from a peak, a fraction of the peak; feed it in order of time: max_drawdown(total_value ORDER BY taken_at, snapshot_id)';

CREATE OR REPLACE VIEW legacy.risk_evaluations AS
SELECT r.legacy_id AS id, r.proposal_id::varchar AS proposal_id, r.risk_level::varchar AS risk_level, r.var_99, r.expected_shortfall, r.max_drawdown,
       r.sharpe_ratio, r.verdict::varchar AS verdict, r.flags::json AS flags_json, r.recommendations::json AS recommendations_json,
       r.method::varchar AS evaluation_method, r.model_version::varchar AS model_version, r.evaluated_at AT TIME ZONE 'UTC' AS created_at
FROM hitherto.risk_evaluation r
WHERE NOT EXISTS (SELECT FROM hitherto.legacy_tombstone t WHERE t.table_name = 'risk_evaluation' AND t.legacy_id = r.legacy_id
                  AND t.kept_batch_id IS DISTINCT FROM r.batch_id);
ALTER VIEW legacy.risk_evaluations ALTER COLUMN id SET DEFAULT nextval('hitherto.risk_evaluation_legacy_id');
ALTER VIEW legacy.risk_evaluations ALTER COLUMN created_at SET DEFAULT now() AT TIME ZONE 'UTC';

COMMENT ON VIEW legacy.risk_evaluations IS 'hitherto.risk_evaluation under its old name';
COMMENT ON COLUMN legacy.risk_evaluations.id IS 'risk_evaluation.legacy_id';
COMMENT ON COLUMN legacy.risk_evaluations.proposal_id IS 'Proposal it judges; one that old code did not name is legacy-unknown- and the id';
COMMENT ON COLUMN legacy.risk_evaluations.risk_level IS 'low, medium, high or critical';
COMMENT ON COLUMN legacy.risk_evaluations.var_99 IS 'Value at risk at 99 %, a fraction';
COMMENT ON COLUMN legacy.risk_evaluations.expected_shortfall IS 'A fraction';
COMMENT ON COLUMN legacy.risk_evaluations.max_drawdown IS 'A fraction';
COMMENT ON COLUMN legacy.risk_evaluations.sharpe_ratio IS 'As the module scales it';
COMMENT ON COLUMN legacy.risk_evaluations.verdict IS 'approved, downgraded or rejected';
COMMENT ON COLUMN legacy.risk_evaluations.flags_json IS 'flags';
COMMENT ON COLUMN legacy.risk_evaluations.recommendations_json IS 'recommendations';
COMMENT ON COLUMN legacy.risk_evaluations.evaluation_method IS 'method';
COMMENT ON COLUMN legacy.risk_evaluations.model_version IS 'Version of the model';
COMMENT ON COLUMN legacy.risk_evaluations.created_at IS 'evaluated_at, UTC';

CREATE OR REPLACE FUNCTION legacy.risk_evaluations_write()
RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, hitherto, pg_temp AS $$
DECLARE
    r hitherto.risk_evaluation;
    stands legacy.risk_evaluations;
BEGIN
    IF TG_OP = 'DELETE' THEN
        RETURN CASE WHEN legacy.hide('risk_evaluation', OLD.id, NULL, OLD.created_at AT TIME ZONE 'UTC') THEN OLD END;
    END IF;
    r.batch_id := gen_random_uuid();
    IF TG_OP = 'UPDATE' THEN
        NEW.id := OLD.id;
        IF NOT legacy.hold('risk_evaluation', OLD.id, (SELECT h.batch_id FROM hitherto.risk_evaluation h WHERE h.legacy_id = OLD.id LIMIT 1), OLD.created_at AT TIME ZONE 'UTC') THEN
            RETURN NULL;
        END IF;
        SELECT v.* INTO stands FROM legacy.risk_evaluations v WHERE v.id = OLD.id;
        NEW := legacy.merged(OLD::legacy.risk_evaluations, NEW::legacy.risk_evaluations, stands, 'risk_evaluations ' || OLD.id);
        OLD := stands;
        PERFORM legacy.hide('risk_evaluation', OLD.id, r.batch_id, OLD.created_at AT TIME ZONE 'UTC');
        -- Who judged stays who it was.
        SELECT e.module_id INTO r.module_id FROM hitherto.risk_evaluation e WHERE e.legacy_id = OLD.id ORDER BY e.evaluated_at LIMIT 1;
    END IF;
    r.module_id := coalesce(r.module_id, (SELECT e.module_id FROM hitherto.module_ensure(ARRAY['risk_management']) e));
    r.legacy_id := coalesce(NEW.id, nextval('hitherto.risk_evaluation_legacy_id'));
    r.evaluated_at := coalesce(legacy.utc(NEW.created_at, 'risk_evaluations.created_at'), now());
    r.evaluation_id := gen_random_uuid();
    r.proposal_id := coalesce(NEW.proposal_id, 'legacy-unknown-' || r.legacy_id);
    r.risk_level := legacy.word(NEW.risk_level, 'risk_evaluations.risk_level', 'low', 'medium', 'high', 'critical');
    r.verdict := legacy.word(NEW.verdict, 'risk_evaluations.verdict', 'approved', 'downgraded', 'rejected');
    r.var_99 := NEW.var_99;
    r.expected_shortfall := NEW.expected_shortfall;
    r.max_drawdown := NEW.max_drawdown;
    r.sharpe_ratio := NEW.sharpe_ratio;
    r.flags := legacy.document(NEW.flags_json, 'risk_evaluations.flags_json');
    r.recommendations := legacy.document(NEW.recommendations_json, 'risk_evaluations.recommendations_json');
    r.method := NEW.evaluation_method;
    r.model_version := NEW.model_version;
    INSERT INTO hitherto.risk_evaluation SELECT r.*;
    PERFORM hitherto.ledger_add(r.batch_id, 'legacy', 'risk_evaluation', ARRAY[hitherto.canonical_row(r)], r.evaluated_at, r.evaluated_at);
    NEW.id := r.legacy_id;
    NEW.proposal_id := r.proposal_id;
    NEW.risk_level := r.risk_level;
    NEW.verdict := r.verdict;
    NEW.flags_json := r.flags;
    NEW.recommendations_json := r.recommendations;
    NEW.created_at := r.evaluated_at AT TIME ZONE 'UTC';
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION legacy.risk_evaluations_write() IS
    'Stores a risk evaluation, of module risk_management; an UPDATE stores it anew and hides the old row, a DELETE hides it';
CREATE OR REPLACE TRIGGER risk_evaluations_write INSTEAD OF INSERT OR UPDATE OR DELETE ON legacy.risk_evaluations
    FOR EACH ROW EXECUTE FUNCTION legacy.risk_evaluations_write();

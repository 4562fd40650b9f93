-- What a writer must read, functions read for it: they run as the owner of this schema, so that whoever writes
-- needs no SELECT on any table of records. Each pins its search_path, the temporary schema last, and is planned for the arrays it is
-- given, as a statement of the writer's own would be. Who may call them is said in sql/role.

ALTER FUNCTION hitherto.module_ensure(text[]) SECURITY DEFINER SET search_path = pg_catalog, hitherto, pg_temp;
ALTER FUNCTION hitherto.execution_report_fold(text[]) SECURITY DEFINER SET search_path = pg_catalog, hitherto, pg_temp;

CREATE FUNCTION hitherto.batch_find(batch_id uuid)
RETURNS TABLE (row_count bigint, digest bytea, digest_form smallint, quarantined bigint)
LANGUAGE sql STABLE ROWS 1 SECURITY DEFINER SET search_path = pg_catalog, hitherto, pg_temp AS $$
    SELECT b.row_count, b.digest, b.digest_form, (SELECT count(*) FROM hitherto.quarantine q WHERE q.batch_id = b.batch_id)
    FROM hitherto.ingest_batch b WHERE b.batch_id = batch_find.batch_id
$$;
COMMENT ON FUNCTION hitherto.batch_find(uuid) IS 'What the ledger holds under a batch''s id, and how many of its rows are in quarantine; no row: it was not stored';

CREATE FUNCTION hitherto.batches_known(batch_ids uuid[])
RETURNS SETOF uuid LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, hitherto, pg_temp AS $$
    SELECT b.batch_id FROM hitherto.ingest_batch b WHERE b.batch_id = ANY (batches_known.batch_ids)
$$;
COMMENT ON FUNCTION hitherto.batches_known(uuid[]) IS 'Which of these batches stand in the ledger';

CREATE FUNCTION hitherto.batches_between(from_id uuid, to_id uuid)
RETURNS SETOF uuid LANGUAGE sql STABLE ROWS 10 SECURITY DEFINER SET search_path = pg_catalog, hitherto, pg_temp AS $$
    -- One stretch of one stream, and not the whole ledger.
    SELECT b.batch_id FROM hitherto.ingest_batch b
    WHERE b.batch_id BETWEEN batches_between.from_id AND batches_between.to_id
      AND substring(uuid_send(batches_between.from_id) FROM 1 FOR 8) = substring(uuid_send(batches_between.to_id) FROM 1 FOR 8)
$$;
COMMENT ON FUNCTION hitherto.batches_between(uuid, uuid) IS 'Batches in the ledger whose ids lie between these, both included; none if the ids differ in their first eight bytes';

CREATE FUNCTION hitherto.batch_refused(batch_id uuid)
RETURNS TABLE (record text, sqlstate text, reason text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, hitherto, pg_temp AS $$
    SELECT q.record, q.sqlstate, q.reason FROM hitherto.quarantine q WHERE q.batch_id = batch_refused.batch_id ORDER BY q.quarantine_id
$$;
COMMENT ON FUNCTION hitherto.batch_refused(uuid) IS 'The rows of a batch that are in quarantine, for whoever sent it';

CREATE FUNCTION hitherto.module_store(
    name text[], version text[], status text[], config jsonb[], error_message text[])
RETURNS SETOF text LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, hitherto, pg_temp SET plan_cache_mode = force_custom_plan AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    INSERT INTO hitherto.module AS m (name, version, status, config, error_message)
    SELECT DISTINCT ON (r.name) r.name, r.version, r.status, r.config, r.error_message
    FROM unnest($1, $2, $3, $4, $5) WITH ORDINALITY AS r (name, version, status, config, error_message, n) ORDER BY r.name, r.n DESC
    ON CONFLICT (name) DO UPDATE SET version = excluded.version, status = excluded.status, config = excluded.config,
        error_message = excluded.error_message, updated_at = clock_timestamp()
    RETURNING m.name::text;
END
$$;
COMMENT ON FUNCTION hitherto.module_store IS 'Registers modules, or updates those that are known; their names';

CREATE FUNCTION hitherto.regime_state_store(
    regime_id text[], regime text[], confidence double precision[], method text[], classified_by text[], reasoning text[],
    notes text[], context jsonb[], requires_confirmation boolean[], status text[], proposed_at timestamptz[],
    decide_by timestamptz[], decided_at timestamptz[], decided_by text[], effective_from timestamptz[], effective_until timestamptz[])
RETURNS SETOF text LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, hitherto, pg_temp SET plan_cache_mode = force_custom_plan AS $$
#variable_conflict use_column
BEGIN
    -- Any other conflict, such as two active regimes, must be seen.
    RETURN QUERY
    INSERT INTO hitherto.regime_state AS s (regime_id, regime, confidence, method, classified_by, reasoning, notes, context, requires_confirmation, status, proposed_at,
            decide_by, decided_at, decided_by, effective_from, effective_until)
    SELECT r.regime_id, r.regime, r.confidence, r.method, r.classified_by, r.reasoning, r.notes, r.context, r.requires_confirmation,
            r.status, r.proposed_at, r.decide_by, r.decided_at, r.decided_by, r.effective_from, r.effective_until
    FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16) AS r (regime_id, regime, confidence, method, classified_by, reasoning, notes, context, requires_confirmation, status, proposed_at,
            decide_by, decided_at, decided_by, effective_from, effective_until)
    ON CONFLICT (regime_id) DO NOTHING
    RETURNING s.regime_id::text;
END
$$;
COMMENT ON FUNCTION hitherto.regime_state_store IS 'Stores regimes; the ids of those that were not there';

CREATE FUNCTION hitherto.proposal_store(
    proposal_id text[], module_id bigint[], proposed_at timestamptz[], asset text[], payload jsonb[], batch_id uuid)
RETURNS TABLE (stored_id text, stored_at timestamptz) LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, hitherto, pg_temp SET plan_cache_mode = force_custom_plan AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    INSERT INTO hitherto.proposal AS s (proposal_id, module_id, proposed_at, asset, payload, batch_id)
    SELECT r.proposal_id, r.module_id, r.proposed_at, r.asset, r.payload, $6
    FROM unnest($1, $2, $3, $4, $5) AS r (proposal_id, module_id, proposed_at, asset, payload)
    ON CONFLICT DO NOTHING
    RETURNING s.proposal_id::text, s.proposed_at;
END
$$;
COMMENT ON FUNCTION hitherto.proposal_store IS 'Stores proposals; id and time of those that were not there';

CREATE FUNCTION hitherto.risk_evaluation_store(
    evaluated_at timestamptz[], evaluation_id text[], proposal_id text[], module_id bigint[], risk_level text[], verdict text[],
    var_99 double precision[], expected_shortfall double precision[], max_drawdown double precision[],
    sharpe_ratio double precision[], flags jsonb[], recommendations jsonb[], method text[], model_version text[], batch_id uuid)
RETURNS TABLE (stored_id text, stored_at timestamptz) LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, hitherto, pg_temp SET plan_cache_mode = force_custom_plan AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    INSERT INTO hitherto.risk_evaluation AS s (evaluated_at, evaluation_id, proposal_id, module_id, risk_level, verdict, var_99, expected_shortfall, max_drawdown, sharpe_ratio,
            flags, recommendations, method, model_version, batch_id)
    SELECT r.evaluated_at, r.evaluation_id, r.proposal_id, r.module_id, r.risk_level, r.verdict, r.var_99, r.expected_shortfall,
            r.max_drawdown, r.sharpe_ratio, r.flags, r.recommendations, r.method, r.model_version, $15
    FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14) AS r (evaluated_at, evaluation_id, proposal_id, module_id, risk_level, verdict, var_99, expected_shortfall, max_drawdown, sharpe_ratio,
            flags, recommendations, method, model_version)
    ON CONFLICT DO NOTHING
    RETURNING s.evaluation_id::text, s.evaluated_at;
END
$$;
COMMENT ON FUNCTION hitherto.risk_evaluation_store IS 'Stores risk evaluations; id and time of those that were not there';

CREATE FUNCTION hitherto.order_event_store(
    event_at timestamptz[], order_id text[], event_id text[], sequence bigint[], proposal_id text[], event_type text[], asset text[],
    side text[], order_type text[], quantity numeric[], price numeric[], last_quantity numeric[], last_price numeric[],
    commission numeric[], broker text[], reason text[], ref_event_id text[], details jsonb[], batch_id uuid)
RETURNS TABLE (stored_id text, stored_at timestamptz) LANGUAGE plpgsql SECURITY DEFINER
-- Ids are claimed for the batch as a whole, not by a trigger row by row.
SET search_path = pg_catalog, hitherto, pg_temp SET plan_cache_mode = force_custom_plan AS $$
#variable_conflict use_column
DECLARE
    set_based_before text := current_setting('hitherto.set_based', true);
BEGIN
    IF NOT has_table_privilege('hitherto.order_event', 'TRIGGER') THEN
        RAISE EXCEPTION 'hitherto.order_event and hitherto.order_event_store have different owners' USING ERRCODE = 'insufficient_privilege',
            HINT = 'Give all objects of the schema one owner.';
    END IF;
    PERFORM set_config('hitherto.set_based', 'on', true);
    RETURN QUERY
    WITH incoming AS (
        SELECT DISTINCT ON (r.event_id COLLATE "C") r.event_at, r.order_id, r.event_id, r.sequence, r.proposal_id, r.event_type, r.asset, r.side, r.order_type, r.quantity, r.price,
                r.last_quantity, r.last_price, r.commission, r.broker, r.reason, r.ref_event_id, r.details
        FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18) WITH ORDINALITY AS r (event_at, order_id, event_id, sequence, proposal_id, event_type, asset, side, order_type, quantity, price, last_quantity,
                last_price, commission, broker, reason, ref_event_id, details, n)
        ORDER BY r.event_id COLLATE "C", r.n
    ), claimed AS (
        INSERT INTO hitherto.order_event_key AS k (event_id, event_at, order_id) SELECT i.event_id, i.event_at, i.order_id FROM incoming i ORDER BY i.event_id COLLATE "C"
        ON CONFLICT DO NOTHING RETURNING k.event_id
    )
    INSERT INTO hitherto.order_event AS s (event_at, order_id, event_id, sequence, proposal_id, event_type, asset, side, order_type, quantity, price, last_quantity,
            last_price, commission, broker, reason, ref_event_id, details, batch_id)
    SELECT i.event_at, i.order_id, i.event_id, i.sequence, i.proposal_id, i.event_type, i.asset, i.side, i.order_type, i.quantity, i.price,
            i.last_quantity, i.last_price, i.commission, i.broker, i.reason, i.ref_event_id, i.details, $19
    FROM incoming i JOIN claimed c ON c.event_id = i.event_id
    ON CONFLICT DO NOTHING
    RETURNING s.event_id::text, s.event_at;
    PERFORM set_config('hitherto.set_based', coalesce(set_based_before, ''), true);
END
$$;
COMMENT ON FUNCTION hitherto.order_event_store IS 'Claims the ids of events and stores those that were not there, without folding their orders; id and time of those that it stored';

-- The same id may stand at another time; retention may have dropped what stood, and then id, time and order tell it
-- from another.
CREATE FUNCTION hitherto.order_event_differing(
    event_at timestamptz[], order_id text[], event_id text[], sequence bigint[], proposal_id text[], event_type text[], asset text[],
    side text[], order_type text[], quantity numeric[], price numeric[], last_quantity numeric[], last_price numeric[],
    commission numeric[], broker text[], reason text[], ref_event_id text[], details jsonb[])
RETURNS TABLE (n bigint, stands text, stands_order_id text, id text, other_order_id text, digest bytea) LANGUAGE plpgsql SECURITY DEFINER STABLE
SET search_path = pg_catalog, hitherto, pg_temp SET plan_cache_mode = force_custom_plan AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    SELECT r.n, CASE WHEN e.event_id IS NULL THEN to_jsonb(k) ELSE to_jsonb(e) - '{recorded_at,batch_id}'::text[] END::text, k.order_id::text,
           k.event_id::text, r.order_id, sha256(convert_to((to_jsonb(r) - 'n')::text, 'UTF8'))
    FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18) WITH ORDINALITY AS r (event_at, order_id, event_id, sequence, proposal_id, event_type, asset, side, order_type, quantity, price, last_quantity,
            last_price, commission, broker, reason, ref_event_id, details, n)
    JOIN hitherto.order_event_key k ON k.event_id = r.event_id
    LEFT JOIN hitherto.order_event s ON s.event_id = r.event_id AND s.event_at = r.event_at
    LEFT JOIN hitherto.order_event e ON e.event_id = k.event_id AND e.event_at = k.event_at
    WHERE (s.event_at, s.order_id, s.event_id, s.sequence, s.proposal_id, s.event_type, s.asset, s.side, s.order_type, s.quantity, s.price,
            s.last_quantity, s.last_price, s.commission, s.broker, s.reason, s.ref_event_id, s.details)
          IS DISTINCT FROM (r.event_at, r.order_id, r.event_id, r.sequence, r.proposal_id, r.event_type, r.asset, r.side, r.order_type, r.quantity, r.price,
            r.last_quantity, r.last_price, r.commission, r.broker, r.reason, r.ref_event_id, r.details)
      AND (e.event_id IS NOT NULL OR (k.event_at, k.order_id) IS DISTINCT FROM (r.event_at, r.order_id));
END
$$;
COMMENT ON FUNCTION hitherto.order_event_differing IS 'Which of these events have an id that stands with other content: their number, what stands and its order, the id, the order of the one that differs, its digest';

CREATE FUNCTION hitherto.order_event_conflicts(
    event_at timestamptz[], order_id text[], event_id text[], sequence bigint[], proposal_id text[], event_type text[], asset text[],
    side text[], order_type text[], quantity numeric[], price numeric[], last_quantity numeric[], last_price numeric[],
    commission numeric[], broker text[], reason text[], ref_event_id text[], details jsonb[], batch_id uuid)
RETURNS TABLE (n bigint, stands text, stands_order_id text) LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, hitherto, pg_temp SET plan_cache_mode = force_custom_plan AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    WITH differing AS MATERIALIZED (
        SELECT * FROM hitherto.order_event_differing($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)
    ), noted AS (
        INSERT INTO hitherto.order_event_conflict AS c (event_id, digest, order_id, refused_order_id, batch_id)
        SELECT DISTINCT d.id, d.digest, d.stands_order_id, d.other_order_id, $19 FROM differing d ON CONFLICT DO NOTHING RETURNING c.event_id, c.digest
    )
    SELECT DISTINCT ON (d.digest) d.n, d.stands, d.stands_order_id FROM differing d JOIN noted c ON c.event_id = d.id AND c.digest = d.digest ORDER BY d.digest, d.n;
END
$$;
COMMENT ON FUNCTION hitherto.order_event_conflicts IS 'As order_event_differing, of those that were not refused before; notes them, so that each is refused once';

CREATE FUNCTION hitherto.risk_evaluation_conflicts(
    evaluated_at timestamptz[], evaluation_id text[], proposal_id text[], module_id bigint[], risk_level text[], verdict text[],
    var_99 double precision[], expected_shortfall double precision[], max_drawdown double precision[],
    sharpe_ratio double precision[], flags jsonb[], recommendations jsonb[], method text[], model_version text[])
RETURNS TABLE (n bigint, stands text, stands_order_id text) LANGUAGE plpgsql SECURITY DEFINER STABLE
SET search_path = pg_catalog, hitherto, pg_temp SET plan_cache_mode = force_custom_plan AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    SELECT r.n, (to_jsonb(s) - 'batch_id')::text, NULL::text
    FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14) WITH ORDINALITY AS r (evaluated_at, evaluation_id, proposal_id, module_id, risk_level, verdict, var_99, expected_shortfall, max_drawdown, sharpe_ratio,
            flags, recommendations, method, model_version, n)
    JOIN hitherto.risk_evaluation s ON s.evaluation_id = r.evaluation_id AND s.evaluated_at = r.evaluated_at
    WHERE (s.evaluated_at, s.evaluation_id, s.proposal_id, s.module_id, s.risk_level, s.verdict, s.var_99, s.expected_shortfall,
            s.max_drawdown, s.sharpe_ratio, s.flags, s.recommendations, s.method, s.model_version)
          IS DISTINCT FROM (r.evaluated_at, r.evaluation_id, r.proposal_id, r.module_id, r.risk_level, r.verdict, r.var_99, r.expected_shortfall,
            r.max_drawdown, r.sharpe_ratio, r.flags, r.recommendations, r.method, r.model_version);
END
$$;
COMMENT ON FUNCTION hitherto.risk_evaluation_conflicts IS 'Which of these rows have an id that stands with other content: their number, and what stands';

CREATE FUNCTION hitherto.proposal_conflicts(
    proposal_id text[], module_id bigint[], proposed_at timestamptz[], asset text[], payload jsonb[])
RETURNS TABLE (n bigint, stands text, stands_order_id text) LANGUAGE plpgsql SECURITY DEFINER STABLE
SET search_path = pg_catalog, hitherto, pg_temp SET plan_cache_mode = force_custom_plan AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    SELECT r.n, (to_jsonb(s) - 'batch_id')::text, NULL::text
    FROM unnest($1, $2, $3, $4, $5) WITH ORDINALITY AS r (proposal_id, module_id, proposed_at, asset, payload, n)
    JOIN hitherto.proposal s ON s.proposal_id = r.proposal_id
    WHERE (s.proposal_id, s.module_id, s.proposed_at, s.asset, s.payload)
          IS DISTINCT FROM (r.proposal_id, r.module_id, r.proposed_at, r.asset, r.payload);
END
$$;
COMMENT ON FUNCTION hitherto.proposal_conflicts IS 'Which of these rows have an id that stands with other content: their number, and what stands';

CREATE FUNCTION hitherto.regime_state_conflicts(
    regime_id text[], regime text[], confidence double precision[], method text[], classified_by text[], reasoning text[],
    notes text[], context jsonb[], requires_confirmation boolean[], status text[], proposed_at timestamptz[],
    decide_by timestamptz[], decided_at timestamptz[], decided_by text[], effective_from timestamptz[], effective_until timestamptz[])
RETURNS TABLE (n bigint, stands text, stands_order_id text) LANGUAGE plpgsql SECURITY DEFINER STABLE
SET search_path = pg_catalog, hitherto, pg_temp SET plan_cache_mode = force_custom_plan AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    SELECT r.n, (to_jsonb(s) - 'batch_id')::text, NULL::text
    FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16) WITH ORDINALITY AS r (regime_id, regime, confidence, method, classified_by, reasoning, notes, context, requires_confirmation, status, proposed_at,
            decide_by, decided_at, decided_by, effective_from, effective_until, n)
    JOIN hitherto.regime_state s ON s.regime_id = r.regime_id
    WHERE (s.regime, s.confidence, s.method, s.classified_by, s.reasoning, s.context, s.proposed_at, s.decide_by)
          IS DISTINCT FROM (r.regime, r.confidence, r.method, r.classified_by, r.reasoning, r.context, r.proposed_at, r.decide_by);
END
$$;
COMMENT ON FUNCTION hitherto.regime_state_conflicts IS 'Which of these rows have an id that stands with other content: their number, and what stands';

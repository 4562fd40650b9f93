-- hitherto import-legacy hands over rows as JSON, in the order of their ids. They go in as old code would
-- write them; ids are given anew.

CREATE OR REPLACE FUNCTION legacy.import_refused(source text, table_name text, old json, sqlstate text, reason text)
RETURNS void LANGUAGE sql AS $$
    -- Under an id that is made of what it says: it is put there once, however often it is tried again. What a
    -- regime is handed over with hangs on the others, too.
    INSERT INTO hitherto.quarantine (batch_id, producer, table_name, record, sqlstate, reason)
    SELECT b.id, 'import-legacy', import_refused.table_name, old::text, import_refused.sqlstate, import_refused.reason
    FROM (SELECT md5(concat_ws('/', source, import_refused.table_name, old ->> 'id',
                               CASE import_refused.table_name WHEN 'regime_states' THEN reason ELSE old::text END))::uuid AS id) b
    WHERE NOT EXISTS (SELECT FROM hitherto.quarantine q WHERE q.batch_id = b.id)
$$;
COMMENT ON FUNCTION legacy.import_refused(text, text, json, text, text) IS 'Puts an old row that breaks a rule into quarantine';

CREATE OR REPLACE FUNCTION legacy.import_module(source text, old json)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    o legacy.module_registry := json_populate_record(NULL::legacy.module_registry, old);
    id bigint := (SELECT m.module_id FROM hitherto.module m WHERE m.name = o.name);
BEGIN
    IF id IS NULL THEN
        INSERT INTO legacy.module_registry (name, version, status, config_json, error_message, created_at, updated_at)
        VALUES (o.name, o.version, o.status, o.config_json, o.error_message, o.created_at, o.updated_at) RETURNING module_registry.id INTO id;
    END IF;
    INSERT INTO hitherto.legacy_import_module VALUES (source, o.id, id) ON CONFLICT ON CONSTRAINT legacy_import_module_pkey DO NOTHING;
    -- The old table has no rows of its executions: their count and sum is all that there is.
    IF o.execution_count > 0 THEN
        INSERT INTO hitherto.legacy_execution_base AS b
        VALUES (id, source, o.execution_count, o.execution_count * coalesce(o.avg_execution_time_ms, 0), legacy.utc(o.last_execution, 'module_registry.last_execution'))
        ON CONFLICT ON CONSTRAINT legacy_execution_base_pkey DO UPDATE
            SET execution_count = excluded.execution_count, total_ms = excluded.total_ms, last_execution = excluded.last_execution;
    END IF;
END
$$;
COMMENT ON FUNCTION legacy.import_module(text, json) IS 'Takes over an old module and what it had counted; one that is known by its name stays as it is';

CREATE OR REPLACE FUNCTION legacy.import_health_checks(source text, rows json)
RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    batch uuid := gen_random_uuid();
    lo timestamptz;
    hi timestamptz;
    n bigint;
BEGIN
    WITH stored AS (
        INSERT INTO hitherto.health_check (checked_at, module_id, status, response_time_ms, error_count, memory_usage_mb, cpu_usage_percent, details, batch_id)
        SELECT legacy.utc(o.created_at, 'module_health_checks.created_at'), m.module_id, o.status, o.response_time_ms, coalesce(o.error_count, 0), o.memory_usage_mb,
               o.cpu_usage_percent, legacy.document(o.details_json, 'module_health_checks.details_json'), batch
        FROM json_populate_recordset(NULL::legacy.module_health_checks, rows) o
        LEFT JOIN hitherto.legacy_import_module m ON m.source = import_health_checks.source AND m.old_id = o.module_id
        RETURNING checked_at
    )
    SELECT min(checked_at), max(checked_at), count(*) INTO lo, hi, n FROM stored;
    PERFORM hitherto.ledger_add(batch, 'import-legacy', 'health_check',
                                (SELECT array_agg(hitherto.canonical_row(h)) FROM hitherto.health_check h WHERE h.batch_id = batch AND h.checked_at BETWEEN lo AND hi), lo, hi);
    RETURN n;
END
$$;
COMMENT ON FUNCTION legacy.import_health_checks(text, json) IS 'Stores old health checks as one batch, all or none';

CREATE OR REPLACE FUNCTION legacy.import_row(source text, table_name text, old json)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    CASE table_name
    WHEN 'module_registry' THEN
        PERFORM legacy.import_module(source, old);
    WHEN 'module_health_checks' THEN
        IF NOT EXISTS (SELECT FROM hitherto.legacy_import_module m WHERE m.source = import_row.source AND m.old_id = (old ->> 'module_id')::bigint) THEN
            RAISE EXCEPTION 'module_health_checks.module_id: %', coalesce(
                    (SELECT format('its module %s was refused; why is in hitherto.quarantine, where table_name is module_registry', r.old_id)
                     FROM hitherto.legacy_import i JOIN hitherto.legacy_import_row r USING (import_id)
                     WHERE i.source = import_row.source AND i.table_name = 'module_registry' AND r.old_id = (old ->> 'module_id')::bigint),
                    format('the old module_registry has no module %s', coalesce(old ->> 'module_id', 'NULL')))
                USING ERRCODE = 'foreign_key_violation';
        END IF;
        PERFORM legacy.import_health_checks(source, json_build_array(old));
    WHEN 'risk_evaluations' THEN
        INSERT INTO legacy.risk_evaluations (proposal_id, risk_level, var_99, expected_shortfall, max_drawdown, sharpe_ratio, verdict, flags_json,
                                             recommendations_json, evaluation_method, model_version, created_at)
        SELECT o.proposal_id, o.risk_level, o.var_99, o.expected_shortfall, o.max_drawdown, o.sharpe_ratio, o.verdict, o.flags_json,
               o.recommendations_json, o.evaluation_method, o.model_version, o.created_at
        FROM json_populate_record(NULL::legacy.risk_evaluations, old) o;
    WHEN 'execution_reports' THEN
        INSERT INTO legacy.execution_reports (proposal_id, order_id, asset, side, quantity, order_type, status, filled_quantity, average_fill_price, total_commission,
                                              submitted_at, filled_at, broker_name, execution_metadata, execution_summary, created_at)
        SELECT o.proposal_id, o.order_id, o.asset, o.side, o.quantity, o.order_type, o.status, o.filled_quantity, o.average_fill_price, o.total_commission,
               o.submitted_at, o.filled_at, o.broker_name, o.execution_metadata, o.execution_summary, o.created_at
        FROM json_populate_record(NULL::legacy.execution_reports, old) o;
    WHEN 'portfolio_snapshots' THEN
        INSERT INTO legacy.portfolio_snapshots (positions_json, cash_balance, total_value, portfolio_var, portfolio_volatility, max_position_concentration,
                                                correlation_risk, snapshot_reason, market_hours, created_at)
        SELECT o.positions_json, o.cash_balance, o.total_value, o.portfolio_var, o.portfolio_volatility, o.max_position_concentration,
               o.correlation_risk, o.snapshot_reason, o.market_hours, o.created_at
        FROM json_populate_record(NULL::legacy.portfolio_snapshots, old) o;
    WHEN 'regime_states' THEN
        PERFORM legacy.import_regime(source, old);
    END CASE;
END
$$;
COMMENT ON FUNCTION legacy.import_row(text, text, json) IS 'Stores one old row under the rules of this store';

CREATE OR REPLACE FUNCTION legacy.import_regime_end(old json)
RETURNS timestamptz LANGUAGE sql STABLE AS $$
    -- Whatever end was planned for it: it is not in force any more.
    SELECT least(coalesce(least((old ->> 'effective_until')::timestamp, (old ->> 'next_from')::timestamp), (old ->> 'updated_at')::timestamp) AT TIME ZONE 'UTC',
                 clock_timestamp())
$$;
COMMENT ON FUNCTION legacy.import_regime_end(json) IS 'When an old regime that is not in force any more ended: by its own end, the next one''s beginning or its last change';

CREATE OR REPLACE FUNCTION legacy.import_regimes_ended(source text, rows json)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    step_before text := current_setting('hitherto.regime_step', true);
BEGIN
    PERFORM set_config('hitherto.regime_step', 'on', true);
    PERFORM pg_advisory_xact_lock(hashtext('hitherto.regime_state'));
    UPDATE hitherto.regime_state r SET status = 'superseded', effective_until = greatest(r.effective_from, legacy.import_regime_end(e.old))
    FROM json_array_elements(rows) AS e (old) JOIN hitherto.legacy_import_regime m ON m.old_id = (e.old ->> 'id')::bigint
    WHERE m.source = import_regimes_ended.source AND r.regime_id = m.regime_id AND r.status = 'active' AND NOT (e.old ->> 'newest')::boolean;
    PERFORM set_config('hitherto.regime_step', coalesce(step_before, ''), true);
END
$$;
COMMENT ON FUNCTION legacy.import_regimes_ended(text, json) IS 'Ends the regime that was active when it was copied and has ended since in the old database';

-- The command adds to each regime whether it was in force, since when, until where the next one begins, and
-- whether it is the newest active one: the old table let several be active, and only that one still is.
CREATE OR REPLACE FUNCTION legacy.import_regime(source text, old json)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    o legacy.regime_states := json_populate_record(NULL::legacy.regime_states, old);
    in_force boolean := (old ->> 'newest')::boolean;
    since timestamptz := CASE WHEN (old ->> 'period')::boolean THEN legacy.utc((old ->> 'starts')::timestamp, 'regime_states.effective_from') END;
    until timestamptz;
    decider text := coalesce(nullif(btrim(o.classified_by), ''), 'legacy');
    id text := gen_random_uuid();
    step_before text := current_setting('hitherto.regime_step', true);
BEGIN
    PERFORM set_config('hitherto.regime_step', 'on', true);
    PERFORM pg_advisory_xact_lock(hashtext('hitherto.regime_state'));
    until := CASE WHEN since IS NOT NULL AND NOT in_force THEN greatest(since, legacy.import_regime_end(old)) END;
    IF in_force AND EXISTS (SELECT FROM hitherto.regime_state r WHERE greatest(r.effective_from, r.effective_until) > since) THEN
        RAISE EXCEPTION 'regime_states: this store has a regime that was in force after %', since USING ERRCODE = 'exclusion_violation';
    END IF;
    INSERT INTO hitherto.regime_state
        (regime_id, legacy, regime, confidence, method, classified_by, reasoning, notes, context, requires_confirmation, confirmed, proposed_at,
         status, decided_at, decided_by, effective_from, effective_until)
    VALUES (id, true, legacy.word(o.regime_type, 'regime_states.regime_type', 'bull', 'bear', 'sideways', 'high_vol', 'low_vol', 'crisis', 'recovery', 'unknown'),
            o.confidence, o.classification_method, decider, o.reasoning, o.notes, legacy.document(o.context_json, 'regime_states.context_json'),
            coalesce(o.requires_confirmation, false), coalesce(o.confirmed_by_human, false), coalesce(legacy.utc(o.created_at, 'regime_states.created_at'), since, now()),
            CASE WHEN since IS NULL THEN 'expired' WHEN in_force THEN 'proposed' ELSE 'superseded' END,
            CASE WHEN until IS NOT NULL THEN since END, CASE WHEN until IS NOT NULL THEN decider END, CASE WHEN until IS NOT NULL THEN since END, until);
    IF in_force THEN
        PERFORM hitherto.regime_put_in_force(id, decider, since);
    END IF;
    INSERT INTO hitherto.legacy_import_regime VALUES (source, o.id, id);
    PERFORM set_config('hitherto.regime_step', coalesce(step_before, ''), true);
END
$$;
COMMENT ON FUNCTION legacy.import_regime(text, json) IS 'Stores an old regime as history, or puts it in force if it is the newest active one; one that was never in force is expired';

CREATE OR REPLACE FUNCTION legacy.import_missing(source text, of_table text, ids bigint[])
RETURNS bigint[] LANGUAGE sql STABLE AS $$
    SELECT ARRAY(SELECT n.id FROM unnest(ids) AS n (id)
                 WHERE NOT EXISTS (SELECT FROM hitherto.legacy_import_row r
                                   WHERE r.import_id = (SELECT i.import_id FROM hitherto.legacy_import i WHERE i.source = import_missing.source AND i.table_name = of_table)
                                     AND r.old_id = n.id AND NOT r.refused)
                 ORDER BY n.id)
$$;
COMMENT ON FUNCTION legacy.import_missing(text, text, bigint[]) IS 'Which of these old rows are not stored yet';

CREATE OR REPLACE FUNCTION legacy.import(source text, of_table text, rows json)
RETURNS TABLE (stored bigint, refused bigint) LANGUAGE plpgsql AS $$
DECLARE
    old json;
    import integer;
BEGIN
    stored := 0;
    refused := 0;
    -- One import of a table at a time, and what another has stored meanwhile is not stored again.
    INSERT INTO hitherto.legacy_import AS i (source, table_name) VALUES (source, of_table)
    ON CONFLICT ON CONSTRAINT legacy_import_source_table_name_unique DO UPDATE SET imported_at = clock_timestamp()
    RETURNING i.import_id INTO import;
    IF of_table = 'regime_states' THEN
        PERFORM legacy.import_regimes_ended(source, rows);
    END IF;
    -- Modules come anew and whole each time: what they have counted meanwhile is taken over, too.
    IF of_table <> 'module_registry' THEN
        rows := (SELECT coalesce(json_agg(e.r ORDER BY e.n), '[]') FROM json_array_elements(rows) WITH ORDINALITY AS e (r, n)
                 WHERE NOT EXISTS (SELECT FROM hitherto.legacy_import_row k WHERE k.import_id = import AND k.old_id = (e.r ->> 'id')::bigint AND NOT k.refused));
    END IF;
    BEGIN
        IF of_table = 'module_health_checks' AND json_array_length(rows) > 0 THEN
            stored := legacy.import_health_checks(source, rows);
            INSERT INTO hitherto.legacy_import_row AS k SELECT import, (r ->> 'id')::bigint, false FROM json_array_elements(rows) r
            ON CONFLICT ON CONSTRAINT legacy_import_row_pkey DO UPDATE SET refused = false;
            rows := '[]';
        END IF;
    EXCEPTION WHEN data_exception OR integrity_constraint_violation THEN
        -- One of them breaks a rule: one by one, then.
        stored := 0;
    END;
    FOR old IN SELECT e.r FROM json_array_elements(rows) WITH ORDINALITY AS e (r, n) ORDER BY e.n LOOP
        BEGIN
            PERFORM legacy.import_row(source, of_table, old);
            INSERT INTO hitherto.legacy_import_row VALUES (import, (old ->> 'id')::bigint, false)
            ON CONFLICT ON CONSTRAINT legacy_import_row_pkey DO UPDATE SET refused = false;
            stored := stored + 1;
        EXCEPTION WHEN data_exception OR integrity_constraint_violation OR object_not_in_prerequisite_state THEN
            PERFORM legacy.import_refused(source, of_table, old, SQLSTATE, SQLERRM);
            INSERT INTO hitherto.legacy_import_row VALUES (import, (old ->> 'id')::bigint, true) ON CONFLICT ON CONSTRAINT legacy_import_row_pkey DO NOTHING;
            refused := refused + 1;
        END;
    END LOOP;
    RETURN NEXT;
END
$$;
COMMENT ON FUNCTION legacy.import(text, text, json) IS 'Stores rows of an old table and notes which, in one transaction; rows that break a rule go to quarantine';

-- One module's last words: module_silence, module_stats.
CREATE INDEX risk_evaluation_module_id_evaluated_at_idx ON hitherto.risk_evaluation (module_id, evaluated_at DESC);
CREATE INDEX proposal_module_id_proposed_at_idx ON hitherto.proposal (module_id, proposed_at DESC);

-- Each table's index holds one module's rows in time: five short looks, however large the tables are.
CREATE FUNCTION hitherto.module_heard(module_id bigint, before timestamptz)
RETURNS timestamptz LANGUAGE sql STABLE AS $$
    SELECT greatest(
        (SELECT e.started_at FROM hitherto.module_execution e
         WHERE e.module_id = module_heard.module_id AND e.started_at < before ORDER BY e.started_at DESC LIMIT 1),
        (SELECT h.checked_at FROM hitherto.health_check h
         WHERE h.module_id = module_heard.module_id AND h.checked_at < before ORDER BY h.checked_at DESC LIMIT 1),
        (SELECT s.emitted_at FROM hitherto.signal s
         WHERE s.module_id = module_heard.module_id AND s.emitted_at < before ORDER BY s.emitted_at DESC LIMIT 1),
        (SELECT p.proposed_at FROM hitherto.proposal p
         WHERE p.module_id = module_heard.module_id AND p.proposed_at < before ORDER BY p.proposed_at DESC LIMIT 1),
        (SELECT r.evaluated_at FROM hitherto.risk_evaluation r
         WHERE r.module_id = module_heard.module_id AND r.evaluated_at < before ORDER BY r.evaluated_at DESC LIMIT 1))
$$;
COMMENT ON FUNCTION hitherto.module_heard(bigint, timestamptz) IS
    'When a module last said anything before a time: execution, health check, signal, proposal or risk evaluation; NULL: never';

CREATE FUNCTION hitherto.silent_after()
RETURNS double precision LANGUAGE sql STABLE AS $$
    SELECT coalesce(nullif(current_setting('hitherto.silent_after', true), ''), '5')::double precision
$$;
COMMENT ON FUNCTION hitherto.silent_after() IS
    'After how many of its own usual intervals a module counts as silent: the setting hitherto.silent_after (ALTER DATABASE ... SET), 5 unless set';

CREATE PROCEDURE hitherto.regime_expire_job(job_id integer, config jsonb)
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM hitherto.regime_expire();
END
$$;
COMMENT ON PROCEDURE hitherto.regime_expire_job(integer, jsonb) IS 'regime_expire as a background job';
SELECT add_job('hitherto.regime_expire_job', INTERVAL '1 minute', fixed_schedule => false);

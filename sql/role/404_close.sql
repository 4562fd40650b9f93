-- By whoever migrates, not by the schema's owner: it takes a superuser.
DO $$
DECLARE
    step text;
BEGIN
    FOR step IN SELECT o.statement FROM hitherto.role_open() o ORDER BY o.statement LOOP
        BEGIN
            EXECUTE step;
        EXCEPTION WHEN insufficient_privilege THEN
            -- The extension belongs to a superuser: hitherto doctor says what is left to do.
        END;
    END LOOP;
END
$$;

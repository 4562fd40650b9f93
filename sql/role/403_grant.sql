DO $$
DECLARE
    step text;
BEGIN
    -- Taking a privilege from a table takes it from the columns, too: what is granted by column comes back in a second round.
    FOR round IN 1..2 LOOP
        FOR step IN SELECT d.statement FROM hitherto.role_difference() d LOOP
            EXECUTE step;
        END LOOP;
    END LOOP;
END
$$;

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

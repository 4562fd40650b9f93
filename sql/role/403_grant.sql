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

CREATE FUNCTION hitherto.aggregate_watermark(view_name text)
RETURNS timestamptz LANGUAGE sql STABLE AS $$ SELECT NULL::timestamptz $$;
COMMENT ON FUNCTION hitherto.aggregate_watermark(text) IS 'NULL: nothing is materialised, every row is aggregated when read';

CREATE FUNCTION hitherto.aggregate_touched(view_name text)
RETURNS TABLE (touched_from timestamptz, touched_until timestamptz) LANGUAGE sql STABLE AS $$ SELECT NULL::timestamptz, NULL::timestamptz WHERE false $$;
COMMENT ON FUNCTION hitherto.aggregate_touched(text) IS 'Empty: views computed when read are never stale';

CREATE PROCEDURE hitherto.aggregate_refresh(view_name text DEFAULT NULL)
LANGUAGE plpgsql AS $$ BEGIN NULL; END $$;
COMMENT ON PROCEDURE hitherto.aggregate_refresh(text) IS 'Does nothing: views computed when read need no refresh';

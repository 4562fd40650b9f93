CREATE TABLE hitherto.module (
    module_id      bigint           GENERATED ALWAYS AS IDENTITY CONSTRAINT module_pkey PRIMARY KEY,
    name           text COLLATE "C" NOT NULL CONSTRAINT module_name_unique UNIQUE
                                    CONSTRAINT module_name_length CHECK (length(btrim(name)) BETWEEN 1 AND 200),
    version        text             NOT NULL DEFAULT 'unknown',
    status         text             NOT NULL DEFAULT 'active'
                                    CONSTRAINT module_status_word CHECK (status IN ('active', 'inactive', 'error', 'maintenance')),
    config         jsonb,
    error_message  text,
    registered_at  timestamptz      NOT NULL DEFAULT now(),
    updated_at     timestamptz      NOT NULL DEFAULT now()
);
COMMENT ON TABLE hitherto.module IS 'The platform''s modules: whoever writes records';
COMMENT ON COLUMN hitherto.module.module_id IS 'Number that other tables refer to';
COMMENT ON COLUMN hitherto.module.name IS 'Name, unique, as the module calls itself';
COMMENT ON COLUMN hitherto.module.version IS 'Version that the module last registered with; unknown if it only wrote';
COMMENT ON COLUMN hitherto.module.status IS 'active, inactive, error or maintenance';
COMMENT ON COLUMN hitherto.module.config IS 'Settings that the module registered with';
COMMENT ON COLUMN hitherto.module.error_message IS 'Why its status is error';
COMMENT ON COLUMN hitherto.module.registered_at IS 'When it was first heard of';
COMMENT ON COLUMN hitherto.module.updated_at IS 'When this row last changed';

-- A writer may name a module that nobody registered. The first SELECT keeps the usual case free of
-- writes: ON CONFLICT would burn an identity value for every call.
CREATE FUNCTION hitherto.module_ensure(names text[])
RETURNS TABLE (name text, module_id bigint)
LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_column
BEGIN
    INSERT INTO hitherto.module (name)
    SELECT DISTINCT n FROM unnest(names) AS n
    WHERE NOT EXISTS (SELECT FROM hitherto.module m WHERE m.name = n)
    ORDER BY n
    ON CONFLICT (name) DO NOTHING;
    RETURN QUERY SELECT m.name::text, m.module_id FROM hitherto.module m WHERE m.name = ANY (names);
END
$$;
COMMENT ON FUNCTION hitherto.module_ensure(text[]) IS 'Ids of these modules; the ones that are not registered yet are, with version unknown';

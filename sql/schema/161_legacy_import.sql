CREATE TABLE hitherto.legacy_import (
    import_id    integer     NOT NULL GENERATED ALWAYS AS IDENTITY CONSTRAINT legacy_import_pkey PRIMARY KEY,
    source       text        NOT NULL,
    table_name   text        NOT NULL,
    imported_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT legacy_import_source_table_name_unique UNIQUE (source, table_name)
);
COMMENT ON TABLE hitherto.legacy_import IS 'The tables that hitherto import-legacy has copied, of each old database';
COMMENT ON COLUMN hitherto.legacy_import.import_id IS 'Names source and table in legacy_import_row';
COMMENT ON COLUMN hitherto.legacy_import.source IS 'The old database, by its server''s own identity, its name and schema';
COMMENT ON COLUMN hitherto.legacy_import.table_name IS 'Its table';
COMMENT ON COLUMN hitherto.legacy_import.imported_at IS 'When rows were last copied';

-- Not how far it came: a row with a low id may be committed after one with a higher id.
CREATE TABLE hitherto.legacy_import_row (
    import_id  integer NOT NULL CONSTRAINT legacy_import_row_import_id_fkey REFERENCES hitherto.legacy_import,
    old_id     bigint  NOT NULL,
    refused    boolean NOT NULL,
    CONSTRAINT legacy_import_row_pkey PRIMARY KEY (import_id, old_id)
);
COMMENT ON TABLE hitherto.legacy_import_row IS 'Every row of an old table that has been taken care of; written with what it became';
COMMENT ON COLUMN hitherto.legacy_import_row.import_id IS 'The old table';
COMMENT ON COLUMN hitherto.legacy_import_row.old_id IS 'The row''s id there';
COMMENT ON COLUMN hitherto.legacy_import_row.refused IS 'It broke a rule: it is in hitherto.quarantine, with the reason, and is tried again by the next run';

CREATE TABLE hitherto.legacy_import_module (
    source     text   NOT NULL,
    old_id     bigint NOT NULL,
    module_id  bigint NOT NULL CONSTRAINT legacy_import_module_module_id_fkey REFERENCES hitherto.module,
    CONSTRAINT legacy_import_module_pkey PRIMARY KEY (source, old_id)
);
COMMENT ON TABLE hitherto.legacy_import_module IS 'Which module each row of an old module_registry is here: they are matched by name';
COMMENT ON COLUMN hitherto.legacy_import_module.source IS 'The old database, as in legacy_import';
COMMENT ON COLUMN hitherto.legacy_import_module.old_id IS 'Its module_registry.id';
COMMENT ON COLUMN hitherto.legacy_import_module.module_id IS 'The module here';

CREATE TABLE hitherto.legacy_import_regime (
    source     text             NOT NULL,
    old_id     bigint           NOT NULL,
    regime_id  text COLLATE "C" NOT NULL,
    CONSTRAINT legacy_import_regime_pkey PRIMARY KEY (source, old_id)
);
COMMENT ON TABLE hitherto.legacy_import_regime IS 'Which regime each row of an old regime_states is here: one that was active when it was copied ends when it has ended there';
COMMENT ON COLUMN hitherto.legacy_import_regime.source IS 'The old database, as in legacy_import';
COMMENT ON COLUMN hitherto.legacy_import_regime.old_id IS 'Its regime_states.id';
COMMENT ON COLUMN hitherto.legacy_import_regime.regime_id IS 'The regime here';

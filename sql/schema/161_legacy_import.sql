CREATE TABLE hitherto.legacy_import (
    source       text        NOT NULL,
    table_name   text        NOT NULL,
    upto_id      bigint      NOT NULL,
    stored       bigint      NOT NULL DEFAULT 0,
    refused      bigint      NOT NULL DEFAULT 0,
    imported_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT legacy_import_pkey PRIMARY KEY (source, table_name)
);
COMMENT ON TABLE hitherto.legacy_import IS 'How far hitherto import-legacy has copied each table of each old database; written with the rows';
COMMENT ON COLUMN hitherto.legacy_import.source IS 'The old database, by its server''s own identity, its name and schema';
COMMENT ON COLUMN hitherto.legacy_import.table_name IS 'Its table';
COMMENT ON COLUMN hitherto.legacy_import.upto_id IS 'Rows with this id or a lower one have been taken care of';
COMMENT ON COLUMN hitherto.legacy_import.stored IS 'Rows stored so far';
COMMENT ON COLUMN hitherto.legacy_import.refused IS 'Rows refused so far: they are in hitherto.quarantine, with the reason';
COMMENT ON COLUMN hitherto.legacy_import.imported_at IS 'When rows were last copied';

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

CREATE SCHEMA hitherto;
COMMENT ON SCHEMA hitherto IS 'Hitherto store: what a trading platform''s modules did, when, and how it went';

CREATE TABLE hitherto.schema_migration (
    version     integer     NOT NULL CONSTRAINT schema_migration_pkey PRIMARY KEY,
    name        text        NOT NULL,
    checksum    text        NOT NULL,
    applied_at  timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE hitherto.schema_migration IS 'Which migrations this database has; written by hitherto migrate alone';
COMMENT ON COLUMN hitherto.schema_migration.version IS 'Number at the head of the file''s name; unique over sql/schema and the engine''s folder';
COMMENT ON COLUMN hitherto.schema_migration.name IS 'Folder and file, without .sql';
COMMENT ON COLUMN hitherto.schema_migration.checksum IS 'SHA-256 of the file as it was applied, in hex';
COMMENT ON COLUMN hitherto.schema_migration.applied_at IS 'When it was applied';

-- A block holds the hash of the block before it, so that nobody can change an old one without changing all
-- that follow; whoever has noted the last one's hash elsewhere sees that too. docs/audit.md has the scheme.
CREATE TABLE hitherto.audit_block (
    block_number   bigint      NOT NULL CONSTRAINT audit_block_pkey PRIMARY KEY
                               CONSTRAINT audit_block_block_number_positive CHECK (block_number > 0),
    sealed_at      timestamptz NOT NULL,
    entry_count    bigint      NOT NULL CONSTRAINT audit_block_entry_count_not_negative CHECK (entry_count >= 0),
    retention      jsonb       NOT NULL,
    previous_hash  bytea       NOT NULL CONSTRAINT audit_block_previous_hash_length CHECK (octet_length(previous_hash) = 32),
    hash           bytea       NOT NULL CONSTRAINT audit_block_hash_length CHECK (octet_length(hash) = 32)
);
COMMENT ON TABLE hitherto.audit_block IS 'The chain of the audit: written by hitherto audit seal, checked by hitherto audit verify';
COMMENT ON COLUMN hitherto.audit_block.block_number IS '1, 2, 3, ... without gaps';
COMMENT ON COLUMN hitherto.audit_block.sealed_at IS 'When it was sealed';
COMMENT ON COLUMN hitherto.audit_block.entry_count IS 'Entries sealed in it (audit_entry)';
COMMENT ON COLUMN hitherto.audit_block.retention IS
    'What retention was set to and had noted then: table -> drop_after (interval), dropped_before (time)';
COMMENT ON COLUMN hitherto.audit_block.previous_hash IS 'hash of the block before; 32 zero bytes in the first';
COMMENT ON COLUMN hitherto.audit_block.hash IS 'SHA-256 of everything above and of every entry''s source, key and hash, in their order';

CREATE TABLE hitherto.audit_entry (
    source        text COLLATE "C" NOT NULL,
    key           text COLLATE "C" NOT NULL,
    block_number  bigint           NOT NULL CONSTRAINT audit_entry_block_number_fkey REFERENCES hitherto.audit_block,
    hash          bytea            NOT NULL CONSTRAINT audit_entry_hash_length CHECK (octet_length(hash) = 32),
    CONSTRAINT audit_entry_pkey PRIMARY KEY (source, key)
);
-- A block's entries, in the order in which its hash takes them in.
CREATE INDEX audit_entry_block_number_idx ON hitherto.audit_entry (block_number, source, key);
COMMENT ON TABLE hitherto.audit_entry IS 'What is sealed, and in which block: ledger lines and other rows that are never changed';
COMMENT ON COLUMN hitherto.audit_entry.source IS 'Table of the row: ingest_batch, quarantine, ...';
COMMENT ON COLUMN hitherto.audit_entry.key IS 'The row''s key, as text';
COMMENT ON COLUMN hitherto.audit_entry.block_number IS 'Block that it is sealed in';
COMMENT ON COLUMN hitherto.audit_entry.hash IS 'SHA-256 of the row, as the tuple of a binary COPY';

SELECT hitherto.append_only_set('audit_block');
SELECT hitherto.append_only_set('audit_entry');

-- What retention was allowed to drop, and when: settings alone tell it no more once they were changed.
CREATE TABLE hitherto.retention_event (
    event_number  bigint GENERATED ALWAYS AS IDENTITY CONSTRAINT retention_event_pkey PRIMARY KEY,
    table_name    text        NOT NULL,
    drop_after    interval,
    event_at      timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE hitherto.retention_event IS 'Every change of how long rows are kept; written by a trigger, sealed with the ledger';
COMMENT ON COLUMN hitherto.retention_event.event_number IS 'In the order of the changes';
COMMENT ON COLUMN hitherto.retention_event.table_name IS 'Table whose policy was changed';
COMMENT ON COLUMN hitherto.retention_event.drop_after IS 'Age at which its rows go since; NULL: never';
COMMENT ON COLUMN hitherto.retention_event.event_at IS 'When it was changed';

CREATE FUNCTION hitherto.retention_note()
RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    -- Of a line that is deleted there is no NEW: its rows are kept for ever.
    INSERT INTO hitherto.retention_event (table_name, drop_after) VALUES (coalesce(NEW.table_name, OLD.table_name), NEW.drop_after);
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION hitherto.retention_note() IS 'Trigger of the table of policies: notes in retention_event how long rows are kept from now on';
CREATE TRIGGER retention_policy_note_insert AFTER INSERT ON hitherto.retention_policy
    FOR EACH ROW WHEN (NEW.drop_after IS NOT NULL) EXECUTE FUNCTION hitherto.retention_note();
CREATE TRIGGER retention_policy_note_update AFTER UPDATE ON hitherto.retention_policy
    FOR EACH ROW WHEN (OLD.drop_after IS DISTINCT FROM NEW.drop_after) EXECUTE FUNCTION hitherto.retention_note();
CREATE TRIGGER retention_policy_note_delete AFTER DELETE ON hitherto.retention_policy
    FOR EACH ROW EXECUTE FUNCTION hitherto.retention_note();

SELECT hitherto.append_only_set('retention_event');

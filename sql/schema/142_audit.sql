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

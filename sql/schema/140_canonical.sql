-- What a row's bytes are for the audit, the same wherever they are computed: here, in the writer, in the
-- verifier. A row is its record's fields in the record's order, as a binary COPY has them: int2 count, then
-- int4 length (-1 for NULL) and bytes for each; jsonb as the server prints it. batch_id, recorded_at and
-- whatever columns come later are not in it.
ALTER TABLE hitherto.ingest_batch
    ADD COLUMN digest_form smallint NOT NULL DEFAULT 1 CONSTRAINT ingest_batch_digest_form_known CHECK (digest_form IN (1, 2)),
    ADD COLUMN rows_digest bytea CONSTRAINT ingest_batch_rows_digest_length CHECK (octet_length(rows_digest) = 32);
-- The lines so far are of form 1, those to come of form 2.
ALTER TABLE hitherto.ingest_batch ALTER COLUMN digest_form SET DEFAULT 2;
COMMENT ON COLUMN hitherto.ingest_batch.digest_form IS
    'What digest is the SHA-256 of: 1 the body of the batch''s COPY as it was sent; 2 the SHA-256 digests of its rows'' canonical bytes (canonical_row), sorted and joined';
COMMENT ON COLUMN hitherto.ingest_batch.rows_digest IS
    'As digest in form 2, of the rows that were stored under this batch; NULL when that was all of them, so that digest holds for them';

COMMENT ON COLUMN hitherto.ingest_batch.min_time IS
    'Earliest time of the rows that were stored (digest_form 1: of the batch''s rows); NULL when none was and for a table without a time';
COMMENT ON COLUMN hitherto.ingest_batch.max_time IS
    'Latest time of the rows that were stored (digest_form 1: of the batch''s rows), itself included; NULL when none was and for a table without a time';

CREATE FUNCTION hitherto.canonical_field(field bytea)
RETURNS bytea LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT coalesce(int4send(octet_length(field)) || field, '\xffffffff'::bytea)
$$;
COMMENT ON FUNCTION hitherto.canonical_field(bytea) IS 'One field of canonical_row: its length and its bytes; -1 for NULL';

CREATE FUNCTION hitherto.canonical_row(r hitherto.module_execution)
RETURNS bytea LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT int2send(7::smallint) || hitherto.canonical_field(timestamptz_send(r.started_at))
           || hitherto.canonical_field(int8send(r.module_id)) || hitherto.canonical_field(convert_to(r.execution_id, 'UTF8'))
           || hitherto.canonical_field(float8send(r.duration_ms)) || hitherto.canonical_field(boolsend(r.success))
           || hitherto.canonical_field(convert_to(r.error_message, 'UTF8')) || hitherto.canonical_field(convert_to(r.details::text, 'UTF8'))
$$;
COMMENT ON FUNCTION hitherto.canonical_row(hitherto.module_execution) IS 'Canonical bytes of a row of module_execution, of which the ledger holds a digest';

CREATE FUNCTION hitherto.canonical_row(r hitherto.health_check)
RETURNS bytea LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT int2send(8::smallint) || hitherto.canonical_field(timestamptz_send(r.checked_at))
           || hitherto.canonical_field(int8send(r.module_id)) || hitherto.canonical_field(convert_to(r.status, 'UTF8'))
           || hitherto.canonical_field(float8send(r.response_time_ms)) || hitherto.canonical_field(int4send(r.error_count))
           || hitherto.canonical_field(float8send(r.memory_usage_mb)) || hitherto.canonical_field(float8send(r.cpu_usage_percent))
           || hitherto.canonical_field(convert_to(r.details::text, 'UTF8'))
$$;
COMMENT ON FUNCTION hitherto.canonical_row(hitherto.health_check) IS 'Canonical bytes of a row of health_check, of which the ledger holds a digest';

CREATE FUNCTION hitherto.canonical_row(r hitherto.signal)
RETURNS bytea LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT int2send(8::smallint) || hitherto.canonical_field(timestamptz_send(r.emitted_at))
           || hitherto.canonical_field(int8send(r.module_id)) || hitherto.canonical_field(convert_to(r.signal_id, 'UTF8'))
           || hitherto.canonical_field(convert_to(r.kind, 'UTF8')) || hitherto.canonical_field(convert_to(r.asset, 'UTF8'))
           || hitherto.canonical_field(float8send(r.score)) || hitherto.canonical_field(float8send(r.confidence))
           || hitherto.canonical_field(convert_to(r.payload::text, 'UTF8'))
$$;
COMMENT ON FUNCTION hitherto.canonical_row(hitherto.signal) IS 'Canonical bytes of a row of signal, of which the ledger holds a digest';

CREATE FUNCTION hitherto.canonical_row(r hitherto.proposal)
RETURNS bytea LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT int2send(5::smallint) || hitherto.canonical_field(convert_to(r.proposal_id, 'UTF8'))
           || hitherto.canonical_field(int8send(r.module_id)) || hitherto.canonical_field(timestamptz_send(r.proposed_at))
           || hitherto.canonical_field(convert_to(r.asset, 'UTF8')) || hitherto.canonical_field(convert_to(r.payload::text, 'UTF8'))
$$;
COMMENT ON FUNCTION hitherto.canonical_row(hitherto.proposal) IS 'Canonical bytes of a row of proposal, of which the ledger holds a digest';

CREATE FUNCTION hitherto.canonical_row(r hitherto.risk_evaluation)
RETURNS bytea LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT int2send(14::smallint) || hitherto.canonical_field(timestamptz_send(r.evaluated_at))
           || hitherto.canonical_field(convert_to(r.evaluation_id, 'UTF8')) || hitherto.canonical_field(convert_to(r.proposal_id, 'UTF8'))
           || hitherto.canonical_field(int8send(r.module_id)) || hitherto.canonical_field(convert_to(r.risk_level, 'UTF8'))
           || hitherto.canonical_field(convert_to(r.verdict, 'UTF8')) || hitherto.canonical_field(float8send(r.var_99))
           || hitherto.canonical_field(float8send(r.expected_shortfall)) || hitherto.canonical_field(float8send(r.max_drawdown))
           || hitherto.canonical_field(float8send(r.sharpe_ratio)) || hitherto.canonical_field(convert_to(r.flags::text, 'UTF8'))
           || hitherto.canonical_field(convert_to(r.recommendations::text, 'UTF8')) || hitherto.canonical_field(convert_to(r.method, 'UTF8'))
           || hitherto.canonical_field(convert_to(r.model_version, 'UTF8'))
$$;
COMMENT ON FUNCTION hitherto.canonical_row(hitherto.risk_evaluation) IS 'Canonical bytes of a row of risk_evaluation, of which the ledger holds a digest';

CREATE FUNCTION hitherto.canonical_row(r hitherto.order_event)
RETURNS bytea LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT int2send(18::smallint) || hitherto.canonical_field(timestamptz_send(r.event_at))
           || hitherto.canonical_field(convert_to(r.order_id, 'UTF8')) || hitherto.canonical_field(convert_to(r.event_id, 'UTF8'))
           || hitherto.canonical_field(int8send(r.sequence)) || hitherto.canonical_field(convert_to(r.proposal_id, 'UTF8'))
           || hitherto.canonical_field(convert_to(r.event_type, 'UTF8')) || hitherto.canonical_field(convert_to(r.asset, 'UTF8'))
           || hitherto.canonical_field(convert_to(r.side, 'UTF8')) || hitherto.canonical_field(convert_to(r.order_type, 'UTF8'))
           || hitherto.canonical_field(numeric_send(r.quantity)) || hitherto.canonical_field(numeric_send(r.price))
           || hitherto.canonical_field(numeric_send(r.last_quantity)) || hitherto.canonical_field(numeric_send(r.last_price))
           || hitherto.canonical_field(numeric_send(r.commission)) || hitherto.canonical_field(convert_to(r.broker, 'UTF8'))
           || hitherto.canonical_field(convert_to(r.reason, 'UTF8')) || hitherto.canonical_field(convert_to(r.ref_event_id, 'UTF8'))
           || hitherto.canonical_field(convert_to(r.details::text, 'UTF8'))
$$;
COMMENT ON FUNCTION hitherto.canonical_row(hitherto.order_event) IS 'Canonical bytes of a row of order_event, of which the ledger holds a digest';

CREATE FUNCTION hitherto.canonical_row(r hitherto.portfolio_snapshot)
RETURNS bytea LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT int2send(11::smallint) || hitherto.canonical_field(timestamptz_send(r.taken_at))
           || hitherto.canonical_field(convert_to(r.snapshot_id, 'UTF8')) || hitherto.canonical_field(convert_to(r.positions::text, 'UTF8'))
           || hitherto.canonical_field(numeric_send(r.cash_balance)) || hitherto.canonical_field(numeric_send(r.total_value))
           || hitherto.canonical_field(float8send(r.portfolio_var)) || hitherto.canonical_field(float8send(r.portfolio_volatility))
           || hitherto.canonical_field(float8send(r.max_position_concentration)) || hitherto.canonical_field(float8send(r.correlation_risk))
           || hitherto.canonical_field(convert_to(r.reason, 'UTF8')) || hitherto.canonical_field(boolsend(r.market_hours))
$$;
COMMENT ON FUNCTION hitherto.canonical_row(hitherto.portfolio_snapshot) IS 'Canonical bytes of a row of portfolio_snapshot, of which the ledger holds a digest';

CREATE FUNCTION hitherto.canonical_digest(rows bytea[])
RETURNS bytea LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT sha256(coalesce(string_agg(d, '' ORDER BY d), '')) FROM (SELECT sha256(r) AS d FROM unnest(rows) AS r) AS digest
$$;
COMMENT ON FUNCTION hitherto.canonical_digest(bytea[]) IS 'Digest in form 2 of rows, given by their canonical bytes in any order';

CREATE FUNCTION hitherto.ledger_add(batch_id uuid, producer text, table_name text, rows bytea[], min_time timestamptz, max_time timestamptz)
RETURNS void LANGUAGE sql VOLATILE AS $$
    INSERT INTO hitherto.ingest_batch (batch_id, producer, table_name, row_count, min_time, max_time, digest, digest_form)
    VALUES (ledger_add.batch_id, ledger_add.producer, ledger_add.table_name, cardinality(rows), ledger_add.min_time, ledger_add.max_time,
            hitherto.canonical_digest(rows), 2)
$$;
COMMENT ON FUNCTION hitherto.ledger_add(uuid, text, text, bytea[], timestamptz, timestamptz) IS
    'Writes the ledger line of rows that SQL stored under this batch, in the same transaction; rows are their canonical bytes (canonical_row)';

//! Many decisions at once: what a trail must be found among.

/// Forty days of decisions: two signals, a proposal, a verdict and an order of four events each.
pub(crate) fn fill(events: u32) -> String {
    FILL.replace("$n", &events.to_string())
}

/// Set-based, as a writer's batches are: row by row, each event would be claimed and folded on its own.
const FILL: &str = "
    SET hitherto.set_based = 'on';
    SELECT hitherto.module_ensure(ARRAY['technical', 'overseer', 'risk']);
    INSERT INTO hitherto.signal (emitted_at, module_id, signal_id, kind, batch_id)
    SELECT now() - INTERVAL '40 days' * (1 - n * 2.0 / $n), 1, 'signal-' || n, 'trend', gen_random_uuid() FROM generate_series(0, $n / 2 - 1) n;
    INSERT INTO hitherto.proposal (proposal_id, module_id, proposed_at, payload, batch_id)
    SELECT 'proposal-' || n, 2, now() - INTERVAL '40 days' * (1 - n * 4.0 / $n), jsonb_build_object('signal_ids', jsonb_build_array('signal-' || 2 * n, 'signal-' || 2 * n + 1)),
           gen_random_uuid()
    FROM generate_series(0, $n / 4 - 1) n;
    INSERT INTO hitherto.risk_evaluation (evaluated_at, evaluation_id, proposal_id, module_id, risk_level, verdict, batch_id)
    SELECT proposed_at, 'risk-' || proposal_id, proposal_id, 3, 'low', 'approved', batch_id FROM hitherto.proposal;
    INSERT INTO hitherto.order_event (event_at, order_id, event_id, sequence, proposal_id, event_type, asset, batch_id)
    SELECT now() - INTERVAL '40 days' * (1 - n / 4 * 4.0 / $n) + n % 4 * INTERVAL '1 second', 'order-' || n / 4, 'event-' || n, n % 4, 'proposal-' || n / 4,
           (ARRAY['pending', 'submitted', 'accepted', 'cancelled'])[1 + n % 4], 'A' || n / 4 % 20, gen_random_uuid()
    FROM generate_series(0, $n - 1) n;
    INSERT INTO hitherto.execution_report (order_id, proposal_id, status, event_count, first_event_at, last_event_at)
    SELECT order_id, min(proposal_id), 'cancelled', count(*), min(event_at), max(event_at) FROM hitherto.order_event GROUP BY order_id;
    RESET hitherto.set_based;
    ANALYZE";
/// Puts what is older into the columnstore, as its policies would.
pub(crate) const COMPRESS: &str = "
    SELECT compress_chunk(c) FROM show_chunks('hitherto.signal', older_than => INTERVAL '7 days') c;
    SELECT compress_chunk(c) FROM show_chunks('hitherto.risk_evaluation', older_than => INTERVAL '20 days') c;
    SELECT compress_chunk(c) FROM show_chunks('hitherto.order_event', older_than => INTERVAL '20 days') c;
    ANALYZE";

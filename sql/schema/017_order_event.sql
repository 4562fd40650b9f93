CREATE TABLE hitherto.order_event (
    event_at       timestamptz      NOT NULL,
    order_id       text COLLATE "C" NOT NULL CONSTRAINT order_event_order_id_length CHECK (length(btrim(order_id)) BETWEEN 1 AND 200),
    event_id       text COLLATE "C" NOT NULL CONSTRAINT order_event_event_id_length CHECK (length(btrim(event_id)) BETWEEN 1 AND 200),
    sequence       bigint,
    proposal_id    text COLLATE "C",
    event_type     text COLLATE "C" NOT NULL CONSTRAINT order_event_event_type_word CHECK
                                    (event_type IN ('pending', 'submitted', 'accepted', 'fill', 'fill_corrected', 'fill_voided',
                                                    'replaced', 'cancel_requested', 'cancelled', 'rejected', 'expired')),
    asset          text COLLATE "C",
    side           text COLLATE "C" CONSTRAINT order_event_side_word CHECK (side IN ('buy', 'sell')),
    order_type     text COLLATE "C",
    quantity       numeric(38,18)   CONSTRAINT order_event_quantity_finite CHECK (quantity <> 'NaN'),
    price          numeric(38,18)   CONSTRAINT order_event_price_finite CHECK (price <> 'NaN'),
    last_quantity  numeric(38,18)   CONSTRAINT order_event_last_quantity_finite CHECK (last_quantity <> 'NaN'),
    last_price     numeric(38,18)   CONSTRAINT order_event_last_price_finite CHECK (last_price <> 'NaN'),
    commission     numeric(38,18)   CONSTRAINT order_event_commission_finite CHECK (commission <> 'NaN'),
    broker         text,
    reason         text,
    ref_event_id   text COLLATE "C",
    details        jsonb,
    recorded_at    timestamptz      NOT NULL DEFAULT clock_timestamp(),
    batch_id       uuid             NOT NULL,
    -- A producer that replays its own log changes nothing.
    CONSTRAINT order_event_event_id_unique UNIQUE (event_id, event_at)
);
-- The fold, hitherto order and decision_trail read one order's events in time.
CREATE INDEX order_event_order_id_event_at_idx ON hitherto.order_event (order_id, event_at);
COMMENT ON TABLE hitherto.order_event IS 'What happened to orders; execution_report is folded from it';
COMMENT ON COLUMN hitherto.order_event.event_at IS 'When it happened';
COMMENT ON COLUMN hitherto.order_event.order_id IS 'Order it happened to';
COMMENT ON COLUMN hitherto.order_event.event_id IS 'The event''s own id';
COMMENT ON COLUMN hitherto.order_event.sequence IS 'The producer''s own order, for events of one instant';
COMMENT ON COLUMN hitherto.order_event.proposal_id IS 'Proposal that the order carries out';
COMMENT ON COLUMN hitherto.order_event.event_type IS 'pending, submitted, accepted, fill, fill_corrected, fill_voided, replaced, cancel_requested, cancelled, rejected or expired';
COMMENT ON COLUMN hitherto.order_event.asset IS 'What is traded';
COMMENT ON COLUMN hitherto.order_event.side IS 'buy or sell';
COMMENT ON COLUMN hitherto.order_event.order_type IS 'market, limit, stop, ... as the broker calls it';
COMMENT ON COLUMN hitherto.order_event.quantity IS 'Ordered quantity (FIX OrderQty) on pending, submitted and replaced; on replaced the new total';
COMMENT ON COLUMN hitherto.order_event.price IS 'Limit or stop price';
COMMENT ON COLUMN hitherto.order_event.last_quantity IS 'Quantity of this fill (FIX LastQty)';
COMMENT ON COLUMN hitherto.order_event.last_price IS 'Price of this fill (FIX LastPx)';
COMMENT ON COLUMN hitherto.order_event.commission IS 'Commission on this fill, in the currency of the price';
COMMENT ON COLUMN hitherto.order_event.broker IS 'Who executes';
COMMENT ON COLUMN hitherto.order_event.reason IS 'Why it was cancelled, rejected, voided, ...';
COMMENT ON COLUMN hitherto.order_event.ref_event_id IS 'The fill that fill_corrected or fill_voided speaks of';
COMMENT ON COLUMN hitherto.order_event.details IS 'Anything else, as the producer gave it';
COMMENT ON COLUMN hitherto.order_event.recorded_at IS 'When it reached this store';
COMMENT ON COLUMN hitherto.order_event.batch_id IS 'Line in the ledger';

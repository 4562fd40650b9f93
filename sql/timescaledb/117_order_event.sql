SELECT create_hypertable('hitherto.order_event', by_range('event_at', INTERVAL '7 days'), create_default_indexes => false);
ALTER TABLE hitherto.order_event SET (timescaledb.enable_columnstore, timescaledb.segmentby = 'asset', timescaledb.orderby = 'event_at, event_id');
CALL add_columnstore_policy('hitherto.order_event', after => INTERVAL '30 days');

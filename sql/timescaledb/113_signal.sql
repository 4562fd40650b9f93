SELECT create_hypertable('hitherto.signal', by_range('emitted_at', INTERVAL '1 day'), create_default_indexes => false);
ALTER TABLE hitherto.signal SET (timescaledb.enable_columnstore, timescaledb.segmentby = 'module_id', timescaledb.orderby = 'emitted_at');
CALL add_columnstore_policy('hitherto.signal', after => INTERVAL '7 days');

-- In the columnstore, where there is no BRIN.
ALTER TABLE hitherto.health_check SET (timescaledb.sparse_index = 'minmax(legacy_id)');

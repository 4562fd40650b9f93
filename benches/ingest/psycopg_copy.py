"""Health checks by psycopg's binary COPY, row by row, made before the clock starts."""

import sys
import time
import uuid
from datetime import datetime, timedelta, timezone

import psycopg

count = int(sys.argv[1])
start = datetime.now(timezone.utc).replace(microsecond=0) - timedelta(days=6)
batch = uuid.uuid4()
rows = [
    (
        start + timedelta(milliseconds=400 * n), n % 16 + 1, "healthy", (n % 977) / 10, n % 3,
        100.0 + n % 50, float(n % 100), None, batch,
    )
    for n in range(count)
]
copy = """COPY hitherto.health_check (checked_at, module_id, status, response_time_ms, error_count,
    memory_usage_mb, cpu_usage_percent, details, batch_id) FROM STDIN (FORMAT binary)"""
with psycopg.connect() as connection, connection.cursor() as cursor:
    began = time.perf_counter()
    with cursor.copy(copy) as sink:
        sink.set_types(["timestamptz", "int8", "text", "float8", "int4", "float8", "float8", "jsonb", "uuid"])
        for row in rows:
            sink.write_row(row)
    connection.commit()
    print(time.perf_counter() - began)

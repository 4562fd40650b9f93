"""A table's rows by the binary COPY of a Python driver, made before the clock starts.

    python python_copy.py psycopg|asyncpg TABLE COUNT

prints the seconds that it took; the server is the one that the PG variables name.
"""

import asyncio
import sys
import time
import uuid
from datetime import datetime, timedelta, timezone

driver, table, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
start = datetime.now(timezone.utc).replace(microsecond=0) - timedelta(days=6)
batch = uuid.uuid4()
if table == "health_check":
    columns = {
        "checked_at": "timestamptz", "module_id": "int8", "status": "text", "response_time_ms": "float8", "error_count": "int4",
        "memory_usage_mb": "float8", "cpu_usage_percent": "float8", "details": "jsonb", "batch_id": "uuid",
    }
    rows = [
        (
            start + timedelta(milliseconds=400 * n), n % 16 + 1, "healthy", (n % 977) / 10, n % 3,
            100.0 + n % 50, float(n % 100), None, batch,
        )
        for n in range(count)
    ]
else:
    columns = {
        "started_at": "timestamptz", "module_id": "int8", "execution_id": "text", "duration_ms": "float8", "success": "bool",
        "error_message": "text", "details": "jsonb", "batch_id": "uuid",
    }
    rows = [
        (start + timedelta(milliseconds=400 * n), n % 16 + 1, str(uuid.uuid4()), (n % 977) / 10, True, None, None, batch)
        for n in range(count)
    ]


def with_psycopg():
    import psycopg

    with psycopg.connect() as connection, connection.cursor() as cursor:
        began = time.perf_counter()
        with cursor.copy(f"COPY hitherto.{table} ({', '.join(columns)}) FROM STDIN (FORMAT binary)") as sink:
            sink.set_types(list(columns.values()))
            for row in rows:
                sink.write_row(row)
        connection.commit()
        return time.perf_counter() - began


async def with_asyncpg():
    import asyncpg

    connection = await asyncpg.connect()
    began = time.perf_counter()
    await connection.copy_records_to_table(table, schema_name="hitherto", columns=list(columns), records=rows)
    took = time.perf_counter() - began
    await connection.close()
    return took


print(with_psycopg() if driver == "psycopg" else asyncio.run(with_asyncpg()))

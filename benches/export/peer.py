"""One way from PostgreSQL to a Parquet file: peer.py WAY DSN QUERY FILE; prints seconds and peak memory."""

import json
import pathlib
import sys
import time


def duckdb_query(dsn, query, file):
    connection = duckdb_connection(dsn)
    escaped = query.replace("'", "''")
    connection.execute(f"COPY (SELECT * FROM postgres_query('source', '{escaped}')) TO '{file}' (FORMAT parquet, COMPRESSION zstd)")


def duckdb_attached(dsn, query, file):
    # Tables of the attached database, as SQL of DuckDB's own.
    connection = duckdb_connection(dsn)
    connection.execute("USE source")
    connection.execute(f"COPY ({query}) TO '{file}' (FORMAT parquet, COMPRESSION zstd)")


def duckdb_connection(dsn):
    connection = duckdb.connect(config={"allow_unsigned_extensions": "true"})
    folder = pathlib.Path(duckdb_extension_postgres_scanner.__file__).parent
    connection.execute(f"LOAD '{next(folder.rglob('*.duckdb_extension'))}'")
    connection.execute(f"ATTACH '{dsn}' AS source (TYPE postgres, READ_ONLY)")
    return connection


def adbc(dsn, query, file):
    with adbc_driver_postgresql.dbapi.connect(dsn) as connection, connection.cursor() as cursor:
        cursor.execute(query)
        batches = cursor.fetch_record_batch()
        with pyarrow.parquet.ParquetWriter(file, batches.schema, compression="zstd") as writer:
            for batch in batches:
                writer.write_batch(batch)


way, dsn, query, file = sys.argv[1:]
if way.startswith("duckdb"):
    import duckdb
    import duckdb_extension_postgres_scanner
else:
    import adbc_driver_postgresql.dbapi
    import pyarrow.parquet
began = time.perf_counter()
globals()[way](dsn, query, file)
seconds = time.perf_counter() - began
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]
print(json.dumps({"seconds": seconds, "peak_kb": int(peak), "bytes": pathlib.Path(file).stat().st_size}))

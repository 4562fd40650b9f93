"""Reads a lake with deltalake, Polars, DuckDB and pyarrow, and compares what they see with SQL's answers.

    python readers.py LAKE DATABASE_URL

LAKE is a folder, or s3://bucket/prefix with the AWS_ variables: then deltalake and Polars read it.
Ends with an error at the first difference, else prints what was compared.
"""

import os
import sys
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path

import duckdb
import polars as pl
import psycopg2
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from deltalake import DeltaTable

lake, url = sys.argv[1], sys.argv[2]
remote = "://" in lake
EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
# The time of each dataset, where it has one, and its exact numbers.
DATASETS = {
    "module": ("registered_at", []),
    "module_execution": ("started_at", []),
    "health_check": ("checked_at", []),
    "signal": ("emitted_at", []),
    "regime_state": ("proposed_at", []),
    "proposal": ("proposed_at", []),
    "risk_evaluation": ("evaluated_at", []),
    "order_event": ("event_at", ["quantity", "price", "last_quantity", "last_price", "commission"]),
    "execution_report": ("submitted_at", ["quantity", "filled_quantity", "average_fill_price", "total_commission"]),
    "portfolio_snapshot": ("taken_at", ["cash_balance", "total_value"]),
}
PLAIN = {"module", "regime_state", "proposal", "execution_report"}
options = {name: value for name, value in os.environ.items() if name.startswith("AWS_")} if remote else {}


def sql(db, name, time, numbers):
    sums = "".join(f", coalesce(sum({n}), 0)" for n in numbers)
    with db.cursor() as cursor:
        cursor.execute(f"SELECT count(*), min({time}), max({time}){sums} FROM hitherto.{name}")
        count, least, most, *sums = cursor.fetchone()
        days = {}
        if name not in PLAIN:
            cursor.execute(f"SELECT ({time} AT TIME ZONE 'UTC')::date, count(*) FROM hitherto.{name} GROUP BY 1")
            days = dict(cursor.fetchall())
    return count, least, most, [Decimal(s) for s in sums], days


def utc(time):
    return None if time is None else time.astimezone(timezone.utc)


def exact(values):
    """A sum in Decimal, since 38 digits are all that readers' own sums hold."""
    return sum((v for v in values if v is not None), Decimal(0))


def in_arrow(table, time, numbers, plain):
    days = {}
    if not plain:
        counted = table["day"].value_counts().to_pylist()
        days = {as_day(c["values"]): c["counts"] for c in counted}
    bounds = pc.min_max(table[time]).as_py()
    return table.num_rows, utc(bounds["min"]), utc(bounds["max"]), [exact(table[n].to_pylist()) for n in numbers], days


def as_day(value):
    return value if isinstance(value, date) else date.fromisoformat(value)


def with_deltalake(path, time, numbers, plain):
    table = DeltaTable(path, storage_options=options or None)
    return in_arrow(pa.table(table.to_pyarrow_table()), time, numbers, plain)


def with_polars(path, time, numbers, plain):
    frame = pl.scan_delta(path, storage_options=options or None).collect()
    days = {}
    if not plain:
        days = {as_day(day): count for day, count in frame.group_by("day").len().iter_rows()}
    return len(frame), utc(frame[time].min()), utc(frame[time].max()), [exact(frame[n].to_list()) for n in numbers], days


def with_pyarrow(path, time, numbers, plain):
    files = DeltaTable(path).file_uris()
    partitioning = ds.partitioning(pa.schema([("day", pa.date32())]), flavor="hive")
    dataset = ds.dataset(files, format="parquet", partitioning=None if plain else partitioning, partition_base_dir=path)
    return in_arrow(dataset.to_table(), time, numbers, plain)


def with_duckdb(path, time, numbers, plain):
    of = f"delta_scan('{path}')"
    # Times as numbers: those of a zone would ask for a package more.
    found = duck.execute(f"SELECT count(*), epoch_us(min({time})), epoch_us(max({time})) FROM {of}").fetchone()
    count, least, most = found[0], *(None if t is None else EPOCH + timedelta(microseconds=t) for t in found[1:])
    sums = [exact(v for (v,) in duck.execute(f"SELECT {n} FROM {of}").fetchall()) for n in numbers]
    days = {}
    if not plain:
        days = {as_day(day): n for day, n in duck.execute(f"SELECT day, count(*) FROM {of} GROUP BY 1").fetchall()}
    return count, least, most, sums, days


def pruned(path, day, expected):
    """A query of one day reads that day's files alone."""
    table = DeltaTable(path)
    files = table.file_uris(file_pruning_predicate=f"day = '{day}'")
    assert files and all(f"day={day}/" in file for file in files), files
    assert len(files) < len(table.file_uris()), "all of them"
    assert pl.scan_delta(path).filter(pl.col("day") == day).select(pl.len()).collect().item() == expected
    found = duck.execute(f"EXPLAIN ANALYZE SELECT count(*) FROM delta_scan('{path}') WHERE day = DATE '{day}'").fetchall()
    plan = "\n".join(row[1] for row in found)
    assert f"Scanning Files: {len(files)}/{len(table.file_uris())}" in plan, plan
    assert duck.execute(f"SELECT count(*) FROM delta_scan('{path}') WHERE day = DATE '{day}'").fetchone() == (expected,)


readers = {"deltalake": with_deltalake, "polars": with_polars}
if not remote:
    import duckdb_extension_delta

    # The extension comes with the package: nothing is fetched.
    duck = duckdb.connect(config={"autoinstall_known_extensions": "false"})
    extension = next(Path(duckdb_extension_delta.__file__).parent.rglob("delta.duckdb_extension"))
    duck.execute(f"LOAD '{extension}'")
    duck.execute("SET TimeZone = 'UTC'")
    readers |= {"pyarrow": with_pyarrow, "duckdb": with_duckdb}

db = psycopg2.connect(url)
for name, (time, numbers) in DATASETS.items():
    path = f"{lake}/{name}"
    expected = sql(db, name, time, numbers)
    expected = (expected[0], utc(expected[1]), utc(expected[2]), *expected[3:])
    for reader, read in readers.items():
        found = read(path, time, numbers, name in PLAIN)
        assert found == expected, f"{reader} of {name}:\n{found}\nSQL:\n{expected}"
    days = sorted(expected[4])
    if not remote and len(days) > 1:
        pruned(path, days[0], expected[4][days[0]])
    print(f"{name}: {expected[0]} rows, {len(days)} days, {len(numbers)} sums: {', '.join(readers)} agree with SQL")

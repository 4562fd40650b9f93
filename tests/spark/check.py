"""Spark reads a lake, SQL the database that it was exported from; every answer must be the same.

    python tests/spark/check.py target/debug/hitherto target/spark [maven|JAR,JAR]

The database is a private PostgreSQL server with the demo in it. It is exported twice, with records at the edges in between, and
both exports are asked for after the second one: the first is the versions that its `_snapshot.json` named.
"""

import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
from lake import MASTER, columns, spark_session, through_connector, through_log, versions
from pyspark.sql import SparkSession
from pyspark.sql.types import StructType
from questions import DATASETS, SHARED, days, profile, table
from records import lines
from server import postgresql


@dataclass
class Instant:
    """What one export must show."""

    name: str
    versions: dict[str, int]
    columns: dict[str, dict[str, str]] = field(default_factory=dict)
    answers: dict[str, list[tuple[str, ...]]] = field(default_factory=dict)


class Checks:
    """Counts, and says what differs."""

    def __init__(self) -> None:
        self.passed = self.failed = 0

    def same(self, what: str, expected: list, found: list, labels: list[str] | None = None) -> None:
        if expected == found and expected:
            self.passed += 1
            return
        self.failed += 1
        print(f"DIFFERENT: {what}" + ("" if expected else ": there is nothing to compare"))
        if labels and len(expected) == len(found) == 1:
            for label, sql, spark in zip(labels, expected[0], found[0], strict=True):
                if sql != spark:
                    print(f"  {label}: SQL says {sql}, Spark says {spark}")
        else:
            print(f"  only SQL: {[r for r in expected if r not in found][:5]}\n  only Spark: {[r for r in found if r not in expected][:5]}")


def hitherto(program: str, url: str, folder: Path, *arguments: str, text: str | None = None) -> None:
    """Runs the command in a folder, whatever database this shell may name."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PG")} | {"DATABASE_URL": url}
    done = subprocess.run([program, *arguments], env=environment, cwd=folder, input=text, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"hitherto {' '.join(arguments)} failed:\n{done.stdout}{done.stderr}")


def kinds(schema: StructType) -> dict[str, str]:
    return {column.name: column.dataType.simpleString() for column in schema.fields}


def ask_sql(database: psycopg.Connection, instant: Instant) -> None:
    """SQL's answers, as of now."""

    def ask(what: str, query: str) -> None:
        instant.answers[what] = table(database.execute(query).fetchall())

    with database.transaction():
        for name, dataset in DATASETS.items():
            ask(f"{name}: columns", profile(name, instant.columns[name])[1])
            if dataset.time:
                ask(f"{name}: days", days(name)[0])
        database.execute("SET LOCAL search_path = hitherto")
        for what, query in SHARED.items():
            ask(what, query)


def ask_spark(spark: SparkSession, lake: Path, instant: Instant, read, checks: Checks) -> None:
    """Spark's answers to the same, from the lake."""

    def ask(what: str, query: str, labels: list[str] | None = None) -> None:
        found = table(spark.sql(query).collect())
        checks.same(f"{instant.name}, {what}", instant.answers[what], found, labels)

    for name in DATASETS:
        frame = read(spark, lake / name, instant.versions[name])
        checks.same(f"{instant.name}, {name}: types", list(instant.columns[name].items()), frame.dtypes)
        frame.createOrReplaceTempView(name)
    for name, dataset in DATASETS.items():
        labels, _, query = profile(name, instant.columns[name])
        ask(f"{name}: columns", query, labels)
        if dataset.time:
            ask(f"{name}: days", days(name)[1])
    for what, query in SHARED.items():
        ask(what, query)


def main() -> None:
    program, folder = os.path.abspath(sys.argv[1]), Path(sys.argv[2]).absolute()
    delta = sys.argv[3] if len(sys.argv) > 3 else None
    read = through_connector if delta else through_log
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    lake = folder / "lake"
    began = time.monotonic()
    checks, instants = Checks(), []

    def say(words: str) -> None:
        print(f"{time.monotonic() - began:5.1f} s  {words}", flush=True)

    with postgresql() as url, psycopg.connect(url, autocommit=True, options="-c timezone=UTC") as database:

        def exported(name: str) -> None:
            instant = Instant(name, versions(lake))
            checks.same(f"{name}, datasets", sorted(DATASETS), sorted(instant.versions))
            instant.columns = {name: kinds(columns(lake / name, instant.versions[name])) for name in DATASETS}
            ask_sql(database, instant)
            instants.append(instant)
            say(f"{name}: exported, SQL asked")

        hitherto(program, url, folder, "demo", "--lake", str(lake))
        exported("the demo")
        for record, text in lines().items():
            hitherto(program, url, folder, "ingest", record, text=text)
        hitherto(program, url, folder, "export", "--lake", str(lake))
        exported("the demo and records at the edges")
    with spark_session(folder / "spark", delta) as spark:
        say(f"Spark {spark.version} on {MASTER}: {'the Delta connector' if delta else 'Parquet files that the Delta log names'}")
        for instant in instants:
            ask_spark(spark, lake, instant, read, checks)
            say(f"{instant.name}: Spark asked")
        executors = spark.sparkContext._jsc.sc().getExecutorMemoryStatus().size() - 1
    rows = [f"{name} {instants[-1].answers[f'{name}: columns'][0][0]}" for name in DATASETS]
    say(f"{executors} executors; rows: {', '.join(rows)}")
    print(f"{checks.passed} passed, {checks.failed} failed")
    sys.exit(1 if checks.failed else 0)


if __name__ == "__main__":
    main()

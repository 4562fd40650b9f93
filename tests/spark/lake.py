"""A lake, read by Spark: with Delta's connector, or as the Parquet files that the Delta log names."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# The driver's and the executors' only address, and the only zone: neither is this machine's affair.
os.environ["SPARK_LOCAL_IP"] = "127.0.0.1"
os.environ["TZ"] = "UTC"

import pyspark  # noqa: E402
from deltalake import DeltaTable  # noqa: E402
from pyspark.sql import DataFrame, SparkSession  # noqa: E402
from pyspark.sql.types import StructType  # noqa: E402

# Two executors, each a process of its own with one core and 1 GiB: what a task reads must reach it as on a cluster.
MASTER = "local-cluster[2,1,1024]"


@contextmanager
def spark_session(folder: Path, delta: str | None) -> Iterator[SparkSession]:
    """A session that leaves nothing behind but what is in `folder`; `delta` is `maven`, or the paths of the connector's jars."""
    folder.mkdir(parents=True, exist_ok=True)
    builder = (
        SparkSession.builder.master(MASTER)
        .appName("hitherto")
        .config("spark.ui.enabled", "false")
        .config("spark.ui.showConsoleProgress", "false")
        .config("spark.log.level", "ERROR")
        .config("spark.executor.memory", "1g")
        .config("spark.local.dir", str(folder))
        .config("spark.sql.warehouse.dir", str(folder / "warehouse"))
        .config("spark.sql.session.timeZone", "UTC")
        .config("spark.sql.shuffle.partitions", "2")
    )
    if delta:
        builder = (
            builder.config("spark.sql.extensions", "io.delta.sql.DeltaSparkSessionExtension")
            .config("spark.sql.catalog.spark_catalog", "org.apache.spark.sql.delta.catalog.DeltaCatalog")
            # Reading a log takes 50 tasks by default, and these are small.
            .config("spark.databricks.delta.snapshotPartitions", "2")
        )
    if delta == "maven":
        from delta import configure_spark_with_delta_pip

        builder = configure_spark_with_delta_pip(builder)
    elif delta:
        builder = builder.config("spark.jars", delta)
    spark = builder.getOrCreate()
    try:
        yield spark
    finally:
        # Workers of a local cluster keep their executors' files in the distribution's own folder.
        work = Path(pyspark.__file__).parent / "work" / spark.sparkContext.applicationId
        spark.stop()
        shutil.rmtree(work, ignore_errors=True)


def versions(lake: Path) -> dict[str, int]:
    """The versions that show one instant."""
    noted = json.loads((lake / "_snapshot.json").read_text())["versions"]
    return {dataset: note["version"] for dataset, note in noted.items()}


def columns(table: Path, version: int) -> StructType:
    """A version's columns and types, as the Delta log has them, which is as Spark writes them down."""
    return StructType.fromJson(json.loads(DeltaTable(table, version=version).schema().to_json()))


def through_connector(spark: SparkSession, table: Path, version: int) -> DataFrame:
    """A version of a Delta table, as Delta's connector reads it."""
    return spark.read.format("delta").option("versionAsOf", version).load(str(table))


def through_log(spark: SparkSession, table: Path, version: int) -> DataFrame:
    """The same as plain Parquet: exactly the files that the log names, with the columns and types that it names. `day` is
    not in the files but in their paths; `basePath` says from where on a path is made of partitions."""
    schema = columns(table, version)
    files = DeltaTable(table, version=version).file_uris()
    if not files:
        return spark.createDataFrame([], schema)
    return spark.read.schema(schema).option("basePath", str(table)).parquet(*files)

"""The same questions in PostgreSQL's words and in Spark's, and answers in a form that can be compared exactly."""

from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal


@dataclass
class Dataset:
    """What the database says a dataset is. Written down here once more, and not taken from the exporter."""

    sql: str
    # The time whose day partitions it.
    time: str | None = None
    # What is counted distinctly.
    distinct: tuple[str, ...] = ()


WITH_MODULE = "SELECT t.*, m.name AS module FROM hitherto.{} t LEFT JOIN hitherto.module m USING (module_id)"

DATASETS = {
    "module": Dataset("SELECT * FROM hitherto.module", distinct=("name", "status")),
    "module_execution": Dataset(WITH_MODULE.format("module_execution"), "started_at", ("execution_id", "module", "batch_id")),
    "health_check": Dataset(WITH_MODULE.format("health_check"), "checked_at", ("module", "status", "checked_at")),
    "signal": Dataset(WITH_MODULE.format("signal"), "emitted_at", ("signal_id", "kind", "asset")),
    "regime_state": Dataset("SELECT * FROM hitherto.regime_state", distinct=("regime_id", "regime", "status")),
    "proposal": Dataset(WITH_MODULE.format("proposal"), distinct=("proposal_id", "asset")),
    "risk_evaluation": Dataset(WITH_MODULE.format("risk_evaluation"), "evaluated_at", ("evaluation_id", "proposal_id", "verdict")),
    "order_event": Dataset("SELECT * FROM hitherto.order_event", "event_at", ("event_id", "order_id", "proposal_id", "event_type")),
    "execution_report": Dataset("SELECT * FROM hitherto.execution_report", distinct=("order_id", "status", "broker")),
    "portfolio_snapshot": Dataset("SELECT * FROM hitherto.portfolio_snapshot", "taken_at", ("snapshot_id", "total_value")),
}

# Spark's type of a column -> what is asked of it: PostgreSQL's expression and Spark's, of the column {c}. Sums are of decimals, of
# whole numbers or of what both sides floor alike, so that the order of adding can't matter.
CHECKSUM = (
    "sum(('x' || substr(md5({pg}), 1, 15))::bit(60)::bigint)",
    "sum(CAST(conv(substr(md5({spark}), 1, 15), 16, 10) AS decimal(38,0)))",
)
MICROS = ("(extract(epoch FROM {c}) * 1000000)::bigint", "unix_micros({c})")
ASKED = {
    "decimal(38,18)": [("sum({c})", "sum({c})"), ("min({c})", "min({c})"), ("max({c})", "max({c})")],
    "bigint": [("sum({c})", "sum(CAST({c} AS decimal(38,0)))"), ("min({c})", "min({c})"), ("max({c})", "max({c})")],
    "double": [
        ("sum(floor({c} * 1000000)::bigint)", "sum(CAST(floor({c} * 1000000) AS decimal(38,0)))"),
        ("min({c})", "min({c})"),
        ("max({c})", "max({c})"),
    ],
    "boolean": [("count(*) FILTER (WHERE {c})", "count_if({c})")],
    "timestamp": [
        ("min({c})", "min({c})"),
        ("max({c})", "max({c})"),
        (f"sum({MICROS[0]})", f"sum(CAST({MICROS[1]} AS decimal(38,0)))"),
    ],
    "string": [(CHECKSUM[0].format(pg="{c}::text"), CHECKSUM[1].format(spark="{c}"))],
    "array<string>": [(CHECKSUM[0].format(pg="array_to_string({c}, '|', '-')"), CHECKSUM[1].format(spark="array_join({c}, '|', '-')"))],
}
ASKED["int"] = ASKED["bigint"]


def profile(name: str, columns: dict[str, str]) -> tuple[list[str], str, str]:
    """Everything about one dataset's columns, in one query: labels, PostgreSQL's query, Spark's."""
    labels, ours, sparks = ["rows"], ["count(*)"], ["count(*)"]
    for column, kind in columns.items():
        if column == "day":
            continue
        if kind not in ASKED:
            raise KeyError(f"{name}.{column}: nothing is known to ask of a column of type {kind}")
        for pg, spark in [("count({c})", "count({c})"), *ASKED[kind]]:
            labels.append(f"{spark.format(c=column)}")
            ours.append(pg.format(c=column))
            sparks.append(spark.format(c=column))
    for column in DATASETS[name].distinct:
        labels.append(f"distinct {column}")
        ours.append(f"count(DISTINCT {column})")
        sparks.append(f"count(DISTINCT {column})")
    return labels, f"SELECT {', '.join(ours)} FROM ({DATASETS[name].sql}) t", f"SELECT {', '.join(sparks)} FROM {name}"


def days(name: str) -> tuple[str, str]:
    """Rows of each day."""
    dataset = DATASETS[name]
    return (
        f"SELECT ({dataset.time} AT TIME ZONE 'UTC')::date, count(*) FROM ({dataset.sql}) t GROUP BY 1",
        f"SELECT day, count(*) FROM {name} GROUP BY day",
    )


# Word for word the same in both; datasets stand for tables.
SHARED = {
    "order events with their order's report": """
        SELECT r.status, r.asset, r.side, count(*), count(DISTINCT e.order_id), sum(e.last_quantity), sum(e.commission), max(e.event_at)
        FROM order_event e JOIN execution_report r ON r.order_id = e.order_id GROUP BY r.status, r.asset, r.side""",
    "fills against what the report says was filled": """
        SELECT r.order_id, r.filled_quantity, r.total_commission, sum(e.last_quantity), sum(e.commission)
        FROM execution_report r JOIN order_event e ON e.order_id = r.order_id AND e.event_type = 'fill'
        GROUP BY r.order_id, r.filled_quantity, r.total_commission""",
    "order events with their proposal": """
        SELECT m.name, p.asset, e.event_type, count(*), count(DISTINCT p.proposal_id), min(p.proposed_at), max(e.event_at), sum(e.quantity)
        FROM order_event e JOIN proposal p ON p.proposal_id = e.proposal_id JOIN module m ON m.module_id = p.module_id
        GROUP BY m.name, p.asset, e.event_type""",
    "what came of each verdict": """
        SELECT v.verdict, v.risk_level, r.status, count(*), sum(r.filled_quantity)
        FROM risk_evaluation v JOIN proposal p ON p.proposal_id = v.proposal_id
        LEFT JOIN execution_report r ON r.proposal_id = p.proposal_id GROUP BY v.verdict, v.risk_level, r.status""",
}


def told(value: object) -> str:
    """A value as text, without any digit being lost."""
    if value is None:
        return "-"
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, datetime):
        return value.replace(tzinfo=None).isoformat(sep=" ", timespec="microseconds")
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, float):
        return repr(value)
    return str(value)


def table(rows: list) -> list[tuple[str, ...]]:
    """Rows as text, in an order that no collation decides."""
    return sorted(tuple(told(value) for value in row) for row in rows)

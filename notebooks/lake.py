"""What the notebooks share: the lake's datasets, and one style of drawing.

The lake is the folder in the variable HITHERTO_LAKE, or the one that `make demo` leaves.
"""

import os
from pathlib import Path

import matplotlib.pyplot as plt
import polars as pl
from deltalake import DeltaTable, QueryBuilder

LAKE = Path(os.environ.get("HITHERTO_LAKE") or Path(__file__).parent.parent / "lake").resolve()

TIME, EXACT, TEXT, FLOAT = pl.Datetime("us", "UTC"), pl.Decimal(38, 18), pl.String, pl.Float64

# The columns that the notebooks use: a lake that lacks one is read as if it were null.
COLUMNS: dict[str, dict[str, pl.DataType]] = {
    "module": {"name": TEXT, "status": TEXT, "config": TEXT},
    "module_execution": {"started_at": TIME, "module": TEXT, "execution_id": TEXT, "duration_ms": FLOAT, "success": pl.Boolean, "error_message": TEXT},
    "health_check": {"checked_at": TIME, "module": TEXT, "status": TEXT, "response_time_ms": FLOAT},
    "signal": {"emitted_at": TIME, "asset": TEXT, "payload": TEXT},
    "regime_state": {
        "regime_id": TEXT,
        "regime": TEXT,
        "confidence": FLOAT,
        "status": TEXT,
        "proposed_at": TIME,
        "decided_by": TEXT,
        "effective_from": TIME,
        "effective_until": TIME,
    },
    "proposal": {"proposal_id": TEXT, "proposed_at": TIME, "asset": TEXT, "payload": TEXT},
    "risk_evaluation": {"evaluated_at": TIME, "proposal_id": TEXT, "verdict": TEXT, "var_99": FLOAT, "expected_shortfall": FLOAT, "method": TEXT},
    "order_event": {
        "event_at": TIME,
        "order_id": TEXT,
        "event_id": TEXT,
        "sequence": pl.Int64,
        "event_type": TEXT,
        "last_quantity": EXACT,
        "last_price": EXACT,
        "commission": EXACT,
        "ref_event_id": TEXT,
    },
    "execution_report": {
        "order_id": TEXT,
        "proposal_id": TEXT,
        "asset": TEXT,
        "side": TEXT,
        "quantity": EXACT,
        "status": TEXT,
        "filled_quantity": EXACT,
        "average_fill_price": EXACT,
        "total_commission": EXACT,
        "submitted_at": TIME,
        "first_fill_at": TIME,
        "filled_at": TIME,
        "closed_at": TIME,
        "broker": TEXT,
        "anomalies": pl.List(TEXT),
    },
    "portfolio_snapshot": {
        "taken_at": TIME,
        "snapshot_id": TEXT,
        "positions": TEXT,
        "cash_balance": EXACT,
        "total_value": EXACT,
        "portfolio_var": FLOAT,
    },
}

# Okabe and Ito's colours, which most colour-blind readers tell apart; always with another line style or marker, too.
BLUE, ORANGE, GREEN, RED, PURPLE, SKY, YELLOW, BLACK = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#D55E00",
    "#CC79A7",
    "#56B4E9",
    "#F0E442",
    "#000000",
)
COLOURS = [BLUE, ORANGE, GREEN, RED, PURPLE, SKY, BLACK]
DASHES = ["-", "--", "-.", ":"]
# The same in every notebook; the names are the store's, and `none` is time without a regime.
REGIMES = {
    "bull": GREEN,
    "bear": RED,
    "sideways": SKY,
    "high_vol": ORANGE,
    "low_vol": YELLOW,
    "crisis": BLACK,
    "recovery": PURPLE,
    "unknown": "0.6",
    "none": "0.85",
}

plt.rcParams.update(
    {
        "figure.figsize": (11, 4.2),
        "figure.dpi": 100,
        "figure.constrained_layout.use": True,
        "axes.grid": True,
        "grid.alpha": 0.25,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.titlelocation": "left",
        "axes.prop_cycle": plt.cycler(color=COLOURS),
        "legend.frameon": False,
        "legend.fontsize": "small",
    }
)


def missing(what: str) -> None:
    """Says what a lake lacks, and so what is left out."""
    print(f"missing: {what}")


def read(dataset: str) -> pl.DataFrame:
    """A dataset's committed version; decimals exact, words as text. One that isn't there is empty, and said to be missing."""
    if not LAKE.is_dir():
        raise SystemExit(f"there is no lake at {LAKE}; run `make demo`, or set HITHERTO_LAKE")
    columns = COLUMNS[dataset]
    if not (LAKE / dataset / "_delta_log").is_dir():
        missing(f"the lake has no dataset {dataset}")
        return pl.DataFrame(schema=columns)
    # As pl.read_delta does, but for folders with a space or an umlaut in their names, which that does not find.
    table = QueryBuilder().register("t", DeltaTable(str(LAKE / dataset)))
    frame = pl.DataFrame(table.execute("SELECT * FROM t").read_all())
    frame = frame.with_columns(pl.col(pl.Categorical).cast(TEXT))
    frame = frame.with_columns(pl.lit(None, dtype=dtype).alias(name) for name, dtype in columns.items() if name not in frame.columns)
    if frame.is_empty():
        missing(f"the dataset {dataset} is empty")
    return frame


def trading_clock(times: pl.Series) -> pl.DataFrame:
    """Distinct times with their place in line: an axis without nights and weekends."""
    return pl.DataFrame({"time": times.drop_nulls().unique().sort()}).with_row_index("place")


def day_ticks(axes: plt.Axes, clock: pl.DataFrame, most: int = 8) -> None:
    """Marks where days begin on an axis of places in line."""
    days = clock.group_by(pl.col("time").dt.date().alias("day")).agg(pl.col("place").min()).sort("place")
    days = days.gather_every(-(-days.height // most) if days.height else 1)
    axes.set_xticks(days["place"].to_list(), [f"{day:%b %d}" for day in days["day"]])

"""Records at the edges, for after the demo: a day's first and last microsecond, the leap day, every digit of a decimal, text that is
not ASCII, NULLs."""

import json
from datetime import date

# The last leap year that is over: the store takes no record that is more than ten years old.
LEAP = (date.today().year - 1) // 4 * 4
# Pairs that lie a microsecond apart and on two days, long before the demo's; the last is yet on February's last day in UTC.
TIMES = [
    f"{LEAP - 1}-12-31T23:59:59.999999Z",
    f"{LEAP}-01-01T00:00:00Z",
    f"{LEAP}-02-28T23:59:59.999999Z",
    f"{LEAP}-02-29T00:00:00Z",
    f"{LEAP}-02-29T23:59:59.999999Z",
    f"{LEAP}-03-01T00:00:00.000001Z",
    f"{LEAP}-03-01T04:29:59.999999+04:30",
]
# Twenty digits before the point and eighteen after it, and the least there is.
LARGE, LEAST = "12345678901234567890.123456789012345678", "0.000000000000000001"
WORDS = {"word": "Ω, „ü“ and 漢字", "exact": 0.1, "none": None}


def lines() -> dict[str, str]:
    """Newline-delimited JSON by kind of record, as `hitherto ingest` names them."""
    made: dict[str, list[dict]] = {
        "module": [{"name": "spark-größe", "version": "1.0", "config": WORDS}],
        "regime-state": [{"regime_id": "spark-regime", "regime": "bull", "confidence": 0.75, "classified_by": "spark-größe", "proposed_at": TIMES[3]}],
        "module-execution": [],
        "health-check": [],
        "signal": [],
        "proposal": [],
        "risk-evaluation": [],
        "order-event": [],
        "portfolio-snapshot": [],
    }
    module = "spark-größe"
    for n, time in enumerate(TIMES):
        proposal, order = f"spark-proposal-{n}", f"spark-order-{n}"
        made["module-execution"].append({"started_at": time, "module": module, "duration_ms": n / 3, "success": n % 2 == 0, "details": WORDS})
        made["health-check"].append({"checked_at": time, "module": module, "status": "healthy", "error_count": n, "response_time_ms": None})
        made["signal"].append({"emitted_at": time, "module": module, "kind": "größe", "score": -n / 7, "payload": WORDS})
        made["proposal"].append({"proposal_id": proposal, "module": module, "proposed_at": time, "asset": "Ω", "payload": WORDS})
        made["risk-evaluation"].append(
            {"evaluated_at": time, "proposal_id": proposal, "module": module, "risk_level": "low", "verdict": "approved", "flags": [None, WORDS]}
        )
        event = {"event_at": time, "order_id": order, "proposal_id": proposal, "asset": "Ω", "side": "buy"}
        quantity = LARGE if n == 0 else LEAST
        made["order-event"].append({**event, "event_id": f"{order}-1", "event_type": "submitted", "quantity": quantity})
        made["order-event"].append(
            {**event, "event_id": f"{order}-2", "event_type": "fill", "last_quantity": quantity, "last_price": "0.1", "commission": LEAST}
        )
        made["portfolio-snapshot"].append(
            {"taken_at": time, "positions": {"Ω": quantity}, "cash_balance": f"-{LEAST}", "total_value": quantity, "reason": "größe"}
        )
    return {record: "".join(json.dumps(line) + "\n" for line in rows) for record, rows in made.items()}

# Run in the notebook's kernel after its last cell.
from decimal import Decimal, getcontext

getcontext().prec = 60
assert sum(orders["quantity_of_fills"], Decimal(0)) == sum(fills["quantity"], Decimal(0))
assert differing.is_empty() or events["order_id"].n_unique() < orders.height, differing

# Once more without this notebook's fold: orders without corrections, straight from the events.
corrected = set(events.filter(pl.col("event_type").is_in(["fill_corrected", "fill_voided"]))["order_id"])
total: dict[str, Decimal] = {}
for order_id, quantity in events.filter(pl.col("event_type") == "fill").select("order_id", "last_quantity").iter_rows():
    total[order_id] = total.get(order_id, Decimal(0)) + quantity
for order_id, filled in orders.select("order_id", "filled_quantity").iter_rows():
    assert order_id in corrected or order_id in set(differing["order_id"]) or total.get(order_id, 0) == filled, order_id

# Of three fills one is corrected twice (quantity, then price), one voided, one stands: the latest correction counts, and only as far as it says.
example = pl.DataFrame(
    [
        ("a", "1", 1, "fill", "10", "100", "1", None),
        ("a", "2", 2, "fill", "5", "101", "1", None),
        ("a", "3", 3, "fill", "7", "102", None, None),
        ("a", "4", 4, "fill_corrected", "8", "99", None, "1"),
        ("a", "5", 5, "fill_corrected", None, "98", None, "1"),
        ("a", "6", 6, "fill_voided", None, None, None, "2"),
        ("b", "7", 7, "fill_voided", None, None, None, "3"),
    ],
    schema=["order_id", "event_id", "sequence", "event_type", "last_quantity", "last_price", "commission", "ref_event_id"],
    orient="row",
).with_columns(pl.col("last_quantity", "last_price", "commission").cast(EXACT), event_at=pl.lit(None, dtype=pl.Datetime("us", "UTC")))
example = fold(example).select("event_id", pl.col("quantity", "price", "commission").cast(pl.Float64)).sort("event_id").rows()
assert example == [("1", 10.0, 98.0, 1.0), ("3", 7.0, 102.0, 0.0)], example

assert outcome["orders"].sum() == orders.height
assert (outcome.select(pl.sum_horizontal(part.replace(" ", "_") for part in PARTS)).to_series() == outcome["orders"]).all()
for rates in [outcome["filled_share"], waiting["touched_rate"], waiting["whole_rate"]]:
    assert rates.drop_nulls().is_between(0, 1).all(), rates
assert (waiting["whole_rate"] <= waiting["touched_rate"]).all()
assert (sent["first_minutes"] <= sent["whole_minutes"]).drop_nulls().all() and (sent["first_minutes"].drop_nulls() >= 0).all()

assert slippage["fills"].sum() == fills.height
for what in ["arrival_bp", "bar_bp"]:
    assert (slippage[f"{what}_low"] <= slippage[f"{what}_high"]).drop_nulls().all()
# Over all, the mean is the same as one made of sums.
known = judged.drop_nulls("arrival_bp")
if known.height:
    assert abs(weighted_mean(judged, "arrival_bp")[0] - (known["arrival_bp"] * known["notional"]).sum() / known["notional"].sum()) < 1e-9
    assert weighted_mean(judged, "arrival_bp") == weighted_mean(judged, "arrival_bp")
# A buy at 101 decided at 100 costs 100 bp, a sell gains them.
example = pl.DataFrame({"side": ["buy", "sell"], "price": [101.0, 101.0]}).select(sign * (pl.col("price") / 100 - 1) * 1e4).to_series()
assert abs(example[0] - 100) < 1e-9 and abs(example[1] + 100) < 1e-9

if by_asset.height:
    assert abs(by_asset["total"].sum() - sum(shortfall[cost].sum() for cost in COSTS)) < 1e-6
    # The slippage of the fills is that of the reports, if no fill lacks its price.
    one = judged.filter(pl.col("order_id").is_in(shortfall["order_id"].implode()))
    of_fills = one.select((sign * (pl.col("price_f") - pl.col("arrival_f")) * pl.col("quantity_f")).sum()).item()
    assert abs(of_fills - shortfall["slippage"].sum()) < 0.01, (of_fills, shortfall["slippage"].sum())

# The demo's orders are limits 4 bp from the close they were decided at (prices to four places), filled within their bar.
paper = judged.filter(pl.col("broker") == "paper")
if paper["order_id"].str.starts_with("demo-order-").any():
    assert differing.is_empty() and paper["arrival_bp"].null_count() == paper["bar_bp"].null_count() == 0
    at_decision = proposals.join(bars, left_on=[pl.col("proposed_at").dt.truncate("1m"), "arrival"], right_on=["end", "close"], how="anti")
    assert at_decision.is_empty(), at_decision
    assert 3 < paper["arrival_bp"].max() <= 4.1 and paper["arrival_bp"].n_unique() > 10, paper["arrival_bp"].describe()
    assert not paper["outside_the_bar"].any(), paper.filter("outside_the_bar")
    assert markouts.filter(pl.col("what") == "after a fill")["orders"].max() > 10

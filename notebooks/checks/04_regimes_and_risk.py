# Run in the notebook's kernel after its last cell.
from decimal import Decimal, getcontext

getcontext().prec = 60
# Known by others: 20 exceedances in 252 days at 5 % make 3.91 (J.P. Morgan in 1998; Jorion, Value at Risk, ch. 6).
assert abs(kupiec(252, 20, 0.05)[0] - 3.91) < 0.005, kupiec(252, 20, 0.05)
# Kupiec's table of what is not rejected at 1 %: below 7 of 255, 2 to 10 of 510, 5 to 16 of 1,000.
assert not_rejected(255, 0.01)[1] == 6 and not_rejected(510, 0.01) == (2, 10) and not_rejected(1000, 0.01) == (5, 16)
# As many as foretold make 0; none at all -2 n ln(1 - p); the p value is that of a chi-squared variable with one degree.
assert kupiec(200, 2, 0.01) == (0.0, 1.0) and abs(kupiec(250, 0, 0.01)[0] + 500 * math.log(0.99)) < 1e-9
assert abs(math.erfc(math.sqrt(3.841458820694124 / 2)) - 0.05) < 1e-12
assert abs(sum(chance(250, x, 0.01) for x in range(251)) - 1) < 1e-9
# The text says: one in four, one in ten.
assert abs(power(250, 0.01, 0.02) - 0.24) < 0.01 and abs(power(250, 0.01, 0.01) - 0.095) < 0.01

assert by_regime["returns"].sum() == returns.height
if returns.height:
    assert abs(by_regime["share_of_time"].sum() - 1) < 1e-12 and by_regime["up_rate"].drop_nulls().is_between(0, 1).all()
    grown = float(snapshots["total_value"][-1] / snapshots["total_value"][0])
    assert abs((1 + by_regime["total_pct"] / 100).product() / grown - 1) < 1e-9
# Nothing is credited to a regime before it was in force or after: each return against every period.
periods = {row["regime_id"]: row for row in in_force.iter_rows(named=True)}
for at, regime_id in labelled.select("taken_at", "regime_id").iter_rows():
    holds = [k for k, r in periods.items() if r["effective_from"] <= at and (r["effective_until"] is None or at < r["effective_until"])]
    assert holds == ([regime_id] if regime_id else []), (at, regime_id, holds)

for row in kept.iter_rows(named=True):
    assert 0 <= row["exceeded"] <= row["forecasts"], row
    assert row["exceeded_rate"] is None or 0 <= row["exceeded_rate"] <= 1 and row["LR"] >= 0 and 0 <= row["p"] <= 1, row
# The actual losses once more, in decimals.
values = dict(snapshots.select("taken_at", "total_value").iter_rows())
times = sorted(values)
after = dict(zip(times, times[1:]))
again = sum(1 - values[after[at]] / values[at] > Decimal(var) for at, var in tested.select("taken_at", "var").iter_rows())
assert again == kept["exceeded"][0], (again, kept)
# Without trades, what the positions lost is what the account lost, to the fourth place of prices.
if tested["as_held"].null_count() < tested.height:
    apart = (tested["as_held"] - tested["actual"]).abs()
    assert apart.median() < 1e-6, apart.describe()

assert exceeded_by_regime["exceeded"].sum() == kept["exceeded"][0] and exceeded_by_regime["forecasts"].sum() == kept["forecasts"][0]

if snapshots["snapshot_id"].str.starts_with("demo-").any():
    assert said and LEVEL == 0.99 and HORIZON_MINUTES == 5 and kept["forecasts"].min() > 10, kept
    # Made of the bars before it, the demo's value at risk is exceeded now and then, and not often.
    assert 0 < kept["exceeded"][1] < 5 * kept["expected"][1], kept

# Run in the notebook's kernel after its last cell.
assert not latency.height or latency["runs"].sum() == runs["duration_ms"].drop_nulls().len()
for row in latency.iter_rows(named=True):
    assert 0 <= row["p50_ms"] <= row["p95_ms"] <= row["p99_ms"] <= row["max_ms"], row
    assert (row["p99_low_ms"] or 0) <= row["p99_ms"] <= (row["p99_high_ms"] or row["max_ms"]), row

# Conover's bounds of the median of 16 values: normal approximation, ranks 4 and 13.
assert percentile_bounds(np.arange(1.0, 17.0), 0.5) == (4.0, 13.0)

for row in failures.iter_rows(named=True):
    of = runs.filter(pl.col("module") == row["module"])
    assert row["runs"] == of.height and row["failures"] == (~of["success"]).sum(), row
    assert row["failures_in_bursts"] <= row["failures"] and (row["failure_rate"] is None or 0 <= row["failure_rate"] <= 1), row
for row in found_bursts.iter_rows(named=True):
    window = runs.filter((pl.col("module") == row["module"]) & pl.col("started_at").is_between(row["from"], row["until"]))
    assert row["failures"] == (~window["success"]).sum() > row["expected"] and 0 < row["p"] <= LEVEL, row

# Eight failures in a row among one in a hundred are a burst, and nothing else is; evenly spaced ones are none.
record = np.zeros(1000, bool)
record[::100] = True
record[430:438] = True
assert [burst[:3] for burst in bursts(record)] == [(430, 437, 8)], bursts(record)
record[430:438] = False
assert bursts(record) == [] and bursts(np.ones(50, bool)) == []
# By hand: 8 of 18 failures in 8 of 1,000 runs, of which 0.144 are expected.
ratio, _, count, expects = best_window(np.flatnonzero(np.r_[record[:430], np.ones(8, bool), record[438:]])[None, :], 18, 1000)
assert count[0] == 8 and abs(expects[0] - 0.144) < 1e-12 and abs(ratio[0] - (8 * math.log(8 / 0.144) + 10 * math.log(10 / 17.856))) < 1e-9

for row in rhythm.iter_rows(named=True):
    assert row["checks"] == checks.filter(pl.col("module") == row["module"]).height, row
    assert row["healthy_rate"] is None or 0 <= row["healthy_rate"] <= 1, row
    assert row["usual_gap_min"] is None or 0 <= row["usual_gap_min"] <= row["longest_gap_min"], row
assert silences.is_empty() or silences["usual_gaps"].min() > SILENT_GAPS

# The demo keeps quiet about one module for six rounds of checks: it, and no night, is a silence.
if runs["execution_id"].str.starts_with("demo-").any() and rhythm["checks"].max() >= 50:
    found = silences.select("module", pl.col("usual_gaps").round()).rows()
    assert found == [("seasonality", 7.0)], found
    assert found_bursts["module"].unique().to_list() == ["sentiment"], found_bursts

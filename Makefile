# `make help` lists what there is.
.DEFAULT_GOAL := help
.PHONY: help setup demo notebook test test-spark fault bench lint

help: ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

setup: ## Install what demo and test need, or say what is missing
	@scripts/setup.sh test

# BARS=DIR replays a folder of CSV files in place of made-up bars; LAKE=DIR puts the lake elsewhere.
LAKE ?= lake
demo: ## A whole trading day through the whole pipe (BARS=DIR, LAKE=DIR)
	@scripts/setup.sh
	cargo build --quiet --bin hitherto
	@target/debug/hitherto demo $(if $(BARS),--bars "$(BARS)") --lake "$(LAKE)"

notebook: ## Run the notebooks on the demo's lake and leave their pictures in target/notebooks
	@scripts/setup.sh notebook
	@.venv/bin/python notebooks/check.py "$(LAKE)" target/notebooks

test: ## Everything: both engines, the command, the notebooks
	@scripts/setup.sh test
	cargo test --workspace
	cargo check --quiet --no-default-features --lib
	@heavy="$$(cargo tree --package hitherto --no-default-features --edges normal --prefix none | grep -E '^(clap|arrow|parquet|deltalake-core) ' || true)"; \
	test -z "$$heavy" || { echo "the library without the command must not compile $$heavy"; exit 1; }
	rm -rf target/test-lake && env -u DATABASE_URL -u PGHOST -u PGDATABASE target/debug/hitherto demo --lake target/test-lake > target/test-demo.txt
	.venv/bin/python notebooks/check.py target/test-lake target/notebooks

# DELTA=maven reads with Delta's connector, fetched from Maven Central; DELTA=a.jar,b.jar with jars that are here.
test-spark: ## Spark reads the lake, SQL the database it came from: the same answers (DELTA=maven)
	@scripts/setup.sh spark
	cargo build --quiet --bin hitherto
	@.venv-spark/bin/python -B tests/spark/check.py target/debug/hitherto target/spark $(DELTA)

fault: ## The long fault suite: killed servers and writers, cut and stalled connections, full disks
	@scripts/setup.sh test
	HITHERTO_FAULT=long cargo test --test it -- fault:: --nocapture --test-threads=1

# HITHERTO_BENCH_LONG=1 adds the writer's run to 50,000,000 rows.
bench: ## Writer against psql and Python's drivers, export against COPY, DuckDB and ADBC, a year's lake after one row, lines of JSON, percentiles, orders' fold, trails
	@scripts/setup.sh test
	@scripts/setup.sh bench
	cargo bench --bench ingest --bench lines --bench export --bench pipe --bench order --bench trail --bench lake

lint: ## Format, clippy, documentation, licences
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --quiet --workspace --no-deps
	@if cargo deny --version >/dev/null 2>&1; then cargo deny check bans licenses sources; \
	else echo "cargo-deny is missing, licences were not checked; install it with: cargo install --locked cargo-deny"; fi

# Needs Python 3.11 or newer and make; everything else goes into .venv, at the versions of constraints.txt.
#   make demo        sixty days of a credit model with planted incidents: found, reported, drawn
#   make test        the tests of a few minutes            make test-all   the slow ones too
#   make test-spark  Spark and the warehouses' dialects, in an environment of their own (needs Java 17; 700 MB)
#   make lint        style and types                       make wheel      dist/*.whl
#   make calibrate  false alarms and power of the verdicts, beside the peers' defaults (minutes)
#   make delay       how well performance on late labels holds, to its table in docs/labels.md (minutes)
#   make bench       our whole job beside its floors and its peers, to a table (about ten minutes)
#   make bench-large the same with 10,000,000 rows (25 GB of disk, half an hour)
#   make lock        new constraints.txt                   make clean      remove what is made here
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PIP := $(BIN)/python -m pip --disable-pip-version-check
NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))
TOO_OLD := Python 3.11 or newer is needed, and $(PYTHON) is not. Name one that is: make PYTHON=/path/to/python3.12

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help install demo test test-all test-spark lint calibrate delay bench bench-large wheel lock clean

help:
	@sed -n 's/^#   //p' Makefile

install: $(READY)

# constraints.txt is complete, so nothing is left to resolve (--no-deps) and `pip check` says if that was not so.
# Hashes hold for the dependencies only: the project itself goes in after them, built by the pinned hatchling.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c '$(NEW_ENOUGH)' || { echo '$(TOO_OLD)' >&2; exit 1; }
	@test -x $(BIN)/python && $(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/python -c '$(NEW_ENOUGH)' || { echo '$(VENV) is of an older Python; run make clean' >&2; exit 1; }
	@echo "installing into $(VENV) (once; a minute or two)"
	@$(PIP) install --quiet --no-deps --require-hashes -r constraints.txt
	@$(PIP) install --quiet --no-deps --no-build-isolation -e .
	@$(PIP) check --quiet
	@touch $@

demo: $(READY)
	$(BIN)/monitor demo

# Two at a time, and whole files, as what the tests of a file share is made once. Among the slow ones are measurements,
# which want the machine to themselves.
test: $(READY)
	OPENBLAS_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile -m "not slow"

test-all: $(READY)
	$(BIN)/pytest

# PySpark and the warehouses' packages are no dependency of the rest: they go into an environment beside, on top of what
# is pinned.
SPARK_VENV := .venv-spark
SPARK_READY := $(SPARK_VENV)/.ready
$(SPARK_READY): pyproject.toml constraints.txt
	@$(PYTHON) -c '$(NEW_ENOUGH)' || { echo '$(TOO_OLD)' >&2; exit 1; }
	@test -x $(SPARK_VENV)/bin/python || $(PYTHON) -m venv $(SPARK_VENV)
	@echo "installing into $(SPARK_VENV) (once; some minutes)"
	@$(SPARK_VENV)/bin/python -m pip --disable-pip-version-check install --quiet --no-deps --require-hashes -r constraints.txt
	@$(SPARK_VENV)/bin/python -m pip --disable-pip-version-check install --quiet --no-deps --no-build-isolation -e .
	@$(SPARK_VENV)/bin/python -m pip --disable-pip-version-check install --quiet '.[spark,snowflake,bigquery,databricks,trino,redshift]'
	@touch $@

test-spark: $(SPARK_READY)
	$(SPARK_VENV)/bin/pytest -o timeout=900 tests/test_spark.py tests/test_million_rows.py tests/test_counting_exact.py

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

calibrate: $(READY)
	$(BIN)/python benchmarks/calibrate.py

delay: $(READY)
	OPENBLAS_NUM_THREADS=1 $(BIN)/python -m benchmarks.delay --write
	OPENBLAS_NUM_THREADS=1 $(BIN)/python -m benchmarks.lateness --write
	$(BIN)/python -m benchmarks.delay_scores --write
	$(BIN)/python -m benchmarks.delay_tables --write

bench: $(READY)
	$(BIN)/python -m benchmarks --docs docs/performance.md

bench-large: $(READY)
	$(BIN)/python -m benchmarks --rows 1000000 10000000 --only-rows --peers-up-to 0 --docs docs/performance.md \
	  --block bench-large --json benchmarks/results-large.json

wheel: $(READY)
	$(BIN)/python -m hatchling build -t wheel

# In a throw-away environment, so that the tool is no dependency. Registry addresses are kept out of the result.
lock: $(READY)
	@tools=$$(mktemp -d) && trap 'rm -rf "$$tools"' EXIT && \
	$(BIN)/python -m venv "$$tools" && "$$tools/bin/pip" install --quiet pip-tools && \
	"$$tools/bin/pip-compile" --quiet --upgrade --generate-hashes --allow-unsafe --strip-extras --no-annotate --no-header \
	  --no-emit-index-url --no-emit-find-links --no-emit-trusted-host \
	  --extra postgres --extra dev --output-file constraints.txt pyproject.toml

clean:
	rm -rf $(VENV) $(SPARK_VENV) build dist demo .pytest_cache .mypy_cache .ruff_cache .hypothesis

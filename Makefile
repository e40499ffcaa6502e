# What a machine with Python 3.11 or later, pip and make needs, and nothing else. `make help` lists it.

VENV ?= .venv
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := $(VENV)/bin
READY := $(VENV)/.installed

# make demo ROWS=20000 WHICH=mariadb-to-pg
WHICH ?= pg-to-pg
ROWS ?=
# make test TESTS=tests/unit; make test PYTEST="-k toast -x"
TESTS ?= tests
PYTEST ?=
# make bench BENCH="--only decode lag --runs 5"
BENCH ?=

.DEFAULT_GOAL := help
.PHONY: help dev demo test check lint types imports bench bench-quick clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 20

dev: $(READY) ## everything installed into .venv, crossfade itself editable
	@echo "ready: . $(BIN)/activate && crossfade --help"

# The lock file has the sha256 sum of every package; what is not in it is not installed. hatchling is in it too, so building crossfade
# itself brings nothing else.
$(READY): requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "no Python 3.11 or later found: install one, or say make PYTHON=/path/to/python" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { echo "python's venv module is missing (Debian: apt install python3-venv)" >&2; exit 1; }
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-deps --no-build-isolation --editable .
	@touch $@

demo: $(READY) ## a whole migration on this machine, under load: make demo ROWS=20000 WHICH=mariadb-to-pg
	$(BIN)/crossfade demo $(WHICH) $(if $(ROWS),--rows $(ROWS))

check: lint types imports ## what needs no server: lint, format, types, import rules

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --diff --quiet .

types: $(READY)
	$(BIN)/mypy

imports: $(READY)
	$(BIN)/lint-imports --no-cache

test: $(READY) ## every test, with real servers: make test TESTS=tests/unit PYTEST=-x
	@.ci/system-packages
	$(BIN)/python -m pytest $(TESTS) $(PYTEST)

bench: $(READY) ## the benchmarks; writes benchmarks/results/latest.json: make bench BENCH="--only apply"
	@test -d benchmarks || { echo "this version has no benchmarks folder" >&2; exit 1; }
	$(BIN)/python -m benchmarks $(BENCH)

bench-quick: $(READY) ## some of them in three minutes: small sizes, one run; the results file stays as it is
	$(BIN)/python -m benchmarks --quick --out benchmarks/results/quick.json $(BENCH)

clean: ## .venv and every cache of this folder; downloads in ~/.cache/crossfade stay
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

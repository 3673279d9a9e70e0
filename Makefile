# The commands of this project. `make` alone lists them.
SHELL := /bin/sh
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# The time of everything in an archive is that of its commit; outside of a repository the build tool has a time of its own.
EPOCH = $(addprefix SOURCE_DATE_EPOCH=,$(or $(SOURCE_DATE_EPOCH),$(shell git log -1 --format=%ct 2>/dev/null)))

.DEFAULT_GOAL := help
.PHONY: help run test test-fast test-long test-all fuzz storm soak docs screenshots bench bench-peers profile check audit tools format dist lock clean

help:  ## list the commands
	@sed -n 's/^\([a-z][a-z-]*\):.*## /\1|/p' $(MAKEFILE_LIST) | awk -F'|' '{printf "  make %-11s %s\n", $$1, $$2}'

run: $(VENV)/run.stamp  ## run the whole system on this machine, with a sandbox vendor unless .env holds an API key
	@exec $(BIN)/headshot-mirror up --with-parent

# More processes than processors, because many tests wait: for a server, a lease, a timeout. Each compiles all tests
# anew where the environment forbids to keep bytecode: that takes it as long as a hundred tests.
PYTEST = PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest $(addprefix --randomly-seed=,$(SEED)) --dist loadgroup -n $(or $(JOBS),$(shell echo $$(($$(getconf _NPROCESSORS_ONLN) + 5))))

test: $(VENV)/dev.stamp  ## run the tests but the long ones, in parallel (JOBS=4), on servers that they start (SEED=1 repeats an order)
	@$(PYTEST) -m "not long"

test-fast: $(VENV)/dev.stamp  ## run the tests that need no server, in seconds
	@$(PYTEST) tests/unit

test-long: $(VENV)/dev.stamp  ## run the long tests
	@$(PYTEST) -m long

test-all: $(VENV)/dev.stamp  ## run every test in one go, as CI does: none that a guarantee names may be skipped
	@$(PYTEST) --guarantees

fuzz: SEED := $(or $(SEED),$(shell od -An -N4 -tu4 /dev/urandom | tr -d ' '))
fuzz: $(VENV)/dev.stamp  ## search for other examples with ten times as many, at random (SEED=1 the same ones again)
	@echo "make fuzz SEED=$(SEED)"
	@$(PYTEST) -m hypothesis --hypothesis-profile search --hypothesis-seed $(SEED) --timeout 1800

storm: $(VENV)/dev.stamp  ## run the long storm: a hostile vendor, random kills, then no difference (SEEDS=25)
	@$(BIN)/python -m tests.faults.storm --seeds $(or $(SEEDS),25)

soak: $(VENV)/dev.stamp  ## load a deployment for ten minutes while everything is struck again and again (SECONDS=600)
	@$(BIN)/python -m tests.faults.soak --seconds $(or $(SECONDS),600)

docs: $(VENV)/docs.stamp  ## build docs/ into site/; a link that leads nowhere is an error
	@$(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going --nitpicky --fresh-env --builder html docs site
	@echo "site/index.html"

screenshots: $(VENV)/dev.stamp  ## make the pictures of the documents anew, of a system that runs meanwhile (PICTURES="up status")
	@$(BIN)/python -m docs.screenshots $(PICTURES)

bench: $(VENV)/dev.stamp  ## measure webhooks, rows, latency, pulls and growth beside floors and peers, and write bench/RESULTS.md (BENCH=webhooks)
	@$(BIN)/python -m bench $(BENCH)

bench-peers:  ## install what the benches compare with, into .bench; a peer that is missing is said to be missing
	@$(PYTHON) -m venv .bench
	@.bench/bin/python -m pip install -q --disable-pip-version-check -r bench/peers/requirements.txt
	@cp bench/peers/package.json .bench/package.json
	@npm install --silent --no-audit --no-fund --no-package-lock --prefix .bench

profile: $(VENV)/dev.stamp .bench/bin/py-spy  ## record flame graphs of a bench and of all that it starts, into .bench (PROFILE=webhooks, rows, pulls)
	@.bench/bin/py-spy record --subprocesses --nonblocking --rate 50 --format speedscope \
	  --output .bench/$(or $(PROFILE),rows).speedscope.json -- $(BIN)/python -m bench.$(or $(PROFILE),rows) --rounds 1

check: $(VENV)/dev.stamp  ## run every gate: ruff, mypy, import-linter, migrations against tables
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m tests.check_migrations

audit: $(VENV)/dev.stamp  ## ask for known vulnerabilities of the pinned packages; says so where nobody can be asked
	@$(BIN)/python -m tests.audit

INSTALL = apt-get install -qq -y --no-install-recommends

tools:  ## install what some tests and `make screenshots` use, on Debian, as root; without it these tests are skipped
	apt-get update -qq
	$(INSTALL) nginx-light openssl pgbouncer prometheus systemd > /dev/null
	$(INSTALL) chromium-headless-shell > /dev/null || $(INSTALL) chromium > /dev/null || command -v google-chrome > /dev/null

format: $(VENV)/dev.stamp  ## put the code into the project's form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

dist: $(VENV)/run.stamp  ## build the wheel and the sdist into dist/; the same commit gives the same bytes
	@rm -rf dist
	@$(EPOCH) $(BIN)/python -m hatchling build -d dist
	@$(BIN)/python -m pip hash dist/*

lock:  ## pin every package anew, with hashes and without download addresses (needs uv)
	uv pip compile -q --universal -p 3.11 --generate-hashes --no-header --upgrade --extra local --group build pyproject.toml -o requirements/run.txt
	uv pip compile -q --universal -p 3.11 --generate-hashes --no-header --upgrade --extra local --group build --group dev -c requirements/run.txt pyproject.toml -o requirements/dev.txt
	uv pip compile -q --universal -p 3.11 --generate-hashes --no-header --upgrade -c requirements/dev.txt --group docs -o requirements/docs.txt
	uv pip compile -q --universal -p 3.11 --generate-hashes --no-header --upgrade -c requirements/run.txt pyproject.toml -o requirements/serve.txt
	uv pip compile -q --universal -p 3.11 --generate-hashes --no-header --upgrade -c requirements/run.txt --group build -o requirements/build.txt

clean:  ## remove what the commands made, the kept data of `make run` excepted
	rm -rf $(VENV) dist build site .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; found: $$($(PYTHON) --version 2>&1). Try: make PYTHON=python3.12 …" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
	  { rm -rf $(VENV); echo "This Python cannot make virtual environments (on Debian: apt install python3-venv)." >&2; exit 1; }

.bench/bin/py-spy: bench/profiler.txt
	@$(PYTHON) -m venv .bench
	@.bench/bin/python -m pip install -q --disable-pip-version-check -r bench/profiler.txt
	@touch $@

# The package itself is installed from this folder, without a second resolver and without its build tools from outside.
$(VENV)/run.stamp: requirements/run.txt pyproject.toml | $(BIN)/python
	@echo "Installing the pinned packages into $(VENV) (once) …"
	@$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements/run.txt
	@$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/dev.stamp: requirements/dev.txt $(VENV)/run.stamp
	@$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@touch $@

$(VENV)/docs.stamp: requirements/docs.txt $(VENV)/run.stamp
	@$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements/docs.txt
	@touch $@

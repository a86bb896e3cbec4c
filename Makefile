# The commands of this project; `make` alone lists them. Python 3.11 or newer is all that must be installed.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
MAKEFLAGS += --no-print-directory

EVENTS ?= 200000
SOURCE ?= files
WAREHOUSE ?= warehouse$(if $(filter-out files,$(SOURCE)),-$(SOURCE))
LANDING ?= landing
PORT ?= 3000
WORKERS ?= 2
PYTEST_ARGS ?=
CHAOS_SECONDS ?= 40
CHAOS_SEED ?= 20240129
BENCH_ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
CREATED := $(VENV)/created
RUN_READY := $(VENV)/run-ready
DEV_READY := $(VENV)/dev-ready
BENCH_READY := $(VENV)/bench-ready
PEER_VENV := .venv-pypaimon
PEER_READY := $(PEER_VENV)/ready
COMPILE := $(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes \
	--no-header --no-annotate --no-strip-extras --no-emit-index-url --no-emit-find-links
COMPILE_OURS := $(COMPILE) pyproject.toml --group build
SCENARIOS := tests/scenarios/test_chaos_in_dagster.py tests/scenarios/test_kafka_demo.py
ROOMS = $(wildcard storage_engine lakehouse_assets lakehouse_demo lakehouse_cli)

.PHONY: help demo ui test pytest scenarios lint typecheck contracts definitions format bench lock setup clean

help: ## List the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(if $(filter kafka postgres,$(SOURCE)),$(DEV_READY),$(RUN_READY)) ## Run the main job to its end and check its figures [EVENTS=N SOURCE=files|kafka|mariadb|mysql|postgres WAREHOUSE=URL LANDING=DIR]
	@$(BIN)/lakehouse demo --events $(EVENTS) --source $(SOURCE) --warehouse "$(WAREHOUSE)" --landing "$(LANDING)"

ui: $(RUN_READY) ## Open Dagster's UI with the sensors on and the stream flowing [PORT=3000 WAREHOUSE=URL LANDING=DIR]
	@$(BIN)/lakehouse ui --port $(PORT) --events $(EVENTS) --warehouse "$(WAREHOUSE)" --landing "$(LANDING)"

test: lint typecheck contracts definitions pytest ## Run all checks and all tests but the scenarios

pytest: $(DEV_READY) ## Run the tests [WORKERS=2 PYTEST_ARGS=…]
	@$(BIN)/pytest --numprocesses $(WORKERS) --dist loadgroup $(PYTEST_ARGS)

scenarios: $(DEV_READY) ## Run the tests that want the machine alone: Dagster killed at random, the job on Kafka [CHAOS_SECONDS=40 CHAOS_SEED=N PYTEST_ARGS=…]
	@LAKEHOUSE_CHAOS_SECONDS=$(CHAOS_SECONDS) LAKEHOUSE_CHAOS_SEED=$(CHAOS_SEED) LAKEHOUSE_KAFKA_DEMO=1 \
		$(BIN)/pytest --numprocesses 0 --capture no --durations 0 $(SCENARIOS) $(PYTEST_ARGS)

lint: $(DEV_READY) ## Check style and format
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check

typecheck: $(DEV_READY) ## Check types
	@$(BIN)/mypy $(ROOMS)

contracts: $(DEV_READY) ## Check that imports go one way
	@$(BIN)/lint-imports

definitions: $(DEV_READY) ## Check that Dagster loads the assets
	@DAGSTER_HOME="$(CURDIR)" $(BIN)/dg check defs # where dagster.yaml says: no telemetry

format: $(DEV_READY) ## Format the code
	@$(BIN)/ruff check --fix
	@$(BIN)/ruff format

bench: $(BENCH_READY) $(PEER_READY) ## Run the benchmarks beside the peers [BENCH_ARGS="upsert --rounds 7"]
	@$(BIN)/python -m benchmarks $(BENCH_ARGS)

lock: $(DEV_READY) ## Resolve the dependencies anew into the lock files
	$(COMPILE_OURS) --output-file requirements.lock
	$(COMPILE_OURS) --group dev --all-extras --constraint requirements.lock --output-file requirements-dev.lock
	$(COMPILE_OURS) --group bench --constraint requirements-dev.lock --output-file requirements-bench.lock
	$(COMPILE) --group pyproject.toml:pypaimon --output-file requirements-pypaimon.lock

setup: $(DEV_READY) ## Build the environment of `make test` and nothing else

clean: ## Remove what was built: environment, caches, Dagster's state; warehouse and landing stay
	rm -rf $(VENV) $(PEER_VENV) .dagster .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(CREATED):
	@sh tools/create_venv.sh $(VENV)
	@touch $@

$(RUN_READY): requirements.lock pyproject.toml | $(CREATED)
	@sh tools/install_locked.sh $(VENV) $<
	@touch $@

$(DEV_READY): requirements-dev.lock pyproject.toml | $(CREATED)
	@sh tools/install_locked.sh $(VENV) $<
	@touch $@ $(RUN_READY)

$(BENCH_READY): requirements-bench.lock | $(DEV_READY)
	@sh tools/install_locked.sh $(VENV) $<
	@touch $@

# pypaimon needs older Arrow and Polars than we do.
$(PEER_READY): requirements-pypaimon.lock
	@sh tools/create_venv.sh $(PEER_VENV)
	@echo "Installing $< into $(PEER_VENV) …"
	@$(PEER_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-input --require-hashes --requirement $<
	@touch $@

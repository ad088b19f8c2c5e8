# The one door to every chore: `make` lists them. Needs GNU make, sh and Python 3.11 or newer.
# VENV=dir uses another environment than .venv, PYTHON=path another interpreter than the first that fits.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help run test fast check format lock lowest docs pictures bench-sampler bench-scheduling live-check clean

VENV ?= .venv
PYTHON ?=
ARGS ?= -P accum=4

setup = sh scripts/setup.sh "$(VENV)"
tool = "$(VENV)/bin/$(1)"
lock = requirements.lock

test fast check lowest docs bench-sampler bench-scheduling: export MLFLOW_DISABLE_TELEMETRY = true
test fast check lowest docs bench-sampler bench-scheduling: export DO_NOT_TRACK = true

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' Makefile

run: ## Train on MNIST, measured: mlflow run . -P accum=4 (ARGS="-P accum=8" for another)
	@$(setup) train,ui "$(PYTHON)"
	@bin=$$(cd "$(VENV)/bin" && pwd) && PATH="$$bin:$$PATH" mlflow run . --env-manager local $(ARGS)
	@echo
	@if [ -n "$${MLFLOW_TRACKING_URI:-}" ]; then \
	  echo "Where to look: the tracking server that MLFLOW_TRACKING_URI names."; \
	else \
	  echo "Where to look:"; \
	  echo "  $(VENV)/bin/mlflow ui     (runs are in ./mlflow.db)"; \
	  echo "  http://127.0.0.1:5000/#/experiments/0/runs?compareRunsMode=CHART&workflowType=machine_learning"; \
	fi

test: ## Run every test; the end of the output says what was skipped and why
	@$(setup) train,ui,dev "$(PYTHON)"
	@[ -n "$${MLFLOW_CARBON_DATA:-}" ] || echo "MLFLOW_CARBON_DATA is not set: tests on real data will be skipped."
	@$(call tool,python) -m pytest

fast: ## Run the tests that take less than two minutes together
	@$(setup) train,ui,dev "$(PYTHON)"
	@$(call tool,python) -m pytest -m "not slow"

check: ## Format, lint, types, layers: what must hold before a commit
	@$(setup) train,ui,dev "$(PYTHON)"
	$(call tool,ruff) format --check .
	$(call tool,ruff) check .
	$(call tool,mypy)
	$(call tool,lint-imports)

format: ## Format the code and mend what ruff can mend
	@$(setup) train,ui,dev "$(PYTHON)"
	$(call tool,ruff) format .
	$(call tool,ruff) check --fix .

docs: ## Write the generated reference pages again
	@$(setup) train,ui,dev "$(PYTHON)"
	$(call tool,python) docs/generate.py

pictures: ## Make the pictures of the docs again: two trainings and Chromium, some minutes
	@$(setup) train,ui,dev "$(PYTHON)"
	$(call tool,python) docs/screenshots.py

lock: ## Resolve requirements.lock again (for the Dockerfile)
	@$(setup) train,ui,dev "$(PYTHON)"
	@PATH="$(VENV)/bin:$$PATH" sh scripts/lock.sh $(lock)

lowest: ## Run the fast tests on the lowest version that each bound allows
	@$(setup) train,ui,dev "$(PYTHON)"
	@PATH="$(VENV)/bin:$$PATH" sh scripts/bounds.sh "$(VENV)/bin/python" lowest-direct

bench-scheduling: ## Score policies on the recorded grids of $MLFLOW_CARBON_DATA; about 3 minutes
	@$(setup) train,ui,dev "$(PYTHON)"
	$(call tool,python) benchmarks/scheduling.py

bench-sampler: ## Compare with five other meters, installed on the side: cost and error; about 25 minutes
	@$(setup) train,ui,dev "$(PYTHON)"
	$(call tool,python) benchmarks/sampler.py

live-check: ## Ask the real grid services what they say now (needs a network; no test does this)
	@$(setup) train,ui,dev "$(PYTHON)"
	$(call tool,python) tests/live_check.py

clean: ## Remove environments, caches and build output (never runs: mlflow.db and mlruns stay)
	rm -rf "$(VENV)" build dist *.egg-info .coverage .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Everything a developer or CI runs. `make help` lists the targets.
# Needs Python 3.11 or newer (make PYTHON=python3.12 ... to choose one), git and the network for the first setup only.

VENV ?= .venv
PYTHON ?= python3
# The experiment in which `mlflow run` makes its run: see docs/decisions/mlflow-run-and-experiments.md.
EXPERIMENT ?= dermonas/phantom
# Anything more for `mlflow run` (search, pipeline), pytest (test), `mlflow ui` (ui), or names of benchmarks (bench).
ARGS ?=

SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help setup search pipeline test lint bench ui clean

# Paths are quoted and no file is a make target, so that spaces in them are no matter.
BIN = $(VENV)/bin
# Names a finished setup: present exactly when the environment holds what the requirements say.
STAMP = $(VENV)/.ready-$(shell cat requirements.txt requirements-dev.txt | git hash-object --stdin | cut -c 1-12)

help:
	@echo 'make setup    create $(VENV) and install what search and test need'
	@echo 'make search   search on synthetic images; ARGS="-P trials=5 -P config=..." EXPERIMENT=dermonas/NAME'
	@echo 'make pipeline search, train, compare and register on synthetic images; ARGS and EXPERIMENT as for search'
	@echo 'make test     lint, types, import rules, tests: what CI runs'
	@echo 'make lint     the first three of these'
	@echo 'make bench    what things cost here, as ratios: printed, in benchmarks/out/, in MLflow; ARGS="search_step serving"'
	@echo 'make ui       browse the runs at http://127.0.0.1:5000'
	@echo 'make clean    remove caches; environment, data and runs stay'

setup:
	@if [ -f "$(STAMP)" ] && "$(BIN)/python" -c '' 2>/dev/null; then exit 0; fi; \
	set -e; \
	"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11) and f"python {sys.version.split()[0]} is too old, 3.11 is needed: make PYTHON=python3.11 ...")'; \
	if [ -f "$(VENV)/pyvenv.cfg" ] && ! "$(BIN)/python" -m pip --version >/dev/null 2>&1; then \
	    "$(PYTHON)" -m venv --clear "$(VENV)"; \
	elif [ ! -f "$(VENV)/pyvenv.cfg" ]; then \
	    "$(PYTHON)" -m venv "$(VENV)"; \
	fi; \
	rm -f "$(VENV)"/.ready-*; \
	echo 'installing into $(VENV): several GB, a few minutes the first time'; \
	"$(BIN)/python" -m pip install --quiet --no-input --disable-pip-version-check -r requirements-dev.txt; \
	touch "$(STAMP)"

# `mlflow run` starts "python": the environment's own must come first on PATH.
search pipeline: setup
	@PATH="$$(cd "$(BIN)" && pwd):$$PATH" mlflow run . -e $@ --env-manager local --experiment-name "$(EXPERIMENT)" $(ARGS)

lint: setup
	"$(BIN)/ruff" check .
	"$(BIN)/ruff" format --check .
	"$(BIN)/mypy"
	PYTHONPATH=. "$(BIN)/lint-imports" --no-logo

# One thread a worker: two workers share two cores.
test: lint
	OMP_NUM_THREADS=1 "$(BIN)/python" -m pytest -n 2 $(ARGS)

bench: setup
	@"$(BIN)/python" -m benchmarks $(ARGS)

ui: setup
	@"$(BIN)/mlflow" ui $(ARGS)

clean:
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache build dist *.egg-info
	find dermonas pipelines tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

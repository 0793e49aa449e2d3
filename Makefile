# Every target works on a fresh machine with Python 3.11+ and make: it first makes .venv and installs what it needs.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
OUT ?= demo-out
export OMP_NUM_THREADS ?= 1
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: help demo test test-long check format docs bench reproduce clean

help:  ## what there is to make
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.base: $(BIN)/python pyproject.toml constraints.txt
	$(BIN)/pip install -q -c constraints.txt -e .
	@touch $@

$(VENV)/.dev: $(BIN)/python pyproject.toml constraints.txt
	$(BIN)/pip install -q -c constraints.txt -e '.[dev]'
	@touch $@ $(VENV)/.base

$(VENV)/.docs: $(VENV)/.dev
	$(BIN)/pip install -q -c constraints.txt -e '.[docs]'
	@touch $@

demo: $(VENV)/.base  ## remove the clouds of a simulated place and say where to look
	$(BIN)/unclouded demo --out $(OUT)

test: $(VENV)/.dev  ## the tests, under 10 minutes on 2 cores
	$(BIN)/pytest -q -n 2 --dist worksteal -m "not long"

test-long: $(VENV)/.dev  ## the tests with their full numbers
	$(BIN)/pytest -q -n 2 --dist worksteal

check: $(VENV)/.dev  ## lint, format, types, imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

format: $(VENV)/.dev  ## put the code into shape
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/.docs  ## the pages, in site/
	$(BIN)/mkdocs build --strict -q

bench: $(VENV)/.dev  ## every benchmark at its quick size
	$(BIN)/python -m benchmarks

reproduce: $(VENV)/.dev  ## a paper's table with the data at hand: NAME=... [DATA=folder] [RUNS=folder]
	$(BIN)/python -m unclouded.reproduce $(NAME) $(if $(DATA),--data $(DATA)) $(if $(RUNS),--runs $(RUNS))

clean:  ## everything that can be made again
	rm -rf $(VENV) demo-out site build dist .pytest_cache .mypy_cache .ruff_cache

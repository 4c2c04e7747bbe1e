PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
RESULT ?=
RES ?= 1024
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help install compare check gate test readme clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(STAMP) ## create .venv and install into it, once

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("error: Python is too old (%d.%d); 3.11 or later; set PYTHON=..." % sys.version_info[:2] if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	@touch $@

compare: $(STAMP) ## run the comparison; RES=256 for another size, more options in ARGS
	$(BIN)/bagel-perf compare --res $(RES) $(ARGS)

check: $(STAMP) ## formatting, lint, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

gate: $(STAMP) ## hold counters and pictures to reports/expected, without a GPU
	$(BIN)/bagel-perf gate $(ARGS)

test: $(STAMP) ## all tests; ARGS="-k NAME" for some
	$(BIN)/python -m pytest $(ARGS)

readme: $(STAMP) ## write the tables of RESULT="reports/A reports/B" into README.md
	$(if $(RESULT),,$(error RESULT is missing; folders of results; make readme RESULT="reports/A reports/B"))
	$(BIN)/python -m bagel_perf.report.readme $(RESULT) README.md

clean: ## remove .venv and caches, never results
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache

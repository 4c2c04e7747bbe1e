PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
BROWSER_STAMP := $(VENV)/.installed-browser
DOCS_STAMP := $(VENV)/.installed-docs
AXE := $(VENV)/axe
RESULT ?=
RES ?=
ARGS ?=
TORCH ?=
BOUNDS ?= pinned

.DEFAULT_GOAL := help
.PHONY: help install compare check gate test test-upstream test-browser test-torch test-operators docs docs-commands docs-waits docs-results clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(STAMP) ## create .venv and install into it, once

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("error: Python is too old (%d.%d); 3.11 or later; set PYTHON=..." % sys.version_info[:2] if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	@touch $@

compare: $(STAMP) ## run the comparison; RES=256 for another size, more options in ARGS
	$(BIN)/bagel-perf compare $(if $(RES),--res $(RES)) $(ARGS)

check: $(STAMP) ## formatting, lint, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

gate: $(STAMP) ## hold counters and pictures to reports/expected, without a GPU
	$(BIN)/bagel-perf gate $(ARGS)

test: export PYTHONDONTWRITEBYTECODE :=
test: $(STAMP) ## all tests but those of test-upstream, in two processes; ARGS="-k NAME" for some, ARGS="-n 0" in one
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not upstream" $(ARGS)

test-upstream: $(STAMP) ## what is held to vLLM-Omni's own code: baseline and the example, where BAGEL_UPSTREAM has it
	$(BIN)/python -m pytest tests/bagel tests/examples -m upstream $(ARGS)

test-torch: export TORCH := $(TORCH)
test-torch: export BOUNDS := $(BOUNDS)
test-torch: export ARGS := $(ARGS)
test-torch: export PYTHON := $(PYTHON)
test-torch: ## the tests that depend on torch, and the gate, under TORCH=2.14.1, in an environment of its own
	$(if $(TORCH),,$(error TORCH is missing; a release of torch; make test-torch TORCH=2.14.1))
	@.ci/test-torch

test-browser: $(BROWSER_STAMP) ## reports in Chromium; installs it on Debian, as root, with selenium and axe-core
	@test -x /usr/bin/chromium && test -x /usr/bin/chromedriver || { \
	  test "$$(id -u)" = 0 || { echo "error: no Chromium; as root: apt-get install chromium chromium-driver" >&2; exit 5; }; \
	  apt-get -q update && DEBIAN_FRONTEND=noninteractive apt-get -q -y install chromium chromium-driver; }
	$(BIN)/python -m pytest tests/browser $(ARGS)

# npm ci holds axe-core to the hash in the lock file.
$(BROWSER_STAMP): $(STAMP) tests/browser/package-lock.json
	@command -v npm >/dev/null || { echo "error: npm is missing; install Node.js, which brings it" >&2; exit 5; }
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[browser]'
	mkdir -p $(AXE) && cp tests/browser/package.json tests/browser/package-lock.json $(AXE)
	npm ci --prefix $(AXE) --ignore-scripts --no-audit --no-fund
	@touch $@

docs: $(DOCS_STAMP) ## build docs as a site into build/docs, and check every link and anchor in it
	$(BIN)/python tests/tools/docs_site.py build/docs

$(DOCS_STAMP): $(STAMP)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[docs]'
	@touch $@

docs-commands: $(STAMP) ## write the options of every command into docs/commands.md
	$(BIN)/python tests/tools/commands_page.py docs/commands.md

docs-waits: $(STAMP) ## write docs/what-waits.md anew from the rules and what was measured
	$(BIN)/python tests/tools/waits_page.py tests/data/sync_catalogue.json tests/data/sync_expressions.json docs/what-waits.md

test-operators: $(STAMP) ## hold the simulated device to the waits of 26,000 samples of torch's own tests (minutes)
	$(BIN)/python -m pip install --quiet -c constraints.txt expecttest
	$(BIN)/python tests/benchmarks/operator_counts.py

docs-results: $(STAMP) ## write the tables of RESULT="reports/A reports/B" into docs/bagel.md
	$(if $(RESULT),,$(error RESULT is missing; folders of results; make docs-results RESULT="reports/A reports/B"))
	$(BIN)/python tests/tools/docs_results.py $(RESULT) docs/bagel.md

clean: ## remove .venv and caches, never results
	rm -rf $(VENV) $(VENV)-torch-* build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache

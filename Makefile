# Two commands do everything, set-up included: `make reproduce` and `make test`.
PYTHON ?= python3
PROFILE ?= mini
WORKERS ?= 1
VENV := .venv
PY := $(VENV)/bin/python
READY := $(VENV)/.ready

.PHONY: help setup reproduce test lab results sweep matrix clean
.DEFAULT_GOAL := help

help:  ## show this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

setup: $(READY)  ## make .venv with the tested set of packages

$(READY): pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed: make PYTHON=python3.11 …" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet -c requirements.lock -e '.[all]'
	@touch $@

reproduce: $(READY)  ## run the whole study on PROFILE and all notebooks in order, write HTML
	$(PY) -m ubt_utils reproduce --profile $(PROFILE)

test: $(READY)  ## lint, unit tests, small-model tests, every notebook in a shrunken profile
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m pytest --cov=ubt_utils --cov-report=term --cov-fail-under=90

lab: $(READY)  ## open the notebooks
	$(VENV)/bin/jupyter lab notebooks

results: $(READY)  ## recompute the committed tables: every attack × 3 seeds, three of them defended
	$(PY) -m ubt_utils results --profile $(PROFILE)

sweep: $(READY)  ## recompute the committed sweep: when does a backdoor take?
	$(PY) -m ubt_utils sweep --profile $(PROFILE)

matrix: $(READY)  ## attacks × defenses × seeds, a record a cell; resumes after a kill
	$(PY) -m ubt_utils matrix --profile $(PROFILE) --workers $(WORKERS)

clean:  ## remove all runs (not the environment, not the records)
	rm -rf runs

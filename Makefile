# Two commands do everything, set-up included: `make reproduce` and `make test`. `make check` is the quick one.
PYTHON ?= python3
PROFILE ?= mini
WORKERS ?= 1
VENV := .venv
PY := $(VENV)/bin/python
READY := $(VENV)/.ready

# Which torch: plain is what pip finds (on Linux the CUDA build: 6.6 GB in all), cpu is PyTorch's own build
# without CUDA (about 1 GB in all). The choice is kept in .venv until another one is named.
CHOSEN := $(shell cat $(VENV)/.torch 2>/dev/null)
TORCH ?= $(or $(CHOSEN),plain)
CPU_INDEX := https://download.pytorch.org/whl/cpu
ifeq ($(filter plain cpu,$(TORCH)),)
$(error TORCH is plain or cpu, not '$(TORCH)')
endif

UNIT := not slow and not notebook and not ranks and not records

.PHONY: help setup check test reproduce notebooks readme lab results sweep matrix clean
.DEFAULT_GOAL := help

help:  ## show this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12
	@echo 'TORCH=cpu, after any of them, takes torch without CUDA: about 1 GB on disk instead of 6.6 GB'

setup: $(READY)  ## make .venv with the tested set of packages

ifneq ($(TORCH),$(CHOSEN))
.PHONY: $(READY)
endif
$(READY): pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed: make PYTHON=python3.11 …" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(if $(filter-out $(TORCH),$(CHOSEN)),--clear) $(VENV)
	@echo $(TORCH) > $(VENV)/.torch
ifeq ($(TORCH),cpu)
	$(PY) -m pip install --quiet -c requirements.lock --no-deps --force-reinstall --index-url $(CPU_INDEX) torch torchvision
endif
	$(PY) -m pip install --quiet -c requirements.lock -e '.[all]'
	@touch $@

check: $(READY)  ## lint, types, unit tests: within a minute
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	$(PY) -m pytest -q -m '$(UNIT)'

test: $(READY)  ## all of `check`, small-model tests, every notebook in a shrunken profile
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	$(PY) -m pytest --cov=ubt_utils --cov-report=term --cov-fail-under=90

reproduce: $(READY)  ## run the whole study on PROFILE and all notebooks in order, write HTML, all under runs/
	$(PY) -m ubt_utils reproduce --profile $(PROFILE)

notebooks: $(READY)  ## run the committed notebooks anew, outputs included
	$(PY) -m ubt_utils notebooks

readme: $(READY)  ## write the README's tables and picture from the records
	$(PY) -m ubt_utils readme

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

# Two commands do everything, set-up included: `make reproduce` and `make test`. `make check` is the quick one.
PYTHON ?= python3
PROFILE ?= mini
WORKERS ?= 1
VENV := .venv
PY := $(VENV)/bin/python
READY := $(VENV)/.ready

# Which torch: plain is what pip finds (on Linux the CUDA build: 6.6 GB in all), cpu is PyTorch's own build
# without CUDA (about 1 GB in all). The choice is kept in .venv until another one is named; a .venv that names
# none has what pip finds.
CHOSEN := $(or $(shell cat $(VENV)/.torch 2>/dev/null),$(if $(wildcard $(VENV)),plain))
TORCH ?= $(or $(CHOSEN),plain)
KNOWN := $(filter plain cpu,$(TORCH))
CPU_INDEX := https://download.pytorch.org/whl/cpu
# Ends well where the locked torch and torchvision are there already, without CUDA.
HAS_CPU := from importlib.metadata import version as of; \
	locked = open("requirements.lock").read().split(); \
	assert all(of(n).endswith("+cpu") and f"{n}=={of(n)[:-4]}" in locked for n in ("torch", "torchvision"))

UNIT := not slow and not notebook and not ranks and not records

.PHONY: help setup check test reproduce notebooks playground readme book paper lab results sweep matrix study tune rivals attackers photos clean
.DEFAULT_GOAL := help

help:  ## show this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12
	@echo 'TORCH=cpu, after any of them, takes torch without CUDA: about 1 GB on disk instead of 6.6 GB'

setup: $(READY)  ## make .venv with the tested set of packages

# Another choice is installed anew. A variable TORCH of the environment may be another program's: it says
# nothing of a .venv that is there, unless it is one of our words.
ifneq ($(TORCH),$(CHOSEN))
ifneq ($(KNOWN)$(filter command,$(origin TORCH)),)
.PHONY: $(READY)
endif
endif
$(READY): pyproject.toml requirements.lock
	$(if $(KNOWN),,$(error TORCH is plain or cpu, not '$(TORCH)'))
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed: make PYTHON=python3.11 …" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(if $(filter-out $(TORCH),$(CHOSEN)),--clear) $(VENV)
	@echo $(TORCH) > $(VENV)/.torch
ifeq ($(TORCH),cpu)
	@$(PY) -c '$(HAS_CPU)' 2>/dev/null || $(PY) -m pip install --quiet -c requirements.lock --no-deps --force-reinstall --index-url $(CPU_INDEX) torch torchvision
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
	$(PY) -m pytest -n 2 --dist loadfile --cov=ubt_utils --cov-report=term --cov-fail-under=90

reproduce: $(READY)  ## one attack on PROFILE from nothing to its evaluation, then all notebooks, with HTML, under runs/
	$(PY) -m ubt_utils reproduce --profile $(PROFILE)

notebooks: $(READY)  ## run the committed notebooks anew, outputs included
	$(PY) -m ubt_utils notebooks

playground: $(READY)  ## a page on which the models of one run answer to what one draws, under runs/playground; needs npm
	$(PY) -m ubt_utils playground --profile $(PROFILE)

readme: $(READY)  ## write the README's tables and picture from the records
	$(PY) -m ubt_utils readme

book: $(READY)  ## build notebooks, method, code, slides and a playground that is made as a site that opens from disk: runs/book/index.html
	$(PY) -m ubt_utils book

paper: $(READY)  ## draw the figures, tables and numbers of a paper from the records: results/paper
	$(PY) -m ubt_utils paper

lab: $(READY)  ## open the notebooks
	$(VENV)/bin/jupyter lab notebooks

results: $(READY)  ## record three attacks × 3 seeds of PROFILE, defended; of mini the other attacks undefended, too
	$(PY) -m ubt_utils results --profile $(PROFILE) --workers $(WORKERS)

sweep: $(READY)  ## record when a backdoor takes on PROFILE: poison rate × learning rate × strength
	$(PY) -m ubt_utils sweep --profile $(PROFILE)

matrix: $(READY)  ## attacks × defenses × seeds, a record a cell; resumes after a kill
	$(PY) -m ubt_utils matrix --profile $(PROFILE) --workers $(WORKERS)

study: $(READY)  ## record the study of results/ENDPOINTS.md: hours; resumes after a kill
	$(PY) -m ubt_utils study --workers $(WORKERS)

tune: $(READY)  ## try 20 settings of every defense on victims that no table uses: hours; resumes after a kill
	$(PY) -m ubt_utils tune --workers $(WORKERS)

rivals: $(READY)  ## record all tuned rivals on six clusters, attack by attack: hours; resumes after a kill
	$(PY) -m ubt_utils rivals --workers $(WORKERS)

attackers: $(READY)  ## record the attacks and attackers that no rival has met: hours; resumes after a kill
	$(PY) -m ubt_utils attackers --workers $(WORKERS)

photos: $(READY)  ## record the study on photos: hours; resumes after a kill
	$(PY) -m ubt_utils photos --workers $(WORKERS)

clean:  ## remove all runs (not the environment, not the records)
	rm -rf runs

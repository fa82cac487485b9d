# `make demo` and `make test` do all their own set-up: a virtual environment in .venv, made from pyproject.toml.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin

.PHONY: demo test test-all check format clean
.DELETE_ON_ERROR:

demo: $(VENV)/.fullrank        ## train on handwritten digits with two orders and write a report (under three minutes)
	$(BIN)/fullrank demo

test: $(VENV)/.fullrank-dev    ## the default test suite, on all cores with one thread each
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadscope

test-all: $(VENV)/.fullrank-dev ## and the slow tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadscope -m 'not gpu'

check: $(VENV)/.fullrank-dev   ## ruff, types, and the documentation without a broken link
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

format: $(VENV)/.fullrank-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .mypy_cache .hypothesis

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "fullrank needs Python 3.10 or newer; this is $$($(PYTHON) --version). Use: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)

# A stamp for each set of extras: installed again only when pyproject.toml changes.
$(VENV)/.fullrank: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/.fullrank-dev: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@ $(VENV)/.fullrank

# make train | make test | make lint | make format | make benchmarks-quick
CONFIG ?= configs/quickstart.yaml
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
RUN ?= runs/$(basename $(notdir $(CONFIG)))

.PHONY: train test lint format benchmarks-quick install clean

# Rerun only when what is to be installed has changed.
$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

install: $(VENV)/.installed

train: install
	$(BIN)/farl train $(CONFIG)

test: install
	$(BIN)/python -m pytest -n 2

# agents/ and envs/ are imported as farl.agents and farl.envs: mypy sees them so through a tree of links.
lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	rm -rf build/typecheck && mkdir -p build/typecheck/farl
	ln -s $(CURDIR)/farl/* $(CURDIR)/agents $(CURDIR)/envs build/typecheck/farl/
	cd build/typecheck && $(abspath $(BIN))/python -m mypy --config-file $(CURDIR)/pyproject.toml --cache-dir $(CURDIR)/.mypy_cache -p farl

format: install
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

benchmarks-quick: install
	$(BIN)/python -m benchmarks --quick --out build/benchmarks

clean:
	rm -rf $(VENV) build dist *.egg-info

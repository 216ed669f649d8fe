# make train | make test | make lint | make docs | make format | make benchmarks-quick
CONFIG ?= configs/quickstart.yaml
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
RUN ?= runs/$(basename $(notdir $(CONFIG)))

.PHONY: train test tree lint docs format benchmarks-quick install clean

# Rerun only when what is to be installed has changed.
$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	# Without its dependencies: its metadata asks for numpy 1, though it runs with numpy 2.
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-deps procgen-mirror gym3 gym
	touch $@

install: $(VENV)/.installed

train: install
	$(BIN)/farl train $(CONFIG)

test: install
	$(BIN)/python -m pytest -n 2

# agents/ and envs/ are imported as farl.agents and farl.envs: mypy and the docs see them so through a tree of links.
tree:
	rm -rf build/typecheck && mkdir -p build/typecheck/farl
	ln -s $(CURDIR)/farl/* $(CURDIR)/agents $(CURDIR)/envs build/typecheck/farl/

lint: install tree
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	cd build/typecheck && $(abspath $(BIN))/python -m mypy --config-file $(CURDIR)/pyproject.toml --cache-dir $(CURDIR)/.mypy_cache -p farl

# The site, in build/site; a broken link is an error.
docs: install tree
	$(BIN)/python -m benchmarks.tables --check
	$(BIN)/python -m mkdocs build --quiet

format: install
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

benchmarks-quick: install
	$(BIN)/python -m benchmarks --quick --out build/benchmarks
	$(BIN)/python -m benchmarks.faults --part kill --short
	$(BIN)/python -m benchmarks.faults --part faults --short

clean:
	rm -rf $(VENV) build dist *.egg-info

# Two commands: `make demo` finds the retrieval heads of a small real model, `make test` runs the tests that are not slow by nature.

PYTHON ?= python3
VENV ?= .venv
WORKERS ?= 2
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt
MANIFEST := pyproject.toml constraints.txt
BROWSERS := chromium chromium-browser google-chrome google-chrome-stable chrome microsoft-edge

.PHONY: help demo test test-all lint docs bench census gpu-check peers figures results notebooks lab browser clean

help:  ## what can be made
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1	/'

demo: $(VENV)/.core  ## find the retrieval heads of the default model and prove them by ablation
	$(BIN)/python -m interp.experiments retrieval_heads --preset demo

test: $(VENV)/.dev browser  ## lint, then run the tests in two processes (WORKERS=4: in four)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist worksteal -m "not slow"

test-all: test  ## and those that are slow by nature: notebooks, benchmarks, every command of the docs, kills, training
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist worksteal -m slow

lint: $(VENV)/.dev  ## lint and check types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python

docs: $(VENV)/.dev  ## build the documentation into docs/_build/html
	$(BIN)/sphinx-build -W --keep-going -b html docs docs/_build/html

bench: $(VENV)/.dev browser  ## time the toolkit against the plain way and write docs/performance.md (about 29 processor minutes; QUICK=1: small sizes)
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks $(if $(QUICK),--quick)

census: $(VENV)/.dev  ## try every causal language model of transformers, tiny and random, and write docs/model_census.md (minutes)
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.census

gpu-check: $(VENV)/.dev browser  ## check the toolkit on this machine's GPU at the sizes of real models and write its table (8 minutes; PROFILE=1: kernels too)
	$(BIN)/python -m benchmarks.gpu_check $(if $(PROFILE),--profile)

peers: $(VENV)/.dev  ## run other tools on the same inputs, each in a virtual environment of its own (gigabytes, on first use)
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.peers

figures: $(VENV)/.core browser  ## draw figures/gallery again from its committed tables (seconds)
	$(BIN)/python -m experiments.gallery draw

results: $(VENV)/.core  ## measure the tables of figures/gallery again on the models that ship (about two hours)
	$(BIN)/python -m experiments.gallery measure

notebooks: $(VENV)/.dev browser  ## run the notebooks whose text has changed and write their .ipynb (minutes each)
	OMP_NUM_THREADS=1 $(BIN)/python -m experiments.notebooks

lab: $(VENV)/.lab  ## open the notebooks in JupyterLab
	$(BIN)/jupytext --quiet --sync notebooks/*.py
	$(BIN)/jupyter lab notebooks

browser:  # figure export needs a Chromium; nothing is done where there is one
	@if [ -z "$$BROWSER_PATH" ] && ! command -v $(BROWSERS) >/dev/null 2>&1; then \
		if command -v apt-get >/dev/null 2>&1 && { [ "$$(id -u)" = 0 ] || command -v sudo >/dev/null 2>&1; }; then \
			SUDO=$$([ "$$(id -u)" = 0 ] || echo sudo); \
			$$SUDO apt-get update -qq && $$SUDO env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium >/dev/null; \
		else \
			$(BIN)/plotly_get_chrome -y; \
		fi; \
	fi

$(VENV)/.python:
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed: make PYTHON=python3.11 " + "$(MAKECMDGOALS)")'
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.core: $(VENV)/.python $(MANIFEST)
	$(PIP) --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.core $(MANIFEST)
	$(PIP) --editable '.[dev,docs]'
	@touch $@

$(VENV)/.lab: $(VENV)/.core $(MANIFEST)
	$(PIP) --editable '.[lab]'
	@touch $@

clean:  ## remove the virtual environment and built documentation; runs and fetched files are kept
	rm -rf $(VENV) docs/_build

# `make demo` and `make test` need nothing but Python 3.11+ and make: each installs what it needs into .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
LLAMA_INDEX := integrations/llama-index-postprocessor-ragcompress
LANGCHAIN := integrations/langchain-ragcompress
PROJECTS := pyproject.toml constraints.txt $(LLAMA_INDEX)/pyproject.toml $(LANGCHAIN)/pyproject.toml

# Threads that wait must not spin: beside other work on few cores that costs several times the run time.
export OMP_WAIT_POLICY ?= PASSIVE

.PHONY: demo test install check lint types docs bench clean

demo: $(VENV)/.demo
	$(BIN)/python examples/demo/demo.py

test: $(VENV)/.dev
	$(BIN)/python -m pytest

install: $(VENV)/.dev

check: lint types test

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev
	$(BIN)/mypy
	$(BIN)/mypy tests/typed_usage.py
	cd $(LLAMA_INDEX) && $(CURDIR)/$(BIN)/mypy --config-file $(CURDIR)/pyproject.toml --explicit-package-bases --namespace-packages llama_index/postprocessor/ragcompress
	cd $(LANGCHAIN) && $(CURDIR)/$(BIN)/mypy --config-file $(CURDIR)/pyproject.toml langchain_ragcompress

# The README's table of backends, the benchmark tables, and the API pages in site/.
docs: $(VENV)/.dev
	$(BIN)/python docs/generate.py
	$(BIN)/python benchmarks/tables.py
	$(BIN)/pdoc --docformat google --output-directory site ragcompress langchain_ragcompress llama_index.postprocessor.ragcompress

bench: $(VENV)/.peers
	$(BIN)/python benchmarks/run.py
	$(BIN)/python benchmarks/evaluate.py
	$(BIN)/python benchmarks/tables.py

# A stamp is newer than every file that says what to install: a second call installs nothing.
$(VENV)/.venv:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is " + sys.version)'
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/.demo: $(VENV)/.venv $(PROJECTS)
	$(PIP) --editable '.[offline]' --editable $(LLAMA_INDEX) --editable $(LANGCHAIN)
	touch $@

$(VENV)/.dev: $(VENV)/.venv $(PROJECTS)
	$(PIP) --editable '.[offline,dev]' --editable $(LLAMA_INDEX) --editable $(LANGCHAIN)
	touch $@ $(VENV)/.demo

# Other people's compressors, for `make bench`.
$(VENV)/.peers: $(VENV)/.dev
	$(PIP) --editable '.[peers]'
	touch $@

clean:
	rm -rf $(VENV) site dist .pytest_cache .mypy_cache .ruff_cache .hypothesis

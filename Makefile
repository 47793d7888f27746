# make search            set up and run the study      make search TRIALS=20 EPOCHS=6
# make finalize          retrain the best trial and score it on the test set
# make report            tables, figures and statements as one offline page
# make dashboard         browse the study in a browser
# make bench             measure speeds against peers, about two hours on two cores
# make test              everything that CI runs: ruff, mypy, pytest
# make clean             remove the environment and caches; studies and runs stay

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RESULTS := benchmarks/results

# Each variable given on the command line or in the environment becomes the command's flag.
flags = $(foreach name,$(1),$(if $($(name)),--$(shell echo '$(name)' | tr A-Z_ a-z-) '$($(name))'))
# Not a flag: make shows the commands, and the URL may hold a password.
ifdef STORAGE
export SEARCH_STORAGE = $(STORAGE)
endif

.PHONY: search finalize report dashboard bench test clean

search: $(VENV)/installed
	$(BIN)/python -m search.study $(call flags,CONFIG TRIALS TIMEOUT DATASET STUDY EPOCHS WORKERS DEVICE SEED DATA_DIR)

finalize: $(VENV)/installed
	$(BIN)/python -m search.finalize $(call flags,STUDY SEEDS EPOCHS DEVICE DATA_DIR)

report: $(VENV)/installed
	$(BIN)/python -m search.report $(call flags,STUDY)

dashboard: $(VENV)/installed
	$(BIN)/python -m search.dashboard $(call flags,PORT)

bench: $(VENV)/installed-bench
	$(BIN)/python -m benchmarks.throughput --json $(RESULTS)/throughput.json
	$(BIN)/python -m benchmarks.coordination --json $(RESULTS)/coordination.json
	$(BIN)/python -m benchmarks.dashboard --trials 1000 10000 --json $(RESULTS)/dashboard.json
	$(BIN)/python -m benchmarks.memory --json $(RESULTS)/memory.json
	$(BIN)/python -m benchmarks.ranking --json $(RESULTS)/ranking.json
	$(BIN)/python -m benchmarks.search --json $(RESULTS)/search.json

test: $(VENV)/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy --platform win32 --cache-dir .mypy_cache/win32 data models search
	# With the bytecode that this variable forbids, each of a hundred processes would start later.
	env -u PYTHONDONTWRITEBYTECODE $(BIN)/pytest -n 4 --dist worksteal $(PYTEST_ARGS)

$(VENV)/created:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed; make PYTHON=python3.12 search")'
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/installed: $(VENV)/created pyproject.toml constraints.txt
	@echo 'Installing PyTorch and the rest: about 4 GB, a minute or two ...'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	touch $@

$(VENV)/installed-test: $(VENV)/created pyproject.toml constraints.txt
	@echo 'Installing PyTorch, the test tools and the rest: about 4 GB, a minute or two ...'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test,bench]'
	touch $@ $(VENV)/installed $(VENV)/installed-bench

$(VENV)/installed-bench: $(VENV)/created pyproject.toml constraints.txt
	@echo 'Installing PyTorch, Ray and the rest: about 4 GB, a minute or two ...'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]'
	touch $@ $(VENV)/installed

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache

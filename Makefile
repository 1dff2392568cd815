# Everything starts from a bare machine with Python >= 3.11 and make: each target builds its own .venv first.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
OLDEST := .venv-oldest
AUDIT  := .venv-audit

# A process per core, a file of tests always in one of them; more would need much memory. tests/conftest.py says which
# files come first.
PARALLEL := -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder
# Tracing doubles the time of most tests, so that the coverage is measured with the long tests alone.
COVERAGE := --cov --cov-report=term --cov-fail-under=95

.PHONY: demo docs test test-all test-isa test-oldest suite browser screenshots bench lint audit clean

demo: $(STAMP)
	$(BIN)/voxward demo $(if $(DATA),--data $(DATA))

# What CI runs, after it has installed Chromium; without one the tests of the page are skipped. Both go at once.
test: $(STAMP)
	$(MAKE) -j2 lint suite

suite: $(STAMP)
	$(BIN)/python -m pytest -m "not slow" $(PARALLEL)

# Before a release: the long tests with the real volumes, other processors' arithmetic, and the oldest dependencies.
test-all: lint
	tests/browser/install.sh
	VOXWARD_BROWSER_REQUIRED=1 VOXWARD_DATA_REQUIRED=1 $(BIN)/python -m pytest $(PARALLEL) $(COVERAGE)
	$(MAKE) test-isa test-oldest

# The numerical tests with the arithmetic of older processors: a quarter of an hour on two cores.
test-isa: $(STAMP)
	tests/isa.sh $(BIN)/python

# The fast tests with the oldest versions that pyproject.toml admits; what those warn of is mended in newer ones.
test-oldest: $(OLDEST)/.installed
	$(OLDEST)/bin/python -m pytest -m "not slow" $(PARALLEL) -o filterwarnings=default

# The tests of the report's page in Chromium, which is installed where it is missing.
browser: $(STAMP)
	tests/browser/install.sh
	VOXWARD_BROWSER_REQUIRED=1 $(BIN)/python -m pytest tests/browser

# Pictures for the README, of the page that `make demo` wrote or of PAGE.
screenshots: $(STAMP)
	tests/browser/install.sh
	$(BIN)/python -m tests.browser.screenshots $(or $(PAGE),demo/report.html) docs/images

# Ours against named peers, by turns; minutes to an hour. Time it with nothing else running. It fails where a ratio fell
# by more than 15 % since the one in results/speed.
bench: $(VENV)/.bench
	$(BIN)/python -m benchmarks.speed --out results/speed $(BENCH)

# The site of the documentation, into build/site: it opens from disk.
docs: $(VENV)/.docs
	$(BIN)/python docs/build_site.py build/docs
	$(BIN)/zensical build --clean --strict

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Known weaknesses of the installed versions. It needs a network, and fails where it cannot ask.
audit: $(STAMP) $(AUDIT)/.installed
	tests/audit.sh $(BIN)/python $(AUDIT)/bin/pip-audit

# constraints.txt holds the tested versions; its torch is the one that does not bring the CUDA packages along.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $(STAMP)

$(OLDEST)/.installed: pyproject.toml constraints-oldest.txt
	$(PYTHON) -m venv $(OLDEST)
	$(OLDEST)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints-oldest.txt -e ".[cluster,onnx,ranger,search,sitk,test]"
	touch $@

$(AUDIT)/.installed:
	$(PYTHON) -m venv $(AUDIT)
	$(AUDIT)/bin/python -m pip install --quiet --disable-pip-version-check "pip-audit>=2.9"
	touch $@

$(VENV)/.docs: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[docs]"
	touch $@

$(VENV)/.bench: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[bench]"
	touch $@

clean:
	rm -rf $(VENV) $(OLDEST) $(AUDIT) demo .mypy_cache .ruff_cache .import_linter_cache .coverage

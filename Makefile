# Every target does its own set-up: on a bare machine with Python >= 3.11, `make demo` or `make test` is all to type.
#
#   make demo           train a 1-bit network and its float twin on real handwritten digits; table, curves, predictions
#   make test           the test suite (a test that cannot run here is skipped and says why)
#   make test-slow      the same with the tests marked slow
#   make test-targets   tests that need more than Python; fails if a capability in tests/capabilities.txt went untested
#   make lint types     ruff, mypy
#   make dist           sdist and wheel in dist/
#   make clean          remove the environment and everything built
#
# PYTHON=... picks the interpreter (default python3), PYTEST_ARGS="-k recipe -x" goes to pytest.
#
# The same in plain commands:
#
#   python3 -m venv .venv
#   .venv/bin/pip install -c constraints.txt -e ".[dev]"
#   .venv/bin/onebit demo
#   .venv/bin/python -m pytest
#
# Who has torch already keeps it: the environment then sees the system's packages and the constraint is left out:
#
#   python3 -m venv --system-site-packages .venv
#   .venv/bin/pip install -e ".[dev]"

PYTHON ?= python3
PYTEST_ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
# Touched only after a complete installation, so that an interrupted one is repeated.
STAMP := $(VENV)/.installed
SETTINGS := pyproject.toml constraints.txt
CORE := $(wildcard core/CMakeLists.txt core/cmake/* core/include/*.h core/src/*.[ch] core/src/kernels/*.[ch])
# Users without a compiler, or with one that fails, get NumPy in place of the C engine. Here a failure is one.
export ONEBIT_REQUIRE_ENGINE ?= $(if $(shell command -v cc || command -v gcc || command -v clang),1,0)

.PHONY: help setup demo test test-slow test-targets lint types dist clean

help:
	@sed -n 's/^# \{0,1\}//p' Makefile

setup: $(STAMP)

# Where only C sources changed, they are compiled again (what changed of them) and installed.
$(STAMP): $(SETTINGS) $(CORE)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "onebit needs Python >= 3.11; try: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@set -e; \
	if [ -z '$(filter $(SETTINGS),$?)' ]; then \
	  echo "set-up: compiling the C core"; \
	  $(BIN)/python -m pip install -q --no-deps -e .; \
	elif $(PYTHON) -c 'import torch' >/dev/null 2>&1; then \
	  echo "set-up: keeping the torch of $(PYTHON)"; \
	  $(PYTHON) -m venv --system-site-packages $(VENV); \
	  $(BIN)/python -m pip install -q -e '.[dev]'; \
	else \
	  echo "set-up: installing into $(VENV) (torch is large; this takes a minute or more)"; \
	  $(PYTHON) -m venv $(VENV); \
	  $(BIN)/python -m pip install -q -c constraints.txt -e '.[dev]'; \
	fi
	@touch $@

demo: $(STAMP)
	$(BIN)/onebit demo

# `python -m` rather than the scripts: a system-wide pytest or mypy stays usable from the environment.
test: $(STAMP)
	$(BIN)/python -m pytest $(PYTEST_ARGS)

test-slow: $(STAMP)
	$(BIN)/python -m pytest --slow $(PYTEST_ARGS)

test-targets: $(STAMP)
	$(BIN)/python -m pytest -m target --require-capabilities tests/capabilities.txt $(PYTEST_ARGS)

lint: $(STAMP)
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .

types: $(STAMP)
	$(BIN)/python -m mypy

dist: $(STAMP)
	$(BIN)/python -m build

clean:
	rm -rf $(VENV) dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

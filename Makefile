# Two commands: `make demo` runs the main job, `make test` the whole suite. Both set up .venv from pinned versions.
PYTHON ?= python3.11
VENV := .venv
PIP := $(VENV)/bin/python -m pip --disable-pip-version-check
export HF_HUB_OFFLINE ?= 1
export VLLM_NO_USAGE_STATS ?= 1
# Hundreds of processes are started, and each would translate our modules anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test check tests unit clean

demo: $(VENV)/.runtime
	$(VENV)/bin/labelstream demo

# The checks need one core for a minute and nothing else, so they run beside the tests.
test: $(VENV)/.development
	$(MAKE) --jobs 2 check tests

check: $(VENV)/.development
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

# In three processes: many tests wait most of the time, for brokers, models and processes. tests/conftest.py knows which
# files are to begin first; xdist alone would put those with few tests last. The tests that kill everything again and
# again come afterwards, beside nobody else; to look for them in other files would take as long as some of them.
tests: $(VENV)/.development
	$(VENV)/bin/pytest -m "not alone" --numprocesses 3 --dist loadfile --no-loadscope-reorder
	$(VENV)/bin/pytest -m alone --numprocesses 2 --dist load $$(grep --files-with-matches "mark\.alone" tests/test_*.py)

unit: $(VENV)/.development
	$(VENV)/bin/pytest -m "not slow" --numprocesses 2 --dist loadfile

clean:
	rm -rf $(VENV) .labelstream build dist *.egg-info

# pip would translate thirty thousand files on one core; compileall takes all, and may meet templates that are no Python.
# PyTorch's CPU wheels (torch==…+cpu) are on PyTorch's own index: see docs/operations.md if pip does not find them.
$(VENV)/.runtime: requirements/cpu.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --no-deps --requirement requirements/cpu.txt --no-compile || \
	  { echo "If pip did not find torch, add PyTorch's CPU wheel index: docs/operations.md, 'Install'." >&2; exit 1; }
	$(PIP) install --no-deps --no-build-isolation --quiet --editable .
	$(VENV)/bin/python -m compileall -qq --workers 0 $(VENV)/lib || true
	touch $@

$(VENV)/.development: $(VENV)/.runtime requirements/dev.txt
	$(PIP) install --no-deps --quiet --requirement requirements/dev.txt
	touch $@

# Two commands: `make demo` runs the main job, `make test` the whole suite. Both set up .venv from pinned versions.
PYTHON ?= python3.11
VENV := .venv
PIP := $(VENV)/bin/python -m pip --disable-pip-version-check
# Without bytecode: Python makes that of what is imported, which is a small part, and a minute is saved.
INSTALL := $(PIP) install --no-deps --no-compile
export HF_HUB_OFFLINE ?= 1
export VLLM_NO_USAGE_STATS ?= 1

.PHONY: demo test check tests unit clean

demo: $(VENV)/.runtime
	$(VENV)/bin/labelstream demo

test: check tests

check: $(VENV)/.development
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

# In three processes: many tests wait most of the time, for brokers, models and processes. Those that count how long
# something that was killed stays away have the machine for themselves.
tests: $(VENV)/.development
	$(VENV)/bin/pytest -m "not alone" --numprocesses 3 --dist loadfile
	$(VENV)/bin/pytest -m alone

unit: $(VENV)/.development
	$(VENV)/bin/pytest -m "not slow" --numprocesses 2 --dist loadfile

clean:
	rm -rf $(VENV) .labelstream build dist *.egg-info

# PyTorch's CPU wheels (torch==…+cpu) are on PyTorch's own index: see docs/operations.md if pip does not find them.
$(VENV)/.runtime: requirements/cpu.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) --requirement requirements/cpu.txt || \
	  { echo "If pip did not find torch, add PyTorch's CPU wheel index: docs/operations.md, 'Install'." >&2; exit 1; }
	$(INSTALL) --no-build-isolation --quiet --editable .
	touch $@

$(VENV)/.development: $(VENV)/.runtime requirements/dev.txt
	$(INSTALL) --quiet --requirement requirements/dev.txt
	touch $@

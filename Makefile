# The two commands are `make demo` and `make test`. Everything happens in .venv, build and a cache of the
# user's; nothing is installed elsewhere and nothing needs root.

# The first of these that runs and is new enough: a name on PATH may be a stub that does not run.
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
    $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
ARGS ?=

BIN := .venv/bin
READY := .venv/.ready
# What does no input or output, separated by commas: coverage takes a blank for part of a name.
SANS_IO := core/motelet/cbor.py,core/motelet/websocket.py,core/motelet/wshandshake.py,core/motelet/protocol.py,core/motelet/kv*.py,core/motelet/csr.py,core/motelet/mqtt.py,core/motelet/mqttlink.py,cloud_bridge/cloudhub/delivery.py,cloud_bridge/cloudhub/intake.py,cloud_bridge/cloudhub/messages.py,cloud_bridge/devicecontroller/values.py,cloud_bridge/backends/cloudcore/message.py,cloud_bridge/backends/cloudcore/objects.py,cloud_bridge/backends/cloudcore/session.py

.DEFAULT_GOAL := help
.PHONY: help demo test test-quick lint image bench torture format clean venv

help:
	@echo 'make demo        watch a device follow its YAML (ARGS=--once: check it once, without a screen)'
	@echo 'make test        the whole test suite on both interpreters, with branch coverage (ARGS: for pytest)'
	@echo 'make test-quick  the part of it that takes less than two minutes'
	@echo 'make lint        formatting, mistakes, types, layers'
	@echo 'make format      put the formatting right'
	@echo 'make bench       the figures, into build/bench.jsonl (ARGS: names or parts of names)'
	@echo 'make image       what a board is given, into build/image (BOARD=ESP32_GENERIC, ..)'
	@echo 'make torture     cut the power of the store, and simulate faults of the whole system, for three quarters of an hour'
	@echo 'make clean       remove what the above made here'

demo: $(READY)
	@$(BIN)/motelet demo $(ARGS)

# What does no input or output must have every branch tested.
test: $(READY)
	@mkdir -p build
	@$(BIN)/python -m motelet.tools.fetch mosquitto kubernetes
	@$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadgroup --no-loadscope-reorder --cov --cov-report= $(ARGS)
	@$(BIN)/coverage report
	@$(BIN)/coverage report --fail-under=100 --include='$(SANS_IO)'

test-quick: $(READY)
	@$(BIN)/python -m motelet.tools.fetch mosquitto
	@$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadgroup -m 'not slow' $(ARGS)

torture: $(READY)
	@rm -f build/torture.jsonl
	@$(BIN)/motelet torture $(ARGS)
	@$(BIN)/motelet simulate --seams
	@$(BIN)/motelet simulate --seeds 2000 --output build/torture.jsonl
	@$(BIN)/python tests/edged/shortages.py
	@$(BIN)/python tests/cloudcore/flapping.py
	@MOTELET_UNRUNNABLE_S=60 $(BIN)/python -m pytest -q tests/edged/test_kubernetes.py
	@$(BIN)/python -m motelet.tools.planted

lint: $(READY)
	@$(BIN)/ruff format --check --output-format concise . || { echo 'wrongly formatted, see: make format'; exit 1; }
	@$(BIN)/ruff check --quiet .
	@$(BIN)/python -m motelet.tools.lint

format: $(READY)
	@$(BIN)/ruff check --quiet --fix . || true
	@$(BIN)/ruff format --quiet .

image: $(READY)
	@$(BIN)/motelet image $(BOARD)

bench: $(READY)
	@$(BIN)/motelet bench $(ARGS)

venv: $(READY)

# Made anew whenever the dependencies change, so that a package dropped from them is really gone.
$(READY): pyproject.toml
	@test -n '$(PYTHON)' || { echo 'no Python 3.11 or newer on PATH; say where one is: make PYTHON=...'; exit 1; }
	@echo 'making .venv with $(PYTHON) (about a minute the first time) ...' >&2
	@$(PYTHON) -m venv --clear .venv || \
	    { echo 'this Python cannot make virtual environments; on Debian or Ubuntu: sudo apt-get install python3-venv'; exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

clean:
	rm -rf build dist .venv .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

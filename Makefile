# The two commands of the README, from nothing; each is quick once .venv is set up.
PYTHON ?= python3
BIN = .venv/bin
ARGS ?=
# tests of networks need nothing but a core each; all others start Rays and servers that want the machine
NETWORKS = tests/test_models.py tests/test_inception.py
MODEL = $(if $(findstring --model,$(ARGS))$(findstring --resume,$(ARGS)),,--model efficientnet_b0)
export MLFLOW_SERVER_ENABLE_JOB_EXECUTION = false
export MLFLOW_DISABLE_TELEMETRY = true

.PHONY: tune test test-long ui check
tune: .venv/installed
	$(BIN)/python -m tuning.launch $(MODEL) $(ARGS)

test: .venv/installed-dev
	$(BIN)/python -m pytest -n 2 --dist loadgroup $(NETWORKS)
	$(BIN)/python -m pytest -m "not long" $(addprefix --ignore=,$(NETWORKS))

test-long: .venv/installed-dev
	$(BIN)/python -m pytest -m long

check: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

ui: .venv/installed
	$(BIN)/mlflow server --workers 1 --host 127.0.0.1 --port 5000 --backend-store-uri sqlite:///mlflow.db

.venv/installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable . --constraint constraints.txt
	touch $@

.venv/installed-dev: .venv/installed
	$(BIN)/python -m pip install --quiet --editable '.[dev]' --constraint constraints.txt
	touch $@

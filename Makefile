# Two commands for newcomers: `make demo` and `make test`. Both do all set-up, and both can be repeated.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test check unit setup packages lock proto clean

demo: setup  ## The main job: a cluster in network namespaces, carrying real traffic through kpng
	$(BIN)/kpng lab

test: setup check  ## Every check and every test
	$(BIN)/pytest

unit: setup  ## The tests that need neither root nor much time
	$(BIN)/pytest -m "not netns and not slow"

check: setup  ## Style, types, imports between rooms, sizes
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/python scripts/check_sizes.py

setup: $(STAMP)

packages:
	@scripts/install-packages.sh $(PYTHON)

$(STAMP): pyproject.toml requirements.lock | packages
	@echo "setup: creating $(VENV) and installing the Python packages of requirements.lock"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

lock:  ## Pin the newest allowed versions of all dependencies
	$(BIN)/pip-compile --quiet --extra all --extra dev --generate-hashes --no-emit-index-url --no-emit-trusted-host \
		--no-emit-find-links --allow-unsafe --strip-extras --output-file requirements.lock pyproject.toml

proto:  ## Regenerate the protobuf stubs
	scripts/generate-proto.sh

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis

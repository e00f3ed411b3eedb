# Two commands: `make demo` runs the product, `make test` proves it. `make help` lists the rest.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
SUPERSET_VENV := .venv-superset
TOLLHOUSE := $(VENV)/bin/tollhouse
# Empty where uv could not be had: then pip does the same work, more slowly.
UV = $(shell command -v uv 2>/dev/null || ls .tools/uv/bin/uv 2>/dev/null || true)
export UV_PYTHON_DOWNLOADS := never
# Trust what the machine trusts, the certificate of a company's proxy for instance.
export UV_SYSTEM_CERTS := true
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help setup setup-superset demo test bench lint format up down status clean lock docs screenshots

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/.ready ## install the platform environment (.venv)

setup-superset: $(SUPERSET_VENV)/.ready ## install Superset's environment (.venv-superset)

demo: setup ## simulate a carrier for a month and run the whole main job
	@$(TOLLHOUSE) demo

# A worker for each of two cores; a file, with what its tests share, is one worker's.
PYTEST_ARGS ?= --numprocesses 2 --no-loadscope-reorder

test: setup setup-superset ## run the whole test suite
	@$(VENV)/bin/python -m pytest $(PYTEST_ARGS)

bench: setup ## measure mediation and rating on this machine (about 13 minutes)
	@$(TOLLHOUSE) bench mediation --rounds 1000000,3000000,10000000
	@$(TOLLHOUSE) bench mediation --format 3gpp_cdr --rounds 1000000,3000000,10000000
	@$(TOLLHOUSE) bench rating --lines 200000 --records 10000000

lint: setup ## check style, types, SQL and YAML
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/mypy
	@$(VENV)/bin/lint-imports --no-cache
	@$(VENV)/bin/yamllint --strict .

format: setup ## format the Python sources
	@$(VENV)/bin/ruff check --fix --quiet . || true
	@$(VENV)/bin/ruff format .

up: setup setup-superset ## start PostgreSQL, the web module, Airflow and Superset; print addresses
	@$(TOLLHOUSE) up

down: ## stop what `make up` started
	@test ! -x $(TOLLHOUSE) || $(TOLLHOUSE) down

status: setup ## show which services run
	@$(TOLLHOUSE) status

docs: setup ## write docs/explained-bill.md, and the data catalogue (after a demo)
	@$(VENV)/bin/python -m docs.explained_bill
	@$(TOLLHOUSE) docs

screenshots: setup setup-superset ## take the README's screenshots from the running product
	@$(VENV)/bin/python -m docs.screenshots

clean: ## stop everything and delete all state and both environments
	@test ! -x $(TOLLHOUSE) || $(TOLLHOUSE) clean
	@rm -rf $(VENV) $(SUPERSET_VENV) .tools var

lock: .tools/uv/.ready ## write the lock files anew from requirements/*.in
	@for name in platform superset; do \
	    $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	        --no-emit-index-url --no-emit-find-links --no-header \
	        requirements/$$name.in -o requirements/$$name.txt; \
	done

# --- environments: exact versions with hashes, bytecode compiled (a command starts twice as fast)
.tools/uv/.ready:
	@mkdir -p .tools
	@if ! command -v uv >/dev/null 2>&1; then \
	    $(PYTHON) -m venv .tools/uv && .tools/uv/bin/pip install --quiet uv \
	        || echo "uv could not be installed: going on with pip"; \
	fi
	@mkdir -p .tools/uv && touch $@

define install
	@echo "Installing $(1) from $(2) …"
	@rm -rf $(1)
	@if [ -n "$(UV)" ]; then \
	    $(UV) venv --quiet --python $(PYTHON) $(1) && \
	    VIRTUAL_ENV=$(1) $(UV) pip install --quiet --compile-bytecode --require-hashes -r $(2); \
	else \
	    $(PYTHON) -m venv $(1) && \
	    env -u PYTHONDONTWRITEBYTECODE $(1)/bin/pip install --quiet --no-deps --require-hashes -r $(2); \
	fi
endef

$(VENV)/.ready: requirements/platform.txt pyproject.toml | .tools/uv/.ready
	$(call install,$(VENV),requirements/platform.txt)
	@if [ -n "$(UV)" ]; then \
	    VIRTUAL_ENV=$(VENV) $(UV) pip install --quiet --no-deps --no-build-isolation -e .; \
	else \
	    $(VENV)/bin/pip install --quiet --no-deps --no-build-isolation -e .; \
	fi
	@touch $@

$(SUPERSET_VENV)/.ready: requirements/superset.txt | .tools/uv/.ready
	$(call install,$(SUPERSET_VENV),requirements/superset.txt)
	@touch $@

# Everything a developer or CI runs. `make` alone lists it.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help

VENV := .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.installed
UV_VERSION := 0.13.9
LOCK := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header

.PHONY: help env lock demo services test lint format bench clean

help:  ## list the targets
	@awk -F ':.*  ## ' '/^[a-z-]+:.*  ## / {printf "  %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

env: $(STAMP)  ## create .venv from the lock (does nothing when it is up to date)
	@:

# uv first, because it is several times faster; pip where uv cannot reach the registry that pip is set up for.
$(STAMP): pyproject.toml requirements-dev.lock
	@python=; for candidate in python3.11 python3 python3.12 python3.13; do \
	  if $$candidate -c 'import sys, venv; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; \
	  then python=$$candidate; break; fi; done; \
	if [ -z "$$python" ]; then echo 'kedge needs Python 3.11, 3.12 or 3.13 on the PATH; none was found' >&2; exit 1; fi; \
	echo "env: creating $(VENV) with $$($$python --version), installing the lock …"; \
	rm -f $@; \
	if ! [ -x $(PY) ] || ! $(PY) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || ! $(PY) -m pip --version >/dev/null 2>&1; \
	then rm -rf $(VENV); $$python -m venv $(VENV); fi; \
	export PIP_DISABLE_PIP_VERSION_CHECK=1; \
	mirror=$$($(PY) -m pip config get global.index-url 2>/dev/null || true); \
	if [ -n "$$mirror" ]; then export UV_DEFAULT_INDEX="$${UV_DEFAULT_INDEX:-$$mirror}"; fi; \
	uv="$(VENV)/bin/uv pip install --quiet --compile-bytecode --python $(PY) --require-hashes -r requirements-dev.lock"; \
	if $(PY) -m pip install --quiet 'uv==$(UV_VERSION)' && { $$uv 2>$(VENV)/uv.log || $$uv --system-certs 2>>$(VENV)/uv.log; }; then :; \
	else echo 'env: uv could not install the lock (see $(VENV)/uv.log); trying pip …'; \
	  $(PY) -m pip install --quiet --require-hashes -r requirements-dev.lock; fi; \
	$(PY) -m pip install --quiet --no-deps --no-build-isolation --editable .; \
	touch $@; echo 'env: ready'

lock: env  ## resolve the dependencies anew into the two lock files
	@PATH="$(CURDIR)/$(VENV)/bin:$$PATH"; \
	$(LOCK) $(LOCKFLAGS) --extra demo pyproject.toml -o requirements.lock; \
	$(LOCK) $(LOCKFLAGS) --all-extras --group dev -c requirements.lock pyproject.toml -o requirements-dev.lock

demo: env  ## replay real flights through the whole pipeline, with dashboard
	@$(VENV)/bin/kedge demo $(ARGS)

services: env  ## start Elasticsearch, OpenSearch and Redis and leave them running for the next test runs
	@$(PY) -m tests.services up

# prepare only fetches; the tests themselves judge a service that cannot be had (skip, or fail under CI=true).
# Two processes share the tests, a file at a time, in order: many tests wait, for a server or for a process that
# they started, and fixtures are costly that a file's tests have in common. With ARGS='-n 0' there is one, as
# --pdb wants it.
# Objects of DuckDB that a test's traceback still holds make its binding complain when Python ends, after pytest's
# closing line; what it says is about the end of the process, not about a test.
test: env  ## run the tests on real services: make test ARGS='-k drift'
	@$(PY) -m tests.services prepare
	@{ $(PY) -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS) 2>&1 1>&3 | sed -u -e '/^nanobind: /d' -e '/^ - leaked /d' -e '/^ - \.\.\. skipped/d' -e '/nanobind\.readthedocs/d' >&2; } 3>&1

# Every check runs, so that one run tells everything.
lint: env  ## ruff, mypy and the import rules
	@failed=0; \
	for check in 'ruff check .' 'ruff format --check .' 'mypy' 'lint-imports --no-logo'; do \
	  echo "lint: $$check"; $(VENV)/bin/$$check || failed=1; \
	done; exit $$failed

format: env  ## format and sort imports in place
	@$(VENV)/bin/ruff check --quiet --fix-only .
	@$(VENV)/bin/ruff format .

bench: env  ## measure; what is measured and on what is printed with it
	@$(PY) -m bench $(ARGS)

clean:  ## remove .venv and all that was built or cached
	@if [ -x $(PY) ]; then $(PY) -m tests.services down || true; fi
	@rm -rf $(VENV) .cache dist build .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

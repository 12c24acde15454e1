# Two commands on a machine that has Python 3.11 or newer and make: `make demo` and `make test`.
# Every target makes what it needs: .venv with pinned, hash-checked packages, Node if the machine has
# none, Azurite from its lock file, the trained model. A second run installs nothing.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Without Node on the PATH, install it from a package.
NODE := $(shell command -v node >/dev/null 2>&1 && command -v npm >/dev/null 2>&1 || echo -r requirements/node.in)

# As many processes as cores, at most four: each starts its own Azurite.
PYTEST := $(BIN)/python -m pytest
PARALLEL := -n auto --maxprocesses 4 --dist worksteal --ignore=tests/containers --ignore=tests/clients

.PHONY: help demo up test test-all test-slow test-clients test-containers bench bench-peers dev docs coverage lint unit sbom audit screenshots soak mutants lock clean

help:  ## Show what there is to make
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

demo: $(VENV)/run.stamp  ## Train, start everything, score one patient and a file, show it, stop
	@$(BIN)/python -m cli.demo

up: $(VENV)/run.stamp  ## Azurite, api and worker on this machine until Ctrl-C
	@$(BIN)/heart-scorer up

test: lint  ## Lint, types, import contracts and the fast tests: five minutes on two cores
	$(PYTEST) $(PARALLEL) -m "not slow"

test-slow: $(VENV)/dev.stamp  ## Slow tests: workers that are killed, frozen or cut off, large files, training
	$(PYTEST) $(PARALLEL) -m slow

test-all: test test-clients test-containers test-slow  ## All of these; what CI runs

test-containers: $(VENV)/dev.stamp  ## Tests of the images and of compose; they need a Docker engine
	$(PYTEST) tests/containers

CLIENTS := triton kserve mlserver
test-clients: $(VENV)/dev.stamp  ## Tests with clients of other servers, each in an environment of its own
	@for client in $(CLIENTS); do \
	  if $(MAKE) --no-print-directory .venv-clients/$$client/stamp; then \
	    .venv-clients/$$client/bin/python -m pytest -c tests/clients/pytest.ini tests/clients/test_$$client.py || exit 1; \
	  else echo "skipped tests/clients/test_$$client.py: its packages could not be installed"; fi; done

bench: $(VENV)/dev.stamp  ## Measure against baselines and print a table of ratios; BENCH="…" passes options
	$(BIN)/python -m tests.benchmarks.bench $(BENCH)

bench-peers: .venv-peers/stamp bench  ## The same with MLServer, BentoML and LitServe (Python 3.11 or 3.12)

sbom: $(VENV)/dev.stamp  ## What each image installs, as CycloneDX
	@mkdir -p build/sbom
	@for app in api worker; do \
	  $(BIN)/uv pip compile --quiet --generate-hashes --no-header --no-annotate --no-emit-index-url \
	    --python-version 3.13 --python-platform x86_64-unknown-linux-gnu -c requirements/dev.txt requirements/$$app.in | \
	  $(BIN)/uv tool run --quiet --from cyclonedx-bom==7.5.0 cyclonedx-py requirements \
	    --pyproject pyproject.toml --output-reproducible -o build/sbom/$$app.cdx.json - || exit 1; \
	  echo build/sbom/$$app.cdx.json; done

audit: $(VENV)/dev.stamp  ## Ask a public service for known vulnerabilities of all packages of the lock
	$(BIN)/uv tool run --quiet pip-audit==2.10.1 --strict --disable-pip --require-hashes -r requirements/dev.txt

dev: $(VENV)/dev.stamp  ## Set up for development: packages, git hooks, the model
	$(BIN)/pre-commit install
	$(BIN)/python -m training >/dev/null

docs: $(VENV)/dev.stamp  ## Write what pages show of the code: settings, the picture of the imports
	$(BIN)/python -m tests.readme
	$(BIN)/python -m tests.architecture

coverage: $(VENV)/dev.stamp  ## Branch coverage of the worker and of shared/batches, by all tests but those with processes; at least 95 %
	$(PYTEST) $(PARALLEL) -m "not (slow and azurite)" tests/contract tests/faults $$(grep -lE "^from (shared.batches|tests.world|worker)" tests/unit/*.py) \
	  --cov=worker --cov=shared.batches --cov-branch --cov-report=term-missing:skip-covered --cov-fail-under=95

lint: $(VENV)/dev.stamp  ## Lint, types, import contracts, dependencies, spelling
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/deptry --no-ansi .
	$(BIN)/shellcheck .ci/run infra/*.sh
	git ls-files | xargs -d '\n' $(BIN)/codespell

unit: $(VENV)/dev.stamp  ## Tests that need no network; about a minute
	$(PYTEST) $(PARALLEL) tests/unit -m "not slow"

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; name one: make PYTHON=python3.12 …" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
	  { rm -rf $(VENV); echo "python cannot make virtual environments; on Debian: apt-get install python3-venv" >&2; exit 1; }

INSTALL := -m pip install -qq --disable-pip-version-check

$(VENV)/run.stamp: requirements/run.in requirements/dev.txt pyproject.toml | $(VENV)/bin/python
	@echo "installing the packages of $< (once) ..."
	@$(BIN)/python $(INSTALL) --require-hashes -r requirements/pip.txt
	@$(BIN)/python $(INSTALL) --require-hashes -c requirements/dev.txt -r $< $(NODE)
	@$(BIN)/python $(INSTALL) --no-build-isolation --no-deps -e .
	@touch $@

$(VENV)/dev.stamp: requirements/dev.txt pyproject.toml | $(VENV)/bin/python
	@echo "installing the packages of $< (once) ..."
	@$(BIN)/python $(INSTALL) --require-hashes -r $<
	@$(BIN)/python $(INSTALL) --no-build-isolation --no-deps -e .
	@touch $@ $(VENV)/run.stamp

.venv-peers/stamp: requirements/peers.txt
	$(PYTHON) -m venv .venv-peers
	.venv-peers/bin/python $(INSTALL) --require-hashes -r $<
	@touch $@

.venv-clients/%/stamp: requirements/clients/%.txt
	@echo "installing the packages of $< (once) ..."
	@"$(PYTHON)" -m venv .venv-clients/$*
	@.venv-clients/$*/bin/python $(INSTALL) --require-hashes -r $<
	@touch $@

screenshots: $(VENV)/dev.stamp  ## Take the README's pictures of the page; needs Chromium
	$(BIN)/python -m tests.screenshots

soak: $(VENV)/dev.stamp  ## 100 random kills, 30 stops, 10 million rows (FAULT_SEED=… repeats the kills)
	FAULT_KILLS=100 FAULT_VISIBILITY=3 FAULT_STOPS=30 FAULT_ROWS=10000000 CI=1 $(PYTEST) tests/faults -s

mutants: $(VENV)/dev.stamp  ## Take the worker's safeguards out one at a time; a test must notice each
	CI=1 $(BIN)/python -m tests.mutants

$(BIN)/uv:
	$(MAKE) $(VENV)/dev.stamp

COMPILE = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate
lock: | $(BIN)/uv  ## Resolve requirements/*.in again (uv itself comes from the last lock)
	for name in dev pip peers clients/openapi $(CLIENTS:%=clients/%); do $(COMPILE) requirements/$$name.in -o requirements/$$name.txt || exit 1; done

clean:  ## Remove all that make made
	rm -rf $(VENV) .venv-peers .venv-clients .local artifact

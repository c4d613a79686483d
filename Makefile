# Koi: `make demo` shows it, `make test` proves it. Needs Python 3.11+, make, and nothing else.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check --quiet
MINUTES ?= 10

.DEFAULT_GOAL := help
# Without compiled modules every process of the tests would compile the whole package anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo install test check chaos soak soak-clients clients hostile bench bench-drift bench-baseline bench-scale bench-growth bench-backup screens collection audit lock clean

help: ## show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

demo: install ## start everything on this machine and make one picture
	@$(BIN)/koi demo

install: $(VENV)/.koi ## .venv with the locked dependencies and the koi command

# Stamped when it is whole: an interrupted one is made anew.
$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Koi needs Python 3.11 or newer; try: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -m venv --clear $(VENV)
	@touch $@

$(VENV)/.koi: requirements-demo.lock pyproject.toml | $(VENV)/.made
	@echo "Installing the locked dependencies into $(VENV) (once, about half a minute) ..."
	@$(PIP) install --require-hashes -r requirements-demo.lock
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.dev: requirements-dev.lock $(VENV)/.koi
	@echo "Installing the locked test tools into $(VENV) (once, about a minute) ..."
	@$(PIP) install --require-hashes -r requirements-dev.lock
	@cd tests/sdk/node && npm ci --silent --no-audit --no-fund 2>/dev/null || echo "  (no npm: the Node SDK tests will be skipped)"
	@$(BIN)/python -m tests.clients.catalog ai-6 2>/dev/null || echo "  (no npm: the AI SDK tests will be skipped)"
	@touch $@

test: $(VENV)/.dev ## the whole suite: style, types, imports, tests
	@$(MAKE) --no-print-directory check
	@$(BIN)/python -m pytest -n 6 --dist worksteal

check: $(VENV)/.dev ## style, types, import contracts, the rules of tests/house.py
	@$(BIN)/ruff format --check --quiet app tests bench
	@$(BIN)/ruff check --quiet app tests bench
	@$(BIN)/mypy --no-error-summary
	@$(BIN)/lint-imports --no-logo >/dev/null || $(BIN)/lint-imports
	@$(BIN)/python -m tests.house --quiet

chaos: $(VENV)/.dev ## kill -9 at random moments for MINUTES=10, and every fault on every store
	@$(BIN)/python -m pytest -s -m chaos tests --ignore=tests/chaos/test_long_soak.py --chaos-minutes=$(MINUTES)

soak: MINUTES = 60
soak: $(VENV)/.dev ## every fault at 1 % for MINUTES=60, samples in CSV=file
	@$(BIN)/python -m pytest -s -m chaos tests/chaos/test_long_soak.py --chaos-minutes=$(MINUTES) $(if $(CSV),--soak-csv=$(CSV))

soak-clients: MINUTES = 30
soak-clients: $(VENV)/.dev ## AI SDK and OpenAI SDK processes, every fault at 2 % for MINUTES=30
	@$(BIN)/python -m pytest -s -m chaos tests/chaos/test_clients_soak.py --chaos-minutes=$(MINUTES)

clients: $(VENV)/.dev ## real clients by fault into deploy/CONFORMANCE.md; some: CLIENTS=ai-7 SCENARIOS=500 JSON=file
	@$(BIN)/python -m tests.clients --clients=$(CLIENTS) --scenarios=$(SCENARIOS) $(if $(JSON),--json=$(JSON)) $(if $(README),--readme)

hostile: SECONDS = 8
hostile: $(VENV)/.dev ## one key does its worst beside a polite one, SECONDS=8 each way
	@HOSTILE_SECONDS=$(SECONDS) $(BIN)/python -m pytest -s -m chaos tests/security/test_one_key_one_share.py --chaos-minutes=1

bench: $(VENV)/.dev ## beside nginx, LiteLLM, Portkey; CROWDS=1: 5,000 in flight; README=1 writes it there
	@$(BIN)/python -m bench $(if $(CROWDS),--crowds) $(if $(README),--readme) $(BENCH)

bench-drift: $(VENV)/.dev ## instructions and bytes of the hot paths against bench/baseline.json
	@$(BIN)/python -m bench.drift

bench-baseline: $(VENV)/.dev ## renew bench/baseline.json, on purpose
	@$(BIN)/python -m bench.drift --renew

bench-scale: $(VENV)/.dev ## two workers, two gateways, what one store carries; WRITE=1 into deploy/SCALING.md
	@$(BIN)/python -m bench.scale $(if $(WRITE),--write)

bench-growth: JOBS = 10000 100000
bench-growth: $(VENV)/.dev ## what time costs: start, reports, check, rebuild, sizes at JOBS="10000 100000"
	@$(BIN)/python -m bench.growth $(JOBS)

bench-backup: JOBS = 200000
bench-backup: $(VENV)/.dev ## the drill of backup and restore at JOBS=200000 entries, with traffic
	@$(BIN)/python -m bench.backup $(JOBS)

screens: $(VENV)/.dev ## renew the README's pictures of the page that changed (needs Chromium)
	@$(BIN)/python -m tests.screens

collection: $(VENV)/.dev ## renew deploy/koi.postman_collection.json from the published schema
	@$(BIN)/python -m tests.collection

audit: ## known vulnerabilities of what the image installs (asks the network)
	@$(PYTHON) -m venv $(VENV)-audit && $(VENV)-audit/bin/pip install --quiet pip-audit
	@$(VENV)-audit/bin/pip-audit --require-hashes --disable-pip -r requirements.lock

COMPILE = uv pip compile pyproject.toml --universal --no-strip-extras --generate-hashes --no-header -q
lock: ## renew the lock files (needs uv)
	@$(COMPILE) -o requirements.lock
	@$(COMPILE) --extra s3 --extra thumbnails --extra sso -o requirements-s3.lock
	@$(COMPILE) --extra s3 --extra thumbnails --extra sso --extra demo --group build -o requirements-demo.lock
	@$(COMPILE) --extra s3 --extra thumbnails --extra sso --extra demo --extra mcp --group dev -o requirements-dev.lock

clean: ## remove everything that was built here
	@rm -rf $(VENV) .koi-demo .pytest_cache .mypy_cache .ruff_cache .hypothesis .clients tests/sdk/node/node_modules

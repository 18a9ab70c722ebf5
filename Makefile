# One-word verbs; continuous integration calls the same ones (.ci/run). `make help` lists them.
# Needs Python 3.11 or newer and make. PYTHON=/path/to/python3 chooses the interpreter of the environment.

.DEFAULT_GOAL := help
.PHONY: help demo dev test test-faults test-deployment drill chaos mutants check bench lock clean

BIN   := .venv/bin
ENV   := .venv/.made
SETUP := deployment/devtools/environment.sh

# Where it is set, each of the dozens of processes of a stack or a test run compiles all that it imports.
export PYTHONDONTWRITEBYTECODE :=

help:  ## show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1	/' | expand -t 18

demo: $(ENV)  ## bring everything up, play four stories, leave a finished clip in .onetake/demo
	@$(BIN)/onetake demo

dev: $(ENV)  ## keep the whole stack in the foreground; Ctrl-C stops it, data stay in .onetake
	@$(BIN)/onetake dev

test: $(ENV)  ## run the tests on real servers, which PROCESSES=3 share, beside BUSY=0 processes that burn the processor
	@$(BIN)/python -m onetake.dev.devstack
	@$(BIN)/python -m pytest -n $(or $(PROCESSES),3) --dist loadfile $(if $(BUSY),--busy $(BUSY))

test-faults: $(ENV)  ## kill, cut off, overload and refuse everything, on real processes: tests/faults, system, chaos; PROCESSES=3 BUSY=0
	@$(BIN)/python -m onetake.dev.devstack
	@$(BIN)/python -m pytest tests/faults tests/system tests/chaos -n $(or $(PROCESSES),3) --dist loadfile $(if $(BUSY),--busy $(BUSY))

test-deployment: $(ENV)  ## run the tests of image, chart, rules, deploys and drills; installs the tools that they need
	@deployment/devtools/tools.sh
	@$(BIN)/python -m onetake.dev.devstack
	@$(BIN)/python -m pytest tests/deployment -n $(or $(PROCESSES),2) --dist loadfile $(if $(BUSY),--busy $(BUSY))

drill: $(ENV)  ## back up, put the ledger back, then Temporal, and check that nothing was sent twice or lost; GENERATIONS=9
	@$(BIN)/python -m onetake.dev.devstack
	@$(BIN)/python -m tests.system.drill $(if $(GENERATIONS),--generations $(GENERATIONS))

chaos: $(ENV)  ## kill and stop everything at random, then check every invariant; SEED=1 GENERATIONS=200 SEEDS=1 WORKERS=4 GATEWAYS=1, or BUSY=4
	@$(BIN)/python -m onetake.dev.devstack
	@$(BIN)/python -m tests.chaos $(if $(SEED),--seed $(SEED)) $(if $(SEEDS),--seeds $(SEEDS)) $(if $(GENERATIONS),--generations $(GENERATIONS)) $(if $(WORKERS),--workers $(WORKERS)) $(if $(GATEWAYS),--gateways $(GATEWAYS)) $(if $(BUSY),--busy $(BUSY))

mutants: $(ENV)  ## take each safety out of the code, one at a time: a test must turn red; ONLY=text of its name JOBS=1
	@deployment/devtools/tools.sh helm kubernetes-validate
	@$(BIN)/python -m onetake.dev.devstack
	@$(BIN)/python -m tests.mutants $(if $(ONLY),--only '$(ONLY)') $(if $(JOBS),--jobs $(JOBS))

check: $(ENV)  ## lint, format, types, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports

bench: $(ENV)  ## measure what a generation costs beside a bare workflow and DBOS; LONG=1
	@$(SETUP) bench
	@$(BIN)/python -m bench $(if $(LONG),--long)

lock:  ## make the requirement files again from pyproject.toml
	@$(SETUP) lock

clean:  ## remove the environment, the caches and all local data
	@$(SETUP) clean

$(ENV): requirements/dev.txt pyproject.toml
	@$(SETUP) make
	@touch $@

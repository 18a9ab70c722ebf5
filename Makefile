# One-word verbs; continuous integration calls the same ones (.ci/run). `make help` lists them.
# Needs Python 3.11 or newer and make. PYTHON=/path/to/python3 chooses the interpreter of the environment.

.DEFAULT_GOAL := help
.PHONY: help demo dev test chaos mutants check bench lock clean

BIN   := .venv/bin
ENV   := .venv/.made
SETUP := deployment/devtools/environment.sh

help:  ## show this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /\1	/' | expand -t 10

demo: $(ENV)  ## bring everything up, play four stories, leave a finished clip in .onetake/demo
	@$(BIN)/onetake demo

dev: $(ENV)  ## keep the whole stack in the foreground; Ctrl-C stops it, data stay in .onetake
	@$(BIN)/onetake dev

test: $(ENV)  ## run the tests on real servers, which PROCESSES=3 share
	@$(BIN)/python -m onetake.dev.devstack
	@$(BIN)/python -m pytest -n $(or $(PROCESSES),3) --dist loadfile

chaos: $(ENV)  ## kill and stop everything at random, then check every invariant; SEED=1 GENERATIONS=200 SEEDS=1
	@$(BIN)/python -m onetake.dev.devstack
	@$(BIN)/python -m tests.chaos $(if $(SEED),--seed $(SEED)) $(if $(SEEDS),--seeds $(SEEDS)) $(if $(GENERATIONS),--generations $(GENERATIONS))

mutants: $(ENV)  ## take each safety out of the code, one at a time: a test must turn red; ONLY=text of its name JOBS=1
	@$(BIN)/python -m onetake.dev.devstack
	@$(BIN)/python -m tests.mutants $(if $(ONLY),--only '$(ONLY)') $(if $(JOBS),--jobs $(JOBS))

check: $(ENV)  ## lint, format, types, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports

bench: $(ENV)  ## measure against a bare workflow on the same server
	@$(BIN)/python -m bench

lock:  ## make the requirement files again from pyproject.toml
	@$(SETUP) lock

clean:  ## remove the environment, the caches and all local data
	@$(SETUP) clean

$(ENV): requirements/dev.txt pyproject.toml
	@$(SETUP) make
	@touch $@

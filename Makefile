# The commands for people. Each one suffices on a fresh machine that has Python 3.11 or newer:
#
#     make quickstart   set up, then run the quickstart grid and show its leaderboard
#     make test         set up, then run the tests
#     make lint         set up, then check format, rules, types and the layering of the rooms
#     make faults       set up, then run the store's fault matrix ROUNDS=20 times over, and make up what trials leave,
#                       exports and bundles, some ten times as many of each
#     make orphans      set up, then kill parts of submissions at random, ROUNDS=20 of them, and look for what is left
#     make clean        remove what the above made, except results
#
# Variables: PYTHON=/path/to/python (to build the environment with), VENV=.venv (where it goes),
# PYTEST="-m 'not slow'" (further arguments of pytest), TORCH_INDEX_URL (a further index to find torch in).

VENV ?= .venv
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3.14 python3 python; do \
	"$$p" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$p" && break; done)
PYTEST ?=

BIN := $(VENV)/bin
# A stamp is made by the last command of its recipe, so what was interrupted is done again.
RUN_STAMP := $(VENV)/.wtsbench-run
DEV_STAMP := $(VENV)/.wtsbench-dev
TORCH := $(shell sed -n 's/^torch==//p' constraints.txt)

# The packages that build wtsbench are pinned too; the third name is the one of newer versions of pip. Not
# exported: wtsbench itself calls pip as well, in other folders, where no such file is.
PIP := PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_CONSTRAINT=constraints.txt PIP_BUILD_CONSTRAINT=constraints.txt \
	$(BIN)/python -m pip

.PHONY: quickstart test lint faults orphans clean
.DELETE_ON_ERROR:
.NOTPARALLEL:

quickstart: $(RUN_STAMP)
	@$(BIN)/wtsbench submit quickstart

test: $(DEV_STAMP)
	@$(BIN)/python -m pytest $(PYTEST)

lint: $(DEV_STAMP)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

faults: $(DEV_STAMP)
	@WTSBENCH_FAULT_ROUNDS=$(or $(ROUNDS),5) WTSBENCH_LEAVINGS=$(or $(ROUNDS),5)0 $(BIN)/python -m pytest \
		tests/store/test_faults.py tests/store/test_kill.py tests/store/test_hostile_exports.py \
		tests/execution/test_leavings.py tests/execution/test_hostile_bundles.py $(PYTEST)

# Needs a Docker engine; `.ci/docker-engine` starts one that the rounds may kill as well.
orphans: $(DEV_STAMP)
	@WTSBENCH_ORPHAN_ROUNDS=$(or $(ROUNDS),20) WTSBENCH_ORPHAN_SEED=$(or $(SEED),$(shell date +%s)) \
		WTSBENCH_ORPHAN_ONLY="$(ONLY)" \
		$(BIN)/python -m pytest tests/end_to_end/test_orphans.py $(PYTEST)

clean:
	@rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	@find benchmark cli tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(RUN_STAMP): pyproject.toml constraints.txt | $(VENV)/.wtsbench-torch
	@echo "installing wtsbench and what it needs (once)"
	@$(PIP) install -qq -e .
	@touch $@

$(DEV_STAMP): pyproject.toml constraints.txt | $(VENV)/.wtsbench-torch
	@echo "installing wtsbench and what its tests and linters need (once)"
	@$(PIP) install -qq -e '.[dev]'
	@touch $@ $(RUN_STAMP)

# Without a GPU the CPU build of torch, a far smaller download. pip finds it wherever it is set up to look, and in
# TORCH_INDEX_URL; where it is nowhere, the ordinary build serves as well.
$(VENV)/.wtsbench-torch: $(VENV)/.wtsbench-venv
	@set -e; \
	index="$${TORCH_INDEX_URL:+--extra-index-url=$$TORCH_INDEX_URL}"; \
	if nvidia-smi -L >/dev/null 2>&1; then \
		echo "installing torch $(TORCH) for the GPU (once)"; \
		$(PIP) install -qq $$index "torch==$(TORCH)"; \
	else \
		echo "installing torch $(TORCH) for the CPU (once)"; \
		$(PIP) install -qq $$index "torch==$(TORCH)+cpu" 2>/dev/null || { \
			echo "  pip finds no CPU build of torch (TORCH_INDEX_URL can name an index that has it): taking the ordinary one"; \
			$(PIP) install -qq $$index "torch==$(TORCH)"; }; \
	fi
	@touch $@

$(VENV)/.wtsbench-venv:
	@set -e; \
	if [ -z "$(PYTHON)" ]; then \
		echo "wtsbench needs Python 3.11 or newer with its venv module, and finds none." >&2; \
		echo "  On Debian or Ubuntu: apt-get install python3-venv. Or name one: make PYTHON=/path/to/python3 $(MAKECMDGOALS)" >&2; \
		exit 1; \
	fi; \
	echo "making the environment $(VENV) with $$($(PYTHON) --version)"; \
	[ -x $(BIN)/python ] && $(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	@touch $@

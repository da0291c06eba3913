# Register Cliff: `make help` lists what there is to make.
#
# Everything is installed with your own pip set-up (index, proxy, cache), into .venv and nowhere else; the Triton 3.5.1
# of the incident goes into the user cache folder ($REGISTER_CLIFF_CACHE moves it). Nothing needs a GPU, so a CPU build
# of torch suffices and saves gigabytes: have your pip find one (PIP_FIND_LINKS, PIP_EXTRA_INDEX_URL), the pin takes it.

PYTHON ?= python3
# A worker that runs out of tests takes some from the end of the other's list: the tests of a file stay with what they
# share, and neither waits at the end.
PYTEST_ARGS ?= -n 2 --dist worksteal
LAB_ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
INCIDENT_TRITON := 3.5.1

# A folder of settings that this JupyterLab starts with; your own settings go before them. No question about news, and
# nothing is saved unless you save it: reading and running leaves the notebooks as they were committed.
LAB_SETTINGS := helpers/workbook/lab

# Stamps are written last, so a .venv killed half-way has none and is made anew. The first holds what the .venv was made
# for: moved to another folder, or left without its Python, it no longer answers to that and is made anew as well.
INSTALLED := $(VENV)/.installed
TEST_INSTALLED := $(VENV)/.installed-test
IDENTIFY := import platform, os; print(platform.python_version(), "in", os.getcwd())
ifneq ($(wildcard $(INSTALLED)),)
ifneq ($(shell cat $(INSTALLED)),$(shell $(BIN)/python -c '$(IDENTIFY)' 2>/dev/null))
STALE := stale
endif
# A PYTHON given by name asks for that Python, also where a .venv of another one stands.
ifneq ($(origin PYTHON),file)
MINOR := 'import sys; print(*sys.version_info[:2])'
ifneq ($(shell $(PYTHON) -c $(MINOR) 2>/dev/null),$(shell $(BIN)/python -c $(MINOR) 2>/dev/null))
STALE := stale
endif
endif
endif

.DEFAULT_GOAL := help
.PHONY: help workbook lab test toolchain venv clean distclean stale
# Two recipes at once would install into one .venv.
.NOTPARALLEL:

help:  ## this list
	@sed -n 's/^\([a-z]*\):.*##/  make \1\t/p' $(MAKEFILE_LIST) | expand -t 18
	@echo
	@echo "Python 3.11, 3.12 or 3.13 on Linux; another one than python3:  make workbook PYTHON=python3.12"
	@echo "No GPU is needed, and a CPU build of torch suffices: whichever your pip finds is taken."

workbook: $(INSTALLED) toolchain  ## run every notebook, write build/index.html and its pages, print the verdict
	@$(BIN)/python -m helpers.workbook --notebooks notebooks --out build

lab: $(INSTALLED) toolchain  ## open JupyterLab on notebooks/ (more options: LAB_ARGS)
	@$(BIN)/jupyter lab --ServerApp.root_dir=. --LabApp.default_url=/lab/tree/notebooks \
	  "--LabApp.app_settings_dir=$(CURDIR)/$(LAB_SETTINGS)" $(LAB_ARGS)

test: $(TEST_INSTALLED) toolchain  ## the whole test suite, from a fresh clone on (choose: PYTEST_ARGS="-k tiles")
	@$(BIN)/python -m pytest $(PYTEST_ARGS)

toolchain: $(INSTALLED)  ## the incident's Triton 3.5.1 with its ptxas 12.8.93, beside the environment's own
	@$(BIN)/python -m helpers toolchains install $(INCIDENT_TRITON)

venv: $(INSTALLED)  ## only the environment, .venv

clean:  ## remove build/ and what tools left behind; .venv and the user cache stay
	rm -rf build .mypy_cache .pytest_cache .ruff_cache .hypothesis *.egg-info
	find helpers kernels tests notebooks -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true
	find notebooks -name .ipynb_checkpoints -prune -exec rm -rf {} + 2>/dev/null || true

distclean: clean  ## clean, and remove .venv as well
	rm -rf $(VENV)

$(INSTALLED): pyproject.toml $(STALE)
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null || { \
	  echo "Register Cliff needs Python 3.11, 3.12 or 3.13; '$(PYTHON)' answers:" \
	    "$$($(PYTHON) --version 2>&1 | head -n 1). Name another, as in: make workbook PYTHON=python3.12 -- found here:" \
	    "$$(for p in python3.13 python3.12 python3.11; do $$p --version >/dev/null 2>&1 && echo $$p; done | xargs)" \
	  >&2; exit 1; }
	@test "$$(uname -s)" = Linux || { echo "Register Cliff needs Linux: Triton is published for Linux only." >&2; exit 1; }
	@rm -rf $(VENV)
	@echo "Making $(VENV) and installing the project into it (pins: pyproject.toml)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --progress-bar on -e .
	@$(BIN)/python -c '$(IDENTIFY)' > $@.part && mv $@.part $@

$(TEST_INSTALLED): $(INSTALLED)
	@$(BIN)/python -m pip install --quiet -e '.[test]'
	@touch $@

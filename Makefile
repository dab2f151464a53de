# kdlab: everything a newcomer types. `make` alone lists it.

PYTHON      ?= python3
VENV        ?= .venv
INSTALLER   ?= uv
CONSTRAINTS ?= constraints.txt
PROFILE     ?= quick
DATA        ?=
ARGS        ?=
JOBS        ?= 2

# Runs are bit-identical only with one torch thread; parallelism comes from worker processes.
OMP_NUM_THREADS ?= 1
export OMP_NUM_THREADS
# Where bytecode is not kept, each process compiles torch anew, which takes longer than most tests.
unexport PYTHONDONTWRITEBYTECODE

BIN     := $(VENV)/bin
PINS    := $(if $(CONSTRAINTS),-c $(CONSTRAINTS))
PIP     := $(BIN)/python -m pip install --quiet --disable-pip-version-check
UV      := $(BIN)/uv pip install --quiet --python $(BIN)/python

# uv is several times faster; pip knows the mirrors and certificates that a machine was set up with.
WITH_PIP = $(PIP) $(PINS) $(1)
WITH_UV  = { $(PIP) uv && $(UV) $(PINS) $(1); } || { echo "uv could not install; trying pip ..."; $(WITH_PIP); }
install  = $(if $(filter uv,$(INSTALLER)),$(WITH_UV),$(WITH_PIP))

.DEFAULT_GOAL := help
.PHONY: help setup figures publish test test-units test-browser test-notebooks test-odd faults fuzz lint audit golden readme docs teaching lab clean conda-check

help: ## list the targets and the settings
	@echo "make TARGET [SETTING=value ...]"
	@echo
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo "Settings: PROFILE=smoke|quick|standard|full|paper  DATA=cifar10|...  ARGS='further options of kdlab figures'"
	@echo "          PYTHON=python3.12  VENV=.venv  INSTALLER=uv|pip  CONSTRAINTS= (empty: newest versions)"

setup: $(VENV)/.ready ## build the environment; again only when pyproject.toml or constraints.txt change

figures: $(VENV)/.ready ## train what is missing, run the notebooks, draw figures, verdicts and the gallery
	$(BIN)/kdlab figures --profile $(PROFILE) $(if $(DATA),--data $(DATA)) $(ARGS)

publish: PROFILE = standard
publish: $(VENV)/.ready ## copy the finished figures of PROFILE (here: standard) to figures/ and refresh the README
	$(BIN)/python -c "from kdlab.report import publish, readme; publish('$(PROFILE)', data='$(DATA)' or None); readme.write()"

test: lint ## lint, unit tests, a real browser where there is one, and every notebook
	@$(MAKE) --no-print-directory --keep-going -j$(JOBS) test-units test-notebooks test-browser test-odd

# What a test run spends its time on is told at its end.
SLOWEST = --durations=40 --durations-min=5

test-units: $(VENV)/.ready-test ## unit tests
	$(BIN)/python -m pytest $(SLOWEST) --ignore=tests/browser --ignore-glob='tests/test_widgets*' $(ODD:%=--ignore=%)

ODD = tests/faults tests/fuzz
test-odd: $(VENV)/.ready-test ## kills, full disks and harmed files, and odd input, in their short form
	$(BIN)/python -m pytest $(SLOWEST) $(ODD)

faults: $(VENV)/.ready-test ## kills, full disks, harmed files and lost workers at length: about an hour
	$(BIN)/python -m pytest -m "not slow" tests/faults
	$(BIN)/python -m pytest -m faults tests/test_cluster.py

test-browser: $(VENV)/.ready-test ## the explorers; they, the launcher and the gallery in a real browser, where there is one
	$(BIN)/python -m pytest $(SLOWEST) tests/browser tests/test_widgets*.py

# From any folder: those in the smoke profile run in a copy.
NBVAL = $(abspath $(BIN))/python -m pytest -o filterwarnings=default -p no:cacheprovider $(SLOWEST) --nbval-current-env --nbval-cell-timeout=900

# As committed these train for minutes (make teaching runs them whole), so here in the smoke profile and for half an epoch.
LESSONS = notebooks/teaching
TRAINING = $(addprefix $(LESSONS)/,$(addsuffix .ipynb,03_first_student 04_augmentation_and_distillation 10_own_experiment \
  solutions/02_temperature solutions/03_first_student solutions/04_augmentation_and_distillation solutions/10_own_experiment))
READING = $(filter-out $(TRAINING),$(wildcard $(LESSONS)/*.ipynb $(LESSONS)/solutions/*.ipynb))

# All on one store, so that what one notebook has trained the next one finds; told at the end, since units run beside it.
test-notebooks: $(VENV)/.ready-test ## every notebook: lessons that only read as committed, all others in the smoke profile
	@out=$$(mktemp -d) && trap 'rm -rf "$$out"' EXIT && export KDLAB_OUT="$$out/out" KDLAB_INTERACTIVE=0 && status=0 && \
	mkdir "$$out/notebooks" && cp -R $(LESSONS) "$$out/notebooks" && for lesson in $(TRAINING); do \
	  sed 's/"profile = \\"quick\\"/"profile = \\"smoke\\"/; s/"epochs = 20 /"epochs = 0.5 /' "$$lesson" >"$$out/$$lesson"; done && \
	{ KDLAB_PROFILE=smoke $(NBVAL) --nbval-lax notebooks/perspectives notebooks/start.ipynb notebooks/explore.ipynb && \
	  $(NBVAL) --nbval $(READING) && (cd "$$out" && $(NBVAL) --nbval-lax $(TRAINING)); } >"$$out/log" 2>&1 || status=$$?; \
	cat "$$out/log"; exit $$status

# Two at a time: these three take as long as all others together.
DEAR = explorer or figure or ledger
FUZZ = KDLAB_FUZZ=$${KDLAB_FUZZ:-10000} $(BIN)/python -m pytest -p no:cacheprovider -s tests/fuzz -k

fuzz: $(VENV)/.ready-test ## odd input of every kind, 10,000 of each (KDLAB_FUZZ=n), drawn anew each time: more than an hour
	@$(MAKE) --no-print-directory -j$(JOBS) fuzz-dear fuzz-others
	$(BIN)/python tests/fuzz/guided.py -runs=$${KDLAB_FUZZ:-10000}

fuzz-dear:
	$(FUZZ) "$(DEAR)"

fuzz-others:
	$(FUZZ) "not ($(DEAR))"

lint: $(VENV)/.ready-test ## check style and formatting of code and notebooks, and the types of what the package offers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	@$(MAKE) --no-print-directory audit

# Not among the requirements: it asks the network, and whoever has none can check all the rest.
audit: ## known weaknesses of the installed packages, where pip-audit is installed and reaches its lists
	@if said=$$($(BIN)/python -m pip_audit --local --progress-spinner off 2>&1); then \
	  unknown=$$(echo "$$said" | grep -c "could not be audited"); \
	  [ $$unknown = 0 ] || printf "%s packages are not in the lists and were not audited; in the others: " $$unknown; \
	  echo "$$said" | grep "^No known"; \
	else case "$$said" in \
	  *"No module named"*pip_audit*) echo "not audited: pip-audit is not installed (pip install pip-audit)";; \
	  *"Found "*"known vulnerabilit"*) echo "$$said"; exit 1;; \
	  *) echo "not audited: $$(echo "$$said" | tail -n 1)";; \
	esac; fi

golden: $(VENV)/.ready-test ## add the digests of new methods and augmentations to tests/golden.json
	$(BIN)/python tests/golden.py

readme: $(VENV)/.ready ## rewrite the tables of README and docs/ from figures/, the registry and the tests
	$(BIN)/python -c "from kdlab.report import readme; readme.write()"

# Warnings are errors; the site loads nothing from anywhere, which docs/conf.py looks at when it is built.
docs: $(VENV)/.ready-docs ## build the documentation as a site that needs no network: build/docs/index.html
	$(BIN)/python -m sphinx --quiet --fail-on-warning -d build/doctrees docs build/docs
	@echo "Open build/docs/index.html"

teaching: $(VENV)/.ready ## execute the teaching notebooks and keep their outputs
	$(BIN)/python -m kdlab.teaching $(ARGS)

lab: $(VENV)/.ready ## open the notebooks in JupyterLab
	$(BIN)/kdlab lab

clean: ## remove the environment and caches; runs in out/ and figures/ stay
	rm -rf $(VENV) build *.egg-info .pytest_cache .ruff_cache .mypy_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

conda-check: ## let conda solve environment.yml, where conda exists
	@if command -v conda >/dev/null 2>&1; then \
	  conda env create --dry-run --name kdlab-check --file environment.yml; \
	else echo "not checked: no conda on this machine"; fi

define CHECK_PYTHON
import sys
version = ".".join(map(str, sys.version_info[:3]))
if not (3, 11) <= tuple(sys.version_info[:2]) < (3, 14):
    sys.exit("kdlab needs Python 3.11, 3.12 or 3.13, but $(PYTHON) is " + version
             + ".\nName another one: make PYTHON=python3.12 setup\nor use conda: conda env create -f environment.yml")
try:
    import ensurepip, venv
except ImportError:
    sys.exit("Python " + version + " comes without its venv module.\nOn Debian and Ubuntu: sudo apt-get install python3-venv"
             + "\nElsewhere: name another Python with make PYTHON=..., or use conda: conda env create -f environment.yml")
endef
export CHECK_PYTHON

$(BIN)/python:
	@$(PYTHON) -c "$$CHECK_PYTHON"
	@echo "Creating $(VENV) ..."
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.ready: pyproject.toml $(CONSTRAINTS) | $(BIN)/python
	@echo "Installing kdlab into $(VENV) (PyTorch is large: about a minute, more on a slow line) ..."
	@$(call install,-e .)
	@touch $@

$(VENV)/.ready-test: $(VENV)/.ready
	@$(call install,-e ".[test]")
	@touch $@

$(VENV)/.ready-docs: $(VENV)/.ready
	@$(call install,-e ".[docs]")
	@touch $@

# Each target sets up what it needs in .venv, once: python3 and make are enough to begin with.
# Another Python: make PYTHON=python3.12 (an existing .venv keeps the Python it was made with; remove it to change).

PYTHON ?= python3
ARGS ?=
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
BLOOD_CELLS := ../shared/data/blood-cells
IMAGENET := ../shared/weights/mobilenet_v2_1.0_imagenet_notop.weights.h5
SOURCES := bloodcell_edge convert tests benchmarks examples

.DEFAULT_GOAL := help
.PHONY: help demo test bench check format outside long soak figures ship

help:  ## what there is to make
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

demo: .venv/.stamp-train  ## the main job on drawn pictures, start to end (ARGS="--data DATA ..." for real ones)
	@$(BIN)/bce demo $(ARGS)

test: .venv/.stamp-dev  ## the tests, but those that install packages or run long (ARGS="tests/imaging/test_image.py -x")
	@$(BIN)/pytest -n 2 --dist worksteal --durations=10 -m "not outside and not soak and not long" $(ARGS)

check: .venv/.stamp-dev  ## format, lint, types, import rules, docs
	@echo "format:  ruff format --check" && $(BIN)/ruff format --check $(SOURCES)
	@echo "lint:    ruff check"          && $(BIN)/ruff check $(SOURCES)
	@echo "types:   mypy"                && $(BIN)/mypy
	@echo "imports: lint-imports"        && $(BIN)/lint-imports --config setup.cfg
	@echo "docs:    tests/test_docs.py"  && $(BIN)/pytest --quiet tests/test_docs.py

format: .venv/.stamp-dev  ## put the code into the house's format
	@$(BIN)/ruff check --fix-only --quiet $(SOURCES)
	@$(BIN)/ruff format $(SOURCES)

bench: .venv/.stamp-dev  ## times of every stage, conversion, parity, training: a table, and JSON in .benchmarks/
	@$(BIN)/python benchmarks/bench_startup.py
	@mkdir -p .benchmarks
	@$(BIN)/pytest benchmarks -n 0 --timeout 0 --benchmark-only --benchmark-autosave --benchmark-json .benchmarks/latest.json \
	    --benchmark-columns min,median,iqr,max,rounds --benchmark-sort name $(ARGS)

outside: .venv/.stamp-dev  ## the tests that make environments of their own
	@$(BIN)/pytest -m outside $(ARGS)

long: .venv/.stamp-dev  ## the tests that train more than once, or take a quarter of a minute and more
	@$(BIN)/pytest -n 2 --dist worksteal -m long $(ARGS)

soak: .venv/.stamp-dev  ## the tests that run for hours
	@$(BIN)/pytest -m soak --timeout 0 $(ARGS)

figures: .venv/.stamp-dev  ## the figures of the README, measured again on ../shared (about 40 minutes)
	@test -d ../shared || { echo "make figures: no ../shared beside this folder: the pictures to measure on are there" >&2; exit 1; }
	@$(BIN)/python benchmarks/audit_truth.py
	@$(BIN)/python benchmarks/head_cache.py $(BLOOD_CELLS) --weights $(IMAGENET)
	@for recipe in original field; do \
	    $(BIN)/bce train $(BLOOD_CELLS) --group-by $(BLOOD_CELLS)/sources.csv --weights $(IMAGENET) --recipe $$recipe --name figures-$$recipe --force; \
	    $(BIN)/bce convert runs/figures-$$recipe --force; \
	    $(BIN)/bce parity runs/figures-$$recipe; \
	    $(BIN)/bce report runs/figures-$$recipe; \
	done; true  # the gate refuses the frozen backbone of `original`, as it must

ship: .venv/.stamp-dev  ## the shipped models, made again from ../shared (about two hours)
	@benchmarks/ship/ship.sh

# .[dev] contains .[train], so either stamp will do for a demo. The install is editable: source files need no second one.
.venv/.stamp-dev: setup.cfg pyproject.toml
	$(call install,dev)
	@touch .venv/.stamp-train $@

.venv/.stamp-train: setup.cfg pyproject.toml
	$(call install,train)
	@touch $@

# The Python of an existing .venv, else the one given, must be of a version that TensorFlow has wheels for.
define install
@python="$$(test -x $(BIN)/python && echo $(BIN)/python || echo $(PYTHON))"; \
"$$python" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null || { \
    found="$$("$$python" --version 2>/dev/null || echo 'not there')"; \
    echo "bloodcell_edge needs Python 3.10 to 3.13, but $$python is $$found. Try: make PYTHON=python3.12" >&2; exit 1; }
@test -x $(BIN)/python || { echo "making .venv with $$($(PYTHON) --version)"; $(PYTHON) -m venv .venv; }
@echo "installing .[$(1)] into .venv (TensorFlow is large: this takes minutes the first time)"
@$(PIP) install --editable '.[$(1)]'
endef

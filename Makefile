# Every target makes the environment it needs; nothing but python3 (3.11 or newer: the pinned versions need it) must be there.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help setup demo pictures test lint type bench clean

help: ## Show the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 10

setup: $(STAMP) ## Make the virtual environment with the pinned versions

$(STAMP): pyproject.toml constraints.txt hatch_build.py calib/native/kernel.c calib/native/compile.py
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[demo,dev]'
	@touch $@

demo: $(STAMP) ## Run the whole line on the embedded corpus and model: reports/demo/index.html
	$(BIN)/calib demo --output reports/demo --force

pictures: $(STAMP) ## Make the README's pictures anew from the reports (needs Chromium)
	$(BIN)/python docs/pictures.py

test: $(STAMP) ## Run all tests
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile

lint: $(STAMP) ## Check style and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

type: $(STAMP) ## Check types, strictly
	$(BIN)/mypy

bench: $(STAMP) ## Run the benchmarks; results land beside them
	$(BIN)/python benchmarks/front_end.py
	$(BIN)/python benchmarks/speed
	$(BIN)/python benchmarks/kill
	$(BIN)/python benchmarks/teacher_force.py
	$(BIN)/python benchmarks/retrain
	$(BIN)/python benchmarks/frontends
	$(BIN)/python benchmarks/scaler.py
	$(BIN)/python benchmarks/coverage.py
	$(BIN)/python benchmarks/diagnosis
	$(BIN)/python benchmarks/identify
	$(BIN)/python -m benchmarks.convert
	$(BIN)/python benchmarks/legs

clean: ## Remove the environment, caches and reports
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist
	find reports -mindepth 1 ! -name README.md -delete
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Each target does all of its own set-up: it needs Python 3.11 or newer, make and a network.
PYTHON ?= python3
TORCH ?= torch==2.13.0
BIN = .venv/bin

demo: .venv/demo
	$(BIN)/corec demo -o demo --force

test: .venv/test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest

.venv/made:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Corec needs Python 3.11 or newer")'
	$(PYTHON) -m venv .venv
	touch $@

.venv/demo: pyproject.toml .venv/made
	$(BIN)/pip install --quiet -e '.[demo]'
	touch $@

# By itself and of this version: left to pip, PyTorch may bring gigabytes for graphics cards.
.venv/torch: .venv/made
	$(BIN)/pip install --quiet $(TORCH)
	touch $@

.venv/test: pyproject.toml .venv/torch
	$(BIN)/pip install --quiet -e '.[test]'
	touch $@

clean:
	rm -rf .venv demo

.PHONY: demo test clean

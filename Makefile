# Needs Python >= 3.11 and make; everything else is installed into $(VENV).
PYTHON ?= python3
VENV ?= .venv
DEMO ?= demo
SCENARIO ?= scenarios/edge_resnet50.yaml
PYTEST ?= -n auto --dist loadfile

BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
LINT := $(VENV)/.lint

.PHONY: demo test lint clean install
.DEFAULT_GOAL := demo

install: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "archsim needs Python 3.11 or newer: make PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt -e '.[all,test]'
	@echo 'compiling the kernels (once)'
	$(BIN)/archsim evaluate --workload squeezenet --machine tiny >/dev/null
	touch $@

$(LINT): $(INSTALLED)
	$(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt ruff
	touch $@

# One command from a network to a trade-off curve; run it again to go on where it was stopped.
demo: $(INSTALLED)
	$(BIN)/archsim run $(SCENARIO) --out $(DEMO)
	$(BIN)/archsim plot $(DEMO)
	$(BIN)/archsim report $(DEMO)
	$(BIN)/archsim best $(DEMO)

test: $(INSTALLED)
	$(BIN)/python -m pytest $(PYTEST)

lint: $(LINT)
	$(BIN)/ruff check archsim agents tests
	$(BIN)/ruff format --check archsim agents tests

clean:
	rm -rf $(VENV) $(DEMO) build dist archsim.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

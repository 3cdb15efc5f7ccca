# Everything gemkit needs lives in .venv (and .venv-interop), built from constraints/*.txt.
# Each is rebuilt when pyproject.toml or its constraints are newer than its stamp file.

.DEFAULT_GOAL := help
.PHONY: help setup setup-dev setup-interop setup-llamacpp demo test lint interop fuzz kill nano docs bench clean

BIN := .venv/bin
INTEROP := .venv-interop/bin
INSTALL := -m pip install -qq --disable-pip-version-check --no-input
PYTHON ?= python3.11 python3.12 python3.13 python3.14 python3

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1@/p' Makefile | awk -F@ '{ printf "make %-14s %s\n", $$1, $$2 }'

# $(call venv,FOLDER): leaves a working environment there alone, else makes a new one with the
# first interpreter that will do. Some `python3.x` on PATH are launchers with nothing behind them,
# and some lack ensurepip, so each candidate is asked.
define venv
	@$(1)/bin/python -m pip --version >/dev/null 2>&1 || { \
	  for python in $(PYTHON) none; do \
	    $$python -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' \
	      >/dev/null 2>&1 && break; \
	  done; \
	  if [ $$python = none ]; then \
	    echo "setup: found no Python 3.11 or newer with the venv module;" \
	      "install one (Debian: apt install python3-venv) or name it: make PYTHON=/path/to/python" >&2; \
	    exit 1; \
	  fi; \
	  echo "setup: making $(1) with $$python"; \
	  $$python -m venv --clear $(1); }
endef

setup: .venv/.runtime ## what gemkit needs to run, in .venv
.venv/.runtime: pyproject.toml constraints/runtime.txt
	$(call venv,.venv)
	@echo "setup: installing gemkit and what it needs (about a minute, once)"
	@$(BIN)/python $(INSTALL) -c constraints/runtime.txt -e .
	@$(BIN)/python -c 'from gemkit.kernels.native import loaded; loaded()'
	@touch $@

setup-dev: .venv/.dev ## what the tests need too, in .venv
.venv/.dev: .venv/.runtime constraints/dev.txt
	@echo "setup: installing the test tools"
	@$(BIN)/python $(INSTALL) -c constraints/dev.txt -e '.[dev]'
	@touch $@

setup-interop: .venv-interop/.interop ## the other implementations, in .venv-interop
.venv-interop/.interop: pyproject.toml constraints/interop.txt
	$(call venv,.venv-interop)
	@echo "setup: installing gemkit beside the implementations it is compared with (2 GB, once)"
	@$(INTEROP)/python $(INSTALL) -c constraints/interop.txt -e '.[interop]'
	@$(INTEROP)/python $(INSTALL) -c constraints/interop.txt --no-deps gemma kauldron keras-hub
	@touch $@

setup-llamacpp: .venv-interop/.llamacpp ## llama.cpp beside them (needs a C++ compiler and ten minutes)
.venv-interop/.llamacpp: .venv-interop/.interop
	@CMAKE_BUILD_PARALLEL_LEVEL=2 $(INTEROP)/python $(INSTALL) -c constraints/interop.txt llama-cpp-python
	@touch $@

demo: .venv/.runtime ## tune the embedded model, label, complete, write a report
	@$(BIN)/python examples/demo.py

lint: .venv/.dev ## ruff and mypy
	@$(BIN)/ruff check --quiet --output-format concise .
	@$(BIN)/mypy src

# Two at a time: compiling, which most tests spend their time on, uses one core.
test: lint ## lint, then every test that needs no other implementation
	@$(BIN)/python -m pytest -n 2 --dist worksteal

# Other people's warnings are theirs: here only ours would fail, and `make test` has seen those.
interop: .venv-interop/.interop ## the tests against transformers, PEFT, KerasHub and gemma
	@$(INTEROP)/python -m pytest -n 2 --dist loadfile -m interop -W ignore tests/interop

fuzz: .venv/.runtime ## read 20,000 damaged files of every kind (a short run is part of make test)
	@$(BIN)/python tests/fuzz/run.py

kill: .venv/.dev ## kill a training 100 times; it must come to the same each time
	@$(BIN)/python tests/kill.py --times 100

nano: .venv/.runtime ## train the embedded model anew
	@$(BIN)/python nano/train.py

docs: .venv/.dev ## the documentation as a site, in build/site
	@$(BIN)/python -m mkdocs build --quiet --strict
	@echo build/site/index.html

bench: .venv-interop/.interop ## measure gemkit with KerasHub beside it
	@$(INTEROP)/python benchmarks/run.py

clean: ## remove the environments and every cache
	@rm -rf .venv .venv-interop .mypy_cache .pytest_cache .ruff_cache build dist
	@find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

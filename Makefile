# make run: observe this machine's kernel, or, where BPF is refused, a lab VM's.   make test: everything CI runs.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
VENV := .venv
PYTHON := $(VENV)/bin/python
STAMP := $(VENV)/.setup-done
C_FILES := $(wildcard bpf/*.c bpf/*.h)

.PHONY: help setup run test lint unit kernel-test format clean
help: ## show the verbs
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 14

setup: $(STAMP) ## install Debian packages and make .venv/bin/ctobserve
$(STAMP): packages.apt pyproject.toml
	tests/vm/apt-install packages.apt
	/usr/bin/python3 -m venv --system-site-packages $(VENV)
	$(PYTHON) -m pip install --quiet --editable '.[dev,lab]'
	touch $(STAMP)

run: setup ## report on a real kernel: its table, bucket distribution and drops
	$(PYTHON) tests/vm/demo.py

test: lint unit kernel-test ## lint, types, unit tests, then the kernel tests in the lab VM

lint: setup ## ruff, mypy, clang-format
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	clang-format --dry-run --Werror $(C_FILES)

unit: setup ## tests that need no root and no kernel
	$(PYTHON) -m pytest tests/unit

kernel-test: setup ## tests/kernel inside a VM with Debian's kernel
	$(PYTHON) -m pytest tests/vm
	$(PYTHON) tests/vm/lab.py --timeout 1500 -- env CTOBSERVE_KERNEL_TESTS=1 $(PYTHON) -m pytest -p no:cacheprovider tests/kernel

format: setup ## rewrite sources in the house format
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .
	clang-format -i $(C_FILES)

clean: ## remove what setup and tests made
	rm -rf $(VENV) .lab build dist *.egg-info

# `make demo` and `make test` need Python 3.11 or later and nothing else: they make .venv, install, and do their job.
BIN := .venv/bin
STAMP := .venv/.installed

# Radiographs for the tests that want real ones; without them these tests are skipped.
ifneq ($(wildcard ../shared/data),)
export BONEAGE_DATA ?= $(abspath ../shared/data)
endif
# More threads than this only get in each other's way at the sizes the demo runs at; tests run two at a time.
export OMP_NUM_THREADS ?= 2
test: export OMP_NUM_THREADS = 1

.PHONY: venv demo test lint readme docs
venv: $(STAMP)

$(STAMP): settings.ini pyproject.toml setup.py
	@for p in python3.11 python3 python; do \
	  $$p -c 'import ensurepip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && break; p=; \
	done; \
	test -n "$$p" || { echo 'boneage needs Python 3.11 or later with venv (Debian, Ubuntu: apt install python3.11-venv)' >&2; exit 1; }; \
	test -x $(BIN)/python || $$p -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

demo: venv
	$(BIN)/boneage demo --out out/demo

# make test ARGS='-k data' runs some of it
test: venv
	$(BIN)/pytest $(ARGS)

lint: venv
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

readme: venv
	$(BIN)/python tools/readme.py

# the documentation site, in _docs
docs: venv
	$(BIN)/python tools/docs.py

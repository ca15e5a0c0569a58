# Each target runs alone and does its own set-up; `make help` lists them. Needs Rust, Python 3.10 or newer, a C++ compiler; Go for
# the tests against real peers.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:

PYTHON ?= python3
VENV ?= .venv
# Seconds for each fuzz target.
FUZZ_S ?= 20
# Seconds of snapshots of a live directory.
LIVE_S ?= 600
# Python tests at a time: most of their time they wait, for nodes and clocks.
WORKERS ?= 3

bin := $(VENV)/bin
# The oldest C library that the released wheel runs with: Debian 10, Ubuntu 20.04, RHEL 8.
MANYLINUX := manylinux_2_28
wheels := dist/test-wheel
# What the package needs, in the versions of pyproject.toml.
needed = $(shell sed -n 's/^ *"\(click\|tomli\)==\(.*\)",$$/\1==\2/p' pyproject.toml)
backend := python/build_backend/evbuild.py
# Every build sees the same variables, so that nothing is compiled twice: see the backend.
run := $(bin)/python $(backend) run
# Without the remarks that maturin makes each time; what cargo and rustc say stays.
quietly = 2>&1 | { grep -vE '^(⚠️|🍹|🔗|🐍|📡|📦|✏️|🛠|From `cargo package|warning: manifest has no| *\||  = note: see |Looking in links|Ignoring |Requirement already)' || :; }
develop = $(run) $(bin)/maturin develop $(1) $(quietly)
step = @printf '\n==> %s\n' "$(1)"
export VIRTUAL_ENV := $(abspath $(VENV))
export EVBACKUP_FUZZ_S := $(FUZZ_S)

.PHONY: live notebooks notebook-tools pictures help demo test lint lint-rust lint-python test-rust test-python develop wheel test-wheel bench fuzz docs rustdoc recording reference ansible galaxy clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: develop ## Build, install into a local venv and show the whole round: back up, verify, restore, compare
	@$(bin)/evbackup demo

test: ## Everything that must hold: formats, lints, types, all tests
	@$(PYTHON) $(backend) check rust cxx
	@$(MAKE) --no-print-directory lint-rust test-rust lint-python test-python
	@printf '\n==> make test: all good%s\n' "$$(command -v go >/dev/null || echo ', but the tests against real peers were skipped: go is missing')"

lint: lint-rust lint-python ## Formats, clippy, rustdoc, ruff, mypy, stubtest

lint-rust: $(VENV)/tools
	$(call step,rustfmt)
	@cargo fmt --check
	$(call step,clippy)
	@$(run) cargo clippy --locked --tests -- -D warnings
	@PYO3_BUILD_EXTENSION_MODULE=1 $(run) cargo clippy --locked --lib --features python -- -D warnings

test-rust: $(VENV)/tools ## The Rust tests, without an interpreter
	$(call step,cargo test)
	@$(run) cargo test --locked

live: develop ## Snapshots of a directory that a real Badger keeps writing to, for LIVE_S seconds (needs Go)
	$(call step,live: $(LIVE_S) s)
	@EVBACKUP_REQUIRE_GO=1 EVBACKUP_LIVE_S=$(LIVE_S) $(bin)/pytest tests/python/interop/test_live.py

docs: develop rustdoc $(VENV)/docs ## The site of the documentation in dist/site; warnings are errors
	$(call step,sphinx)
	@$(bin)/python docs/reference.py --check
	@$(bin)/sphinx-build --fail-on-warning --keep-going --quiet --jobs auto -c docs -d dist/doctrees . dist/site
	$(call step,links of the site)
	@$(bin)/python docs/links.py dist/site

reference: develop ## Write what the reference pages say of the code anew
	@$(bin)/python docs/reference.py

recording: develop ## Record docs/recording.md anew
	@EVBACKUP_RECORD=1 $(bin)/pytest tests/python/test_docs.py -k recording.md

rustdoc: $(VENV)/tools
	$(call step,rustdoc)
	@RUSTDOCFLAGS='-D warnings' $(run) cargo doc --locked --no-deps

lint-python: develop
	$(call step,ruff)
	@$(bin)/ruff check
	@$(bin)/ruff format --check
	$(call step,mypy)
	@$(bin)/mypy
	$(call step,stubtest)
	@$(bin)/stubtest --mypy-config-file pyproject.toml evbackup

test-python: develop ## The Python tests; those against real peers when Go is there
	$(call step,pytest)
	@! command -v go >/dev/null || PYTHONPATH=tests/python $(bin)/python -m interop.peers
	@$(bin)/pytest -n $(WORKERS) --dist worksteal

develop: $(VENV)/tools
	$(call step,maturin develop)
	@$(call develop)

wheel: $(VENV)/wheel ## The wheel for Linux (manylinux) and the source package in dist/; compiles RocksDB the first time
	$(call step,maturin build --zig)
	@PATH=$(abspath $(bin)):$$PATH $(bin)/python $(backend) portable $(bin)/maturin build --release --zig --compatibility $(MANYLINUX) --out dist $(quietly)
	@$(bin)/maturin sdist --out dist $(quietly)
	@ls -l dist/*.whl dist/*.tar.gz

test-wheel: develop ## A wheel of the development build in empty environments of each Python here, and the page of the first five minutes
	$(call step,wheel)
	@rm -rf $(wheels)
	@$(run) $(bin)/maturin build --compatibility linux --out $(wheels) $(quietly)
	@$(bin)/maturin sdist --out $(wheels) $(quietly)
	@$(bin)/pip download --quiet --no-deps --dest $(wheels) --only-binary :all: --platform any --implementation py --abi none --python-version 3.10 $(needed)
	@EVBACKUP_WHEELS=$(wheels) $(bin)/pytest tests/wheel

bench: $(VENV)/tools ## The table of measured figures against their bars (release build)
	$(call step,maturin develop --release)
	@$(call develop,--release)
	$(call step,bench)
	@$(run) $(bin)/python tests/bench/run.py

fuzz: $(VENV)/tools ## Fuzz each target for FUZZ_S seconds, from the kept corpus
	$(call step,fuzz: $(FUZZ_S) s for each target)
	@$(run) cargo test --locked --test rust fuzz -- --ignored --nocapture | tee $(VENV)/fuzz.log
	@! grep -q '^running 0 tests' $(VENV)/fuzz.log || { echo 'expected fuzz targets, found none' >&2; exit 1; }

ansible: develop $(VENV)/ansible ## The collection by Ansible's own tools: sanity, integration, lint, documentation, build
	@tests/ansible.sh $(abspath $(bin))

galaxy: $(VENV)/galaxy/ready ## The collection as Galaxy takes it, in dist/; REPOSITORY=https://… is the address of its sources
	@tests/galaxy.sh $(abspath $(VENV)/galaxy/bin) '$(REPOSITORY)'

notebook-tools: $(VENV)/notebooks ## What `make test` needs to skip no notebook

notebooks: develop $(VENV)/notebooks ## The notebooks, the tables and the report page, with nothing skipped (needs Chromium)
	$(call step,notebooks)
	@EVBACKUP_REQUIRE_NOTEBOOKS=1 EVBACKUP_REQUIRE_BROWSER=1 $(bin)/pytest tests/python/notebooks

pictures: develop $(VENV)/notebooks ## Make the pictures of the notebooks and of the report page in docs/pictures anew (needs Chromium)
	$(call step,pictures)
	@$(bin)/python docs/pictures.py docs/pictures

clean: ## Remove what was built in this checkout (the cache in ~/.cache/evbackup stays)
	rm -rf $(VENV) target dist .mypy_cache .pytest_cache .ruff_cache python/evbackup/*.so
	find python tests -name __pycache__ -type d -prune -exec rm -rf {} +

# The Python tools, with the versions of pyproject.toml.
$(VENV)/tools: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 10) else f"expected Python 3.10 or newer, found {sys.version.split()[0]}: set PYTHON")'
	@$(PYTHON) $(backend) check rust cxx
	@$(PYTHON) -m venv $(VENV) || { echo 'python3 -m venv does not work: install it, for example with `apt-get install python3-venv`' >&2; exit 1; }
	@$(bin)/python -m pip install --quiet --disable-pip-version-check pip==26.3
	@$(bin)/pip install --quiet --group tools
	@touch $@

# The compiler that links against an older C library, which only `make wheel` needs.
$(VENV)/wheel: $(VENV)/tools
	@$(bin)/pip install --quiet --group wheel
	@touch $@

# Galaxy's importer wants other versions of what the rest of the tools share.
$(VENV)/galaxy/ready: $(VENV)/tools
	@$(PYTHON) -m venv $(@D)
	@$(@D)/bin/python -m pip install --quiet --disable-pip-version-check pip==26.3
	@$(@D)/bin/python -m pip install --quiet --group galaxy
	@touch $@

# Sphinx and its like, which only `make docs` needs; it runs the notebooks, too.
$(VENV)/docs: $(VENV)/notebooks
	@$(bin)/pip install --quiet --group docs
	@touch $@

# What notebooks, tables and pages are tested with is large, too. Chromium is Debian's.
$(VENV)/notebooks: $(VENV)/tools
	@$(bin)/pip install --quiet --group notebooks
	@$(PYTHON) -m venv $(VENV)/frames
	@$(VENV)/frames/bin/python -m pip install --quiet --disable-pip-version-check pip==26.3
	@$(VENV)/frames/bin/pip install --quiet --group frames
	@command -v chromium >/dev/null || echo 'chromium is missing: the tests of the report page in a browser are skipped (apt-get install chromium)' >&2
	@touch $@

# Ansible's tools are large, and only `make ansible` needs them.
$(VENV)/ansible: $(VENV)/tools
	@$(bin)/pip install --quiet --group ansible
	@touch $@

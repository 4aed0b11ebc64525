# The front door. `make run` and `make test` do all the set-up on a fresh Debian machine.

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
STAMP := $(VENV)/.requirements-installed
ON_POSTGRES := tests/console tests/protected_machines tests/replication
# A file's tests share their places, and stay in one worker. Workers wait now and then, for a
# machine to boot or a job to be taken; two more than there are processors keep all of them busy.
WORKERS ?= $(shell expr $$(nproc) + 2)
IN_PARALLEL := -n $(WORKERS) --dist loadfile --no-loadscope-reorder
# What the installer copies to a machine, whose Python may be as old as 3.9.
ON_MACHINES := agent recovery_store/__init__.py recovery_store/errors.py recovery_store/vmdk
# Lines and branches of each room that the tests have to run, in percent.
COVERED ?= 90
MEASURED := $(VENV)/bin/coverage run -m pytest $(IN_PARALLEL) -m "not guests and not browser and not full"

# Pins hold for every supported Python.
PIN := $(VENV)/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
  --custom-compile-command "make pins"

.PHONY: setup run check test test-all test-full test-postgresql coverage mutants bench format pins audit
.DEFAULT_GOAL := run

$(STAMP): requirements.txt requirements-dev.txt
	@$(PYTHON) -m lab.prepare $(VENV)
	@touch $@

setup: $(STAMP)  ## system packages, .venv, guest image, vcsim
	@$(RUN) -m lab setup

run: setup  ## two sites on this computer, until Ctrl-C
	@exec $(RUN) -m lab run

check: $(STAMP)  ## style, types, arrows between the rooms, templates, migrations, the simulator's Go
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/lint-imports --no-logo
	$(VENV)/bin/mypy recovery_store agent rescue_medium vsphere console protected_machines replication
	$(VENV)/bin/vermin --quiet --violations --no-tips -t=3.9- $(ON_MACHINES)
	$(VENV)/bin/djade --check $$(find templates -name '*.html')
	$(RUN) -m tests.line_lengths
	$(RUN) -m tests.django_checks
	lab/vcsim/build.sh --vet

test: setup  ## what judges a change: all but the tests marked `full`
	$(VENV)/bin/pytest $(IN_PARALLEL) -m "not full" tests

test-all: setup  ## the rest: those marked `full`, long property tests, PostgreSQL, and coverage
	@$(MAKE) --no-print-directory test-full coverage

test-full:
	$(VENV)/bin/pytest $(IN_PARALLEL) -m full tests
	$(VENV)/bin/pytest $(IN_PARALLEL) -m hypothesis --hypothesis-profile long tests

test-postgresql: $(STAMP)  ## what touches the database, on PostgreSQL; measures coverage meanwhile
	@rm -rf .coverage
	@pg_virtualenv -t sh -c ' \
	  DATABASE_URL="postgresql://$$PGUSER:$$PGPASSWORD@$$PGHOST:$$PGPORT/postgres" \
	  $(MEASURED) -p no:cacheprovider $(ON_POSTGRES)'

coverage: test-postgresql  ## what of each room the tests run that start no machine and no browser
	$(MEASURED) $(addprefix --ignore=,$(ON_POSTGRES)) tests
	@$(RUN) -m tests.coverage_rooms --fail-under $(COVERED)

mutants: setup  ## break important lines one at a time; does a test notice? Takes an hour or more
	$(RUN) -m tests.mutants

bench: setup  ## the figures of docs/performance.md, measured here and now
	$(RUN) -m benchmarks

format: $(STAMP)
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/djade $$(find templates -name '*.html')

pins: $(STAMP)  ## requirements*.txt from requirements*.in; newer: make pins UPGRADE="--upgrade"
	$(PIN) $(UPGRADE) requirements.in --output-file requirements.txt
	$(PIN) $(UPGRADE) requirements-dev.in --output-file requirements-dev.txt

audit: $(STAMP)  ## asks pypi.org for known vulnerabilities of all pinned packages
	@$(VENV)/bin/pip-audit --strict --progress-spinner off --require-hashes --disable-pip \
	  -r requirements-dev.txt || { echo "make audit: not passed. If no vulnerability is named above, \
	not all packages could be looked up at pypi.org, and none counts as free of any." >&2; exit 1; }

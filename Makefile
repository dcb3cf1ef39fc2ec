# `make demo` and `make check` need Python >= 3.11, git and make; they set up .venv themselves.
PYTHON ?= python3
BIN := .venv/bin
# Several files at a time, each with its tests in order; more of those that wait for processes that they started.
PYTEST := $(BIN)/python -m pytest --no-loadscope-reorder --durations=20
SHUFFLED := $(if $(SEED),-p pytest_randomly --randomly-seed=$(SEED))
ROOMS := transtailor hpc tailor results sweeps
READY := .venv/.ready
ANY_PYTHON := $(if $(wildcard $(BIN)/python),$(BIN)/python,$(PYTHON))

# Tests start hundreds of Pythons; if this variable is set, each would compile everything that it imports.
export PYTHONDONTWRITEBYTECODE :=

# With CI set, tests on a real SLURM, in a real browser and between clients of a shared folder fail if they cannot run (the last
# ones only where /dev/fuse opens); otherwise they are skipped with a reason.
ifdef CI
export SLURM_TESTS ?= required
export CHROMIUM_TESTS ?= required
export CLIENT_TESTS ?= required
endif

.PHONY: numbers demo test test-long check coverage format lint types examples constraints audit bench bench-long bench-faults bench-gpu check-gpu release docs slurm-testbed slurm-testbed-down clean

demo: $(BIN)/transtailor  ## run the embedded sweep and write its report (two to three minutes on two cores, after the installation)
	$(BIN)/transtailor run demo

test: $(READY)  ## does it work here? Seven minutes on two cores; no root, no SLURM, no browser. ROOM=results: that room's tests alone; SEED=1 shuffles the order
	$(PYTEST) -n 3 $(SHUFFLED) -m "not check and not long" $(ROOM:%=tests/%)

check: $(READY)  ## what every change must pass, and CI runs: format, lint, types, examples, `make test`, then all other tests
	$(MAKE) --no-print-directory --jobs=2 --output-sync format lint types examples
	$(MAKE) --no-print-directory test
	@if [ -n "$$CI" ]; then $(BIN)/python -m tests.install || true; fi
	$(PYTEST) -n 6 $(SHUFFLED) -m "check and not long"

test-long: $(READY)  ## all tests in a clone with an awkward name, other Pythons, oldest versions: see docs/testing.md
	$(BIN)/python -m tests.long

coverage: $(READY)  ## which test runs which line, and how long each takes: all tests of `make check`; lines in child processes are not seen
	-$(PYTEST) -n 3 -m "not check and not long" --durations=0 --cov --cov-context=test --cov-report= > .venv/coverage-test.txt
	-$(PYTEST) -n 6 -m "check and not long" --durations=0 --cov --cov-append --cov-context=test --cov-report= > .venv/coverage-check.txt
	@tail -n 1 .venv/coverage-test.txt .venv/coverage-check.txt
	@for room in $(ROOMS) .; do echo "$$room $$($(BIN)/coverage report --include="$$room/*" --format=total)%"; done

format: $(READY)
	$(BIN)/ruff format --check .

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/lint-imports > .venv/imports.txt || { cat .venv/imports.txt; exit 1; }

types: $(READY)
	$(BIN)/mypy

examples: $(READY)  ## those in the docstrings
	$(BIN)/python -m pytest --quiet --doctest-modules $(ROOMS)

constraints: $(READY)  ## update constraints.txt: the versions that CI installs, and the SHA-256 of their files
	$(BIN)/uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --generate-hashes --quiet \
	  --no-header --no-annotate --no-emit-index-url --output-file .venv/constraints.txt
	awk 'BEGIN {print "# What CI installs, with uv; written by make constraints."} /^[a-z]/ {keep = !/^((torch|torchvision|triton)==|(nvidia|cuda)-)/} keep' .venv/constraints.txt > $@.txt

audit: $(READY)  ## known vulnerabilities of the installed packages (pip-audit; needs a network); not required for a change
	@echo "asking the package index for known vulnerabilities of the installed packages (at most 5 minutes)"
	@timeout 300 $(BIN)/uv tool run pip-audit --progress-spinner off \
	  --path "$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" \
	  || { echo "make audit: either packages above have known vulnerabilities, or the index could not be reached:" \
	  "then nothing was checked; repeat it on a machine with internet"; exit 1; }

numbers: $(READY)  ## write the tables of comparisons in docs/results/evidence, and those of docs/results/README.md
	$(BIN)/python -m tools.compared_pages
	$(BIN)/python -m tools.findings

bench: $(READY)  ## twenty minutes: trials, sharing and planning against the alternatives; writes docs/results/evidence/
	$(BIN)/python benchmarks/all.py bench

bench-long: $(READY)  ## two hours: pruned networks, statistics, the cost of an answer, and a real SLURM (root, the packages of slurm-testbed); SINCE=2026-11-26 resumes
	$(BIN)/python benchmarks/all.py bench-long $(if $(SINCE),--since $(SINCE))

bench-faults: $(READY)  ## more than three hours: kills, interrupts and feeds nonsense to everything; resumes as bench-long does, and needs what that does
	$(BIN)/python benchmarks/all.py bench-faults $(if $(SINCE),--since $(SINCE))

check-gpu:  ## on a machine with a GPU, in half a minute: does it compute what the CPU computes? Needs torch and pytest, but neither Ray nor .venv
	$(ANY_PYTHON) -m pytest -q --noconftest -m gpu tests/tailor/test_gpu.py

bench-gpu:  ## on a machine with a GPU, a quarter of an hour: our step, packed trials, pruned networks; as check-gpu, without .venv, too
	@if $(ANY_PYTHON) -c "import sys, torch; sys.exit(not torch.cuda.is_available())"; then \
	  $(ANY_PYTHON) benchmarks/gpu_step.py && $(ANY_PYTHON) benchmarks/packed_trials.py && \
	  $(ANY_PYTHON) benchmarks/pruned_speed.py --device cuda --out docs/results/evidence/pruned_speed_on_a_gpu; \
	else echo "no GPU: torch sees none, so nothing was measured"; fi

release: $(READY)  ## from the last commit: sdist, wheel, sums and SBOM in dist/, tried as a user would; publishes nothing. TEST=1: `make test` of the sdist, too
	$(BIN)/python -m tools.release $(if $(TEST),--test)

docs: $(READY)  ## the documentation site, from the pages in docs/: docs/_build/index.html; needs no network
	$(BIN)/python -m sphinx -W --keep-going --quiet docs docs/_build

slurm-testbed: $(READY)  ## a real SLURM of several nodes on this machine, for trying and testing (root, Debian-like)
	$(BIN)/python -m tests.install
	$(BIN)/python tests/slurm/testbed.py up

slurm-testbed-down: $(READY)  ## end exactly what slurm-testbed started
	$(BIN)/python tests/slurm/testbed.py down

clean:  ## remove the environment and the caches of tools; runs/ and cache/ stay
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache docs/_build *.egg-info

$(BIN)/transtailor:  # only what users need; `make check` adds the developers' packages
	@echo "installing into .venv: torch and Ray are some hundred MB, with CUDA several GB (for the CPU build: see README)"
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --editable .

# uv installs in half of pip's time; it does not read pip's settings, so it is only used if it finds all packages.
# constraints.txt leaves out torch and CUDA: registries have different files of one version, and so different SHA-256.
LOCKED := $(BIN)/uv pip install --quiet --constraints constraints.txt --python $(BIN)/python --editable '.[dev]'
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	if [ -n "$$CI" ] && $(BIN)/python -m pip install --quiet uv && $(LOCKED) --dry-run; then $(LOCKED); \
	  else $(BIN)/python -m pip install --quiet --editable '.[dev]'; fi
	touch $@

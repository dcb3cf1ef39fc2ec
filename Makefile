# `make demo` and `make check` need Python >= 3.11, git and make; they set up .venv themselves.
PYTHON ?= python3
BIN := .venv/bin
# Four at a time, a file's tests one after the other: most tests wait for processes that they started.
PYTEST := $(BIN)/python -m pytest -n 4 --no-loadscope-reorder --durations=60
READY := .venv/.ready

# They start hundreds of Pythons; where this is set, each one would compile all that it imports.
export PYTHONDONTWRITEBYTECODE :=

# With CI set, tests on a real SLURM and in a real browser fail where they cannot run; otherwise they are skipped, and say so.
ifdef CI
export SLURM_TESTS ?= required
export CHROMIUM_TESTS ?= required
endif

.PHONY: demo test test-fast test-long check format lint types collected constraints audit bench bench-long bench-faults slurm-testbed slurm-testbed-down clean

demo: $(BIN)/transtailor  ## run the embedded sweep and write its report (about five minutes on two cores, after the installation)
	$(BIN)/transtailor run demo

check: $(READY)  ## what a change has to pass, in 24 minutes on two quiet cores: what CI runs
	$(MAKE) --jobs=2 --output-sync format lint types collected
	$(MAKE) test

test: $(READY)  ## the tests; with CI set, what they need beside Python is installed (root, Debian-like)
	@if [ -n "$$CI" ]; then $(BIN)/python -m tests.install || true; fi
	$(PYTEST) -m "not long"

test-fast: $(READY)  ## the tests that take neither Ray nor more than a few seconds each
	$(PYTEST) -m "not slow and not ray and not slurm and not long"

test-long: $(READY)  ## all tests in a clone with an awkward name, other Pythons, lowest versions: see docs/testing.md
	$(BIN)/python -m tests.long

format: $(READY)
	$(BIN)/ruff format --check .

lint: $(READY)
	$(BIN)/ruff check .

types: $(READY)
	$(BIN)/mypy

# Beside the types, on the other core: a test that cannot be imported shows at once, and what tests import is compiled once.
collected: $(READY)
	$(BIN)/python -m pytest --collect-only --quiet > .venv/collected.txt || { tail -n 40 .venv/collected.txt; exit 1; }

constraints: $(READY)  ## write constraints.txt anew: the versions that CI installs, and the SHA-256 of their files
	$(BIN)/uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --generate-hashes --quiet \
	  --no-header --no-annotate --no-emit-index-url --output-file .venv/constraints.txt
	awk 'BEGIN {print "# What CI installs, with uv; written by make constraints."} /^[a-z]/ {keep = !/^((torch|torchvision|triton)==|(nvidia|cuda)-)/} keep' .venv/constraints.txt > $@.txt

audit: $(READY)  ## known holes of what is installed (pip-audit; needs a network); no part of what a change has to pass
	@echo "asking the package index for known holes of what is installed (at most 5 minutes)"
	@timeout 300 $(BIN)/uv tool run pip-audit --progress-spinner off \
	  --path "$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" \
	  || { echo "make audit: either packages above have known holes, or there is no way to the index and its list of holes:" \
	  "then nothing was looked up; type it again where there is a network"; exit 1; }

bench: $(READY)  ## half an hour: speed and memory beside the alternatives; writes docs/results/
	$(BIN)/python benchmarks/training_loop.py
	$(BIN)/python benchmarks/empty_trial.py
	$(BIN)/python benchmarks/scheduling.py
	$(BIN)/python benchmarks/sharing.py --spec benchmarks/paper_like.toml
	$(BIN)/python benchmarks/startup.py

bench-long: $(READY)  ## one and a half hours: the other benchmarks of speed and scale, two of them on a real SLURM (root, the packages of slurm-testbed)
	$(BIN)/python benchmarks/planning.py
	$(BIN)/python benchmarks/pruned_model.py
	$(BIN)/python benchmarks/footprint.py
	$(BIN)/python benchmarks/pruned_speed.py
	$(BIN)/python benchmarks/input_path.py
	$(BIN)/python benchmarks/sharing.py --seeds 1
	$(BIN)/python benchmarks/scoring.py
	$(BIN)/python benchmarks/legr.py
	$(BIN)/python benchmarks/preparation.py
	$(BIN)/python benchmarks/prepared_memory.py
	$(BIN)/python benchmarks/simulation.py
	$(BIN)/python benchmarks/coverage.py
	$(BIN)/python benchmarks/read_while_writing.py
	$(BIN)/python benchmarks/large_run.py
	$(BIN)/python benchmarks/store.py
	$(BIN)/python benchmarks/many_trials.py
	$(BIN)/python benchmarks/cluster_start.py
	$(BIN)/python benchmarks/utilisation.py

bench-faults: $(READY)  ## an hour and more: everything is struck, interrupted and fed nonsense; goes on from the faults on record; needs what bench-long does
	$(BIN)/python benchmarks/faults.py
	$(BIN)/python benchmarks/faults.py --with ray --faults 100
	$(BIN)/python benchmarks/faults.py --with slurm --faults 30
	$(BIN)/python benchmarks/soak.py
	$(BIN)/python benchmarks/fuzzing.py
	$(BIN)/python benchmarks/chaos.py

slurm-testbed: $(READY)  ## a real SLURM of several nodes on this machine, for trying and testing (root, Debian-like)
	$(BIN)/python -m tests.install
	$(BIN)/python tests/slurm/testbed.py up

slurm-testbed-down: $(READY)  ## end exactly what that started
	$(BIN)/python tests/slurm/testbed.py down

clean:  ## remove the environment and what tools left; runs/ and cache/ stay
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache *.egg-info

$(BIN)/transtailor:  # what users need alone; `make check` adds the developers' packages
	@echo "installing into .venv: torch and Ray are some hundred MB, with CUDA some GB (the CPU build alone: see README)"
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --editable .

# uv installs in half of pip's time; it does not read pip's own settings, so it is used where it finds all packages.
# In constraints.txt is nothing of torch and CUDA: registries offer other files of one version, and so other SHA-256.
LOCKED := $(BIN)/uv pip install --quiet --compile-bytecode --constraints constraints.txt --python $(BIN)/python --editable '.[dev]'
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	if [ -n "$$CI" ] && $(BIN)/python -m pip install --quiet uv && $(LOCKED) --dry-run; then $(LOCKED); \
	  else $(BIN)/python -m pip install --quiet --editable '.[dev]'; fi
	touch $@

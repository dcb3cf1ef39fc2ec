# `make demo` and `make test` need Python >= 3.11, git and make; they set up .venv themselves.
PYTHON ?= python3
BIN := .venv/bin
# Two at a time, a file's tests one after the other: most tests wait for processes that they started.
TWO_AT_A_TIME := -n 2 --no-loadscope-reorder
READY := .venv/.ready

.PHONY: demo test test-fast check format lint types bench bench-long bench-faults slurm-testbed slurm-testbed-down clean

demo: $(READY)  ## run the embedded sweep and write its report (about five minutes on two cores)
	$(BIN)/python sweeps/launch.py

test: $(READY)  ## all tests; with CI set, those on a real SLURM are required wherever its packages can be installed
	@if [ -n "$$CI" ] && $(BIN)/python -m tests.slurm.install; then export SLURM_TESTS=required; fi; \
	$(BIN)/python -m pytest $(TWO_AT_A_TIME)

test-fast: $(READY)  ## the tests that take neither Ray nor more than a few seconds each
	$(BIN)/python -m pytest $(TWO_AT_A_TIME) -m "not slow and not ray and not slurm"

check: format lint types test  ## what a change has to pass

format: $(READY)
	$(BIN)/ruff format --check .

lint: $(READY)
	$(BIN)/ruff check .

types: $(READY)
	$(BIN)/mypy

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
	$(BIN)/python -m tests.slurm.install
	$(BIN)/python tests/slurm/testbed.py up

slurm-testbed-down: $(READY)  ## end exactly what that started
	$(BIN)/python tests/slurm/testbed.py down

clean:  ## remove the environment and what tools left; runs/ and cache/ stay
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache *.egg-info

$(READY): pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

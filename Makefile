# `make demo` and `make test` need Python >= 3.11, git and make; they set up .venv themselves.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: demo test test-fast check format lint types bench slurm-testbed slurm-testbed-down clean

demo: $(READY)  ## run the embedded sweep and write its report (about five minutes on two cores)
	$(BIN)/python sweeps/launch.py

test: $(READY)  ## all tests
	$(BIN)/python -m pytest

test-fast: $(READY)  ## the tests that take neither Ray nor more than a few seconds each
	$(BIN)/python -m pytest -m "not slow and not ray and not slurm"

check: format lint types test  ## what a change has to pass

format: $(READY)
	$(BIN)/ruff format --check .

lint: $(READY)
	$(BIN)/ruff check .

types: $(READY)
	$(BIN)/mypy

bench: $(READY)  ## measure ourselves beside the alternatives; writes docs/results/
	$(BIN)/python benchmarks/training_loop.py
	$(BIN)/python benchmarks/empty_trial.py
	$(BIN)/python benchmarks/sharing.py --seeds 1
	$(BIN)/python benchmarks/scoring.py
	$(BIN)/python benchmarks/legr.py
	$(BIN)/python benchmarks/preparation.py

slurm-testbed: $(READY)  ## a real SLURM of several nodes on this machine, for trying and testing (root, Debian-like)
	apt-get install -y --no-install-recommends slurm-wlm munge slurmdbd slurm-wlm-mysql-plugin mariadb-server iproute2
	$(BIN)/python tests/slurm/testbed.py up

slurm-testbed-down: $(READY)  ## end exactly what that started
	$(BIN)/python tests/slurm/testbed.py down

clean:  ## remove the environment and what tools left; runs/ and cache/ stay
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache *.egg-info

$(READY): pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

"""Variables that go to SLURM's commands, and those that go to ranks."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from hpc.environment import PINNING, SLURM_CREDENTIALS, for_ranks, for_slurm, missing_cores

SHOWS = "import os; import torch; print(len(os.sched_getaffinity(0)))"


def test_each_variable_goes_where_it_is_for() -> None:
    shell = dict.fromkeys(["HOME", "CUDA_VISIBLE_DEVICES", "SLURM_CONF", "SLURM_JOB_ID", "TMPDIR"], "x")
    assert for_slurm(shell).keys() == {"HOME", "CUDA_VISIBLE_DEVICES", "SLURM_CONF"}
    assert for_ranks(shell) == shell  # Ray's nodes read what SLURM gave the job
    both = shell | dict.fromkeys(PINNING | SLURM_CREDENTIALS, "x")
    assert for_ranks(both) == shell
    assert for_slurm(both).keys() >= SLURM_CREDENTIALS


@pytest.mark.parametrize(
    ("ranks", "threads", "cores", "is_enough"), [(1, 1, 1, True), (2, 2, 4, True), (2, 2, 3, False), (4, 1, 1, False)]
)
def test_fewer_cores_than_threads_are_said(ranks: int, threads: int, cores: int, is_enough: bool) -> None:
    fault = missing_cores({"LOCAL_WORLD_SIZE": str(ranks), "OMP_NUM_THREADS": str(threads)}, cores)
    assert (fault is None) == is_enough
    assert is_enough or f"may use {cores} core" in str(fault)


@pytest.mark.check
@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one core: nothing can be pinned to fewer")
def test_the_variables_do_pin_where_they_are_left(tmp_path: Path) -> None:
    pinned = for_ranks(os.environ) | {"OMP_PROC_BIND": "true", "OMP_PLACES": "cores"}
    shown = [
        subprocess.run(
            [shutil.which(sys.executable) or sys.executable, "-c", SHOWS],
            env=environment, cwd=tmp_path, capture_output=True, text=True, check=True,
        ).stdout.strip()
        for environment in (pinned, for_ranks(pinned))
    ]  # fmt: skip
    assert shown == ["1", str(len(os.sched_getaffinity(0)))]

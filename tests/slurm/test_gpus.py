"""Ranks on GPUs: each sees those that SLURM gave its job and Ray gave to it, whole ones and parts.

The nodes' GPUs are none that torch could use, so a trial ends with these words. What its ranks saw is written down
before by a module of the user's, as they import it.
"""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from hpc.slurm.jobs import cancel, jobs
from tests.slurm.sweep import make_sweep, until
from tests.slurm.testbed import Testbed

MODULE = """
import json
import os
import socket
from pathlib import Path

from tailor.extend import CRITERIA, Criterion

CRITERIA.add("sees", Criterion(compute=print, source="a test"))
if "RANK" in os.environ:  # not where the sweep is planned
    seen = {{"node": socket.gethostname(), "process": os.getpid(), "rank": os.environ["RANK"]}}
    seen |= {{"ours": os.environ.get("CUDA_VISIBLE_DEVICES"), "jobs": os.environ.get("SLURM_STEP_GPUS")}}
    Path({folder!r}, f"{{seen['node']}}-{{seen['process']}}.json").write_text(json.dumps(seen))
"""
SPEC = """
imports = ["sees.py"]
[trial]
method = {{ name = "prune", criterion = "sees" }}
[axes]
seed = {seeds}
[resources]
ranks = {ranks}
gpus_per_rank = {gpus_per_rank}
"""


@pytest.fixture
def first_gpus_are_taken(three_nodes: Testbed) -> Iterator[None]:
    """Somebody else's job holds a GPU and a CPU of each node."""
    options = ["--parsable", "--nodes=3", "--ntasks-per-node=1", "--gpus-per-node=1", "--mem=100", "--output=/dev/null"]
    words = ["sbatch", *options, "--wrap=sleep 3600"]
    done = subprocess.run(words, env=three_nodes.environment, capture_output=True, text=True, check=True)
    job = done.stdout.strip()
    until(lambda: jobs([job], None)[job].state == "RUNNING", 300, "the job that takes GPUs")
    yield
    cancel([job], None)


def seen_by_ranks(
    testbed: Testbed, folder: Path, *, ranks: int, gpus_per_rank: float, gpus: int, trials: int = 1
) -> list[dict[str, str]]:
    """What the ranks of each trial saw, by rank, on nodes of so many GPUs."""
    (folder / "seen").mkdir()
    (folder / "sees.py").write_text(MODULE.format(folder=str(folder / "seen")))
    spec = SPEC.format(ranks=ranks, gpus_per_rank=gpus_per_rank, seeds=list(range(trials)))
    sweep = make_sweep(testbed, folder, "gpus", spec, cpus=ranks * trials, gpus=gpus)
    done = sweep.launch()
    assert done.returncode == 1, done.stdout + done.stderr
    assert "torch sees no GPU" in done.stdout
    until(lambda: not sweep.place.jobs(), 300, "its jobs to end")
    seen = [json.loads(path.read_text()) for path in (folder / "seen").iterdir()]
    assert len({one["process"] for one in seen}) == ranks * trials
    return sorted(seen, key=lambda one: str(one["rank"]))


@pytest.mark.long
def test_two_ranks_on_a_node_have_a_gpu_each(three_nodes: Testbed, tmp_path: Path) -> None:
    seen = seen_by_ranks(three_nodes, tmp_path, ranks=2, gpus_per_rank=1, gpus=2)
    assert len({one["node"] for one in seen}) == 1
    assert {one["jobs"] for one in seen} == {"0,1"}
    assert {one["ours"] for one in seen} == {"0", "1"}


@pytest.mark.long
def test_two_trials_share_a_gpu_by_a_part_of_it(three_nodes: Testbed, tmp_path: Path) -> None:
    seen = seen_by_ranks(three_nodes, tmp_path, ranks=1, gpus_per_rank=0.5, gpus=1, trials=2)
    assert len({one["node"] for one in seen}) == 1
    assert {(one["jobs"], one["ours"]) for one in seen} == {("0", "0")}


@pytest.mark.usefixtures("first_gpus_are_taken")
def test_the_gpu_is_the_one_that_slurm_gave(three_nodes: Testbed, tmp_path: Path) -> None:
    (seen,) = seen_by_ranks(three_nodes, tmp_path, ranks=1, gpus_per_rank=0.5, gpus=1)
    assert (seen["jobs"], seen["ours"]) == ("1", "1")

"""Which devices trials get where their spec says nothing about GPUs, and that the plan, `status` and a job say it."""

from pathlib import Path

import pytest

from hpc.cluster.cluster_folder import ClusterFolder
from hpc.sites.site import Site
from sweeps.errors import SpecError
from sweeps.operations import controller
from sweeps.operations.status import status
from sweeps.planning.devices import spec_on_site
from sweeps.planning.plan import make_plan
from sweeps.slurm.cluster_run import Submission
from sweeps.spec.spec import load_spec
from tests.sweeps.conftest import WriteSpec, created_run
from transtailor.__main__ import main

GPUS = Site(cpus_per_node=8, gpus_per_node=4, walltime_min=60)
CPUS = Site(cpus_per_node=8, walltime_min=60)
SITE = "cpus_per_node = 8\nwalltime_min = 60\n"
SEARCH = """
name = "searched"
[trial]
method.name = "fine_tune"
[axes]
optimisation.learning_rate = [0.1, 0.01]
seed = [0]
[search]
sampler = "tpe"
trials = 2
gpu_hours = 1
"""


def planned(capsys: pytest.CaptureFixture[str], folder: Path, *words: str) -> str:
    """What `--plan` prints."""
    places = ["--runs", str(folder / "runs"), "--cache", str(folder / "cache")]
    assert main(["run", *words, "--plan", *places]) == 0
    return capsys.readouterr().out


def devices(page: str) -> str:
    """Its line about devices."""
    (line,) = [line for line in page.splitlines() if line.startswith("devices ")]
    return line.removeprefix("devices ").strip()


@pytest.mark.parametrize(
    ("site", "words", "said", "asked"),
    [
        (4, [], "1 GPU for each rank, as the site has gpus_per_node = 4, and [resources] has no gpus_per_rank", True),
        (0, [], "CPUs for each rank, as the site has gpus_per_node = 0, and [resources] has no gpus_per_rank", False),
        (4, ["0.5"], "0.5 GPUs for each rank, as gpus_per_rank = 0.5 in [resources] says", True),
        (
            4,
            ["0"],
            "CPUs for each rank, as gpus_per_rank = 0 in [resources] says; 4 GPUs of each node stay idle: to use them, "
            "type --set resources.gpus_per_rank=1",
            False,
        ),
    ],
)
def test_on_a_site_with_gpus_each_rank_gets_one_unless_the_spec_says_otherwise(
    tmp_path: Path,
    write_spec: WriteSpec,
    capsys: pytest.CaptureFixture[str],
    site: int,
    words: list[str],
    said: str,
    asked: bool,
) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(f"{SITE}gpus_per_node = {site}\n")
    options = [word for gpus in words for word in ("--set", f"resources.gpus_per_rank={gpus}")]
    page = planned(capsys, tmp_path, str(write_spec()), "--site", str(path), *options)
    assert devices(page) == said
    worker = page.partition("--- each worker")[2]
    assert ("#SBATCH --gpus-per-node=4" in worker) == asked


def test_a_plan_prints_only_the_texts_of_the_jobs_if_asked_without_slurm(
    tmp_path: Path, write_spec: WriteSpec, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(SITE)
    words = [str(write_spec()), "--site", str(path)]
    page = planned(capsys, tmp_path, *words)
    monkeypatch.setenv("PATH", "")
    assert main(["plan", *words, "--script", "--runs", str(tmp_path / "runs")]) == 0
    texts = capsys.readouterr().out
    assert texts.startswith("\n--- the controller\n#!/bin/bash\n") and "\n--- each worker\n#!/bin/bash\n" in texts
    assert page.endswith(texts) and page != texts
    assert main(["plan", words[0], "--script"]) == 2
    assert "--site local is this machine, which runs no jobs; type --site SITE" in capsys.readouterr().err


def test_the_controller_gives_trials_what_the_plan_said(tmp_path: Path, write_spec: WriteSpec) -> None:
    """It reads the run's own spec, which says nothing about GPUs, and the site as it was at the launch."""
    for name, site, gpus in (("with", GPUS, 1.0), ("without", CPUS, 0.0)):
        plan = make_plan(spec_on_site(load_spec(write_spec(), name=name), site))
        assert plan.resources.gpus_per_rank == gpus
        run = created_run(plan, tmp_path / "runs")
        ClusterFolder(run.cluster).make(site, name)
        run.submission.write_text(Submission(cache=Path("cache")).to_json())
        assert "gpus_per_rank" not in run.spec.read_text()
        assert controller.plan_of(run)[0].resources.gpus_per_rank == gpus
        told = "\n".join(part for part in status(run) if isinstance(part, str))
        assert devices(told).startswith(
            "1 GPU for each rank, as the site" if gpus else "CPUs for each rank, as the sit"
        )


def test_a_limit_in_gpu_hours_needs_gpus(write_spec: WriteSpec) -> None:
    spec = load_spec(write_spec(SEARCH))
    assert spec_on_site(spec, GPUS).resources.gpus_per_rank == 1.0
    for site in (CPUS, None):
        with pytest.raises(SpecError, match=r"gpu_hours = 1: trials use no GPU .* give hours instead"):
            spec_on_site(spec, site)
    with pytest.raises(SpecError, match="trials use no GPU"):
        load_spec(write_spec(SEARCH), ["resources.gpus_per_rank=0"])

"""What SLURM's commands print, by version: each file of `outputs` says where its form comes from, and how it is read.

The files of 22.05 are what the test bed's SLURM said (`python tests/slurm/record_outputs.py`). Of other versions no
cluster was at hand: their forms are those of public reports and of the manual, with values of our own.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from hpc.errors import SlurmError
from hpc.sites.site import Need, Site
from hpc.slurm.jobs import jobs, queue, submit
from tests.hpc.fakes.commands import FakeSlurm

OUTPUTS = Path(__file__).with_name("outputs")
NO_ACCOUNTING = {"error": "Slurm accounting storage is disabled", "returncode": 1}
UNKNOWN = {"error": "slurm_load_jobs error: Invalid job id specified", "returncode": 1}
SITE = Site(cpus_per_node=1, walltime_min=60)


def answers() -> list[Any]:
    """Each answer on record, named by its version and what was asked."""
    files = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(OUTPUTS.glob("*.json"))}
    return [
        pytest.param(answer, id=f"{name}-{answer['asked']}-{number}")
        for name, record in files.items()
        for number, answer in enumerate(record["answers"])
    ]


def test_versions_from_20_11_to_25_are_on_record_with_their_source() -> None:
    records = [json.loads(path.read_text(encoding="utf-8")) for path in OUTPUTS.glob("*.json")]
    assert {record["version"].split(".")[0] for record in records} >= {"20", "21", "22", "23", "24", "25"}
    assert all(record["source"] for record in records)


@pytest.mark.parametrize("answer", answers())
def test_it_is_read(answer: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slurm, asked, expects = FakeSlurm(tmp_path, monkeypatch), answer["asked"], answer["expects"]
    said = {key: answer[key] for key in ("out", "error", "returncode") if key in answer}
    for name in ("squeue", "sacct", "scontrol"):
        slurm.says(name, {"squeue": "", "sacct": NO_ACCOUNTING, "scontrol": UNKNOWN}[name])
    slurm.says("squeue" if asked == "queue" else asked, said)
    if asked == "queue":
        names = [name for *_, name in expects]
        assert [[job.id, job.state.state, job.nodes, job.name] for job in queue(names, None)] == expects
    elif asked != "sbatch":
        states = jobs(expects, None)
        assert {job: [state.state, state.reason] for job, state in states.items()} == expects
    elif said.get("returncode"):
        with pytest.raises(SlurmError, match=expects):
            submit(SITE, Need(log_folder=tmp_path / "logs"), ["true"])
    else:
        assert submit(SITE, Need(log_folder=tmp_path / "logs"), ["true"]) == expects

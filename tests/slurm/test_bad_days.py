"""A sweep on a cluster without accounting whose commands fail at times: it ends, with the tables of a quiet one."""

import json
from pathlib import Path

import pytest

from hpc.cluster.worker import HEAD_LIMIT_S
from tests.slurm.sweep import SMALL, make_sweep, until
from tests.slurm.testbed import Testbed
from tests.slurm.unreliable import bad_day, calls

pytestmark = [
    pytest.mark.parametrize("slurm", [False], ids=["no accounting"], indirect=True, scope="module"),
    pytest.mark.timeout(1500),
    pytest.mark.long,
]
MOODS = {"real": 8, "busy": 4, "done but busy": 4, "garbage": 3, "hangs": 1}
SEED = 10
LAUNCHES = 5  # a refused one says so and is typed again


def test_a_sweep_whose_commands_fail_at_times(slurm: Testbed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = bad_day(tmp_path / "commands", MOODS, SEED)
    sweep = make_sweep(slurm, tmp_path, "shaky", SMALL, setup=json.dumps([f"export PATH='{path}'"]))
    with monkeypatch.context() as patch:
        patch.setenv("PATH", path)
        for _ in range(LAUNCHES):
            if (done := sweep.launch()).returncode != 2:
                break
            assert "Traceback" not in done.stderr
    assert done.returncode == 0, done.stdout + done.stderr
    seen = calls(tmp_path / "commands")
    assert sum(count for (name, mood), count in seen.items() if name == "sbatch" and mood != "real") > 0, seen
    assert sum(count for (name, mood), count in seen.items() if name == "squeue" and mood != "real") > 2, seen
    assert not [name for name, _ in seen if name == "sacct"]
    assert sorted(sweep.ends().values()) == [1] * 6
    # A worker that starts when the sweep is over, and that scancel did not reach, waits so long for a head.
    until(lambda: not sweep.place.jobs(), HEAD_LIMIT_S + 60, "its jobs to end")
    comparison = sweep.like_serial()
    assert comparison.is_equal, str(comparison)

"""The short version of benchmarks/faults.py, that its records add up, and that its faults do what they say."""

import csv
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import faults
from benchmarks.faults import OnRay, go_on, record
from tests.faults import slurm_lives
from tests.faults.moments import Fault, How, Moment, Watch, moments_of
from tests.faults.ray_lives import StruckRay
from tests.slurm.disturbances import Disturber
from transtailor.files import write_file

ROOT = Path(__file__).parents[2]
OLD, NEW = b"old content", b"new content"


@pytest.mark.parametrize(("attack", "number", "seed"), [
    pytest.param("writes", 1, 78, marks=pytest.mark.check),  # the power is lost while a checkpoint gets its name
    pytest.param("search", 2, 3, marks=pytest.mark.check),
    pytest.param("settle", 2, 5, marks=pytest.mark.check),
    pytest.param("writes", 60, 2, marks=pytest.mark.long),
    pytest.param("settle", 20, 6, marks=pytest.mark.long),
    pytest.param("ray", 2, 48, marks=pytest.mark.long),
])  # fmt: skip
def test_a_sweep_survives_what_strikes_it(tmp_path: Path, attack: str, number: int, seed: int) -> None:
    command = [sys.executable, "benchmarks/faults.py", "--with", attack, "--out", str(tmp_path / "f")]
    command += ["--faults", str(number), "--seed", str(seed)]
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    *_, whole = csv.DictReader((tmp_path / "f.csv").read_text().splitlines())
    assert (next(iter(whole.values())), whole["lives that broke a promise"]) == ("all", "0")
    assert len((tmp_path / "f.jsonl").read_text().splitlines()) >= number


def test_faults_add_up_over_runs_and_no_life_begins_when_time_is_up(tmp_path: Path) -> None:
    one = StruckRay(
        seed=3, life=0, launch=0, how="SIGKILL", target="rank", stages=7, ranks=1, code=0, broken=("1: a row is lost",)
    )  # fmt: skip
    path, attack = tmp_path / "f.jsonl", OnRay(tmp_path, ExitStack())
    for done in ([], [one], [one, replace(one, life=1)]):
        assert go_on(attack, path, 100, seed=3, end_s=time.monotonic()) == done
        record(path, [replace(one, life=len(done))])
    assert attack.table(done).rows[-1] == ("all", 2, 0, 0, 2, 2)


def test_a_seed_repeats_the_faults_on_slurm_and_all_of_them_are_known() -> None:
    drawn = [slurm_lives.drawn(random.Random(f"slurm/0/{number}")) for number in range(40)]
    assert drawn == [slurm_lives.drawn(random.Random(f"slurm/0/{number}")) for number in range(40)]
    assert {how for life in drawn for how, _ in life} == slurm_lives.KINDS.keys()
    assert all(callable(getattr(Disturber, how)) for how in slurm_lives.KINDS)


def carelessly(path: Path) -> None:
    temporary = path.with_name("temporary")
    temporary.write_bytes(NEW)
    temporary.replace(path)
    (path.parent / "later").touch()


def carefully(path: Path) -> None:
    write_file(path, NEW)
    (path.parent / "later").touch()


def struck(folder: Path, write: object, how: How, moment: Moment, seed: int) -> int:
    """How a fork ends that writes a file, struck before a moment."""
    (folder / "file").write_bytes(OLD)
    assert callable(write)
    child = os.fork()
    if child == 0:
        try:
            Watch(folder, folder.with_name(f"{folder.name}.trace"), Fault(how, moment, seed)).install()
            write(folder / "file")
        except BaseException:  # noqa: BLE001  # a fork must not go on as the test
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("moment", [
    Moment("open", ".file.*.tmp"), Moment("fsync", ".file.*.tmp"), Moment("rename", "file"), Moment("open", "later"),
])  # fmt: skip
def test_what_is_written_durably_is_old_or_new_when_power_is_lost(tmp_path: Path, moment: Moment, seed: int) -> None:
    assert struck(tmp_path, carefully, "loss of power", moment, seed) == -signal.SIGKILL
    expected = {OLD} if moment.place != "later" else {NEW}
    assert {(tmp_path / "file").read_bytes()} == expected


def test_what_is_not_written_durably_is_torn_or_lost_when_power_is_lost(tmp_path: Path) -> None:
    found = set()
    for seed in range(20):
        folder = tmp_path / f"{seed}"
        folder.mkdir()
        struck(folder, carelessly, "loss of power", Moment("open", "later"), seed)
        found.add((folder / "file").read_bytes())
    assert OLD in found
    assert any(content not in (OLD, NEW) for content in found)


def test_each_change_is_seen_before_it_happens(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    assert struck(folder, carefully, "SIGKILL", Moment("nothing", "such"), 0) == 0
    seen = [(moment.event, moment.place) for moment in moments_of(tmp_path / "folder.trace")]
    before = [("open", ".file.*.tmp"), ("fsync", ".file.*.tmp"), ("rename", "file")]
    assert seen == [*before, ("fsync", "."), ("open", "later")]


def test_clients_of_their_own_are_nodes_of_slurm(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        faults.main(["--with", "ray", "--clients"])
    assert "--clients goes with --with slurm" in capsys.readouterr().err

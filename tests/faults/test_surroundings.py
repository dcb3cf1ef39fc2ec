"""A machine that takes memory, room or write access away from a sweep while it runs; root, for mounts and cgroups.

What does so is a criterion of the sweep's own, so it happens inside a stage, once. The same command then goes on, and
ends with what an undisturbed sweep would have given.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from results.store.reader import load
from tests.faults.invariants import differences, violations

ROOT = Path(__file__).resolve().parents[2]
MEMORY = Path("/sys/fs/cgroup/memory")
MODULE = """
import os
import subprocess
from pathlib import Path

from tailor.extend import CRITERIA, Criterion

PLACE = os.environ["STRUCK_AT"]


def eat_memory():
    (Path(PLACE) / "cgroup.procs").write_text(str(os.getpid()))
    bytearray(4 * 10**9)


def be_read_only():
    subprocess.run(["mount", "-o", "remount,ro", PLACE], check=True)


def fill_disk():
    with (Path(PLACE) / "filler").open("wb", buffering=0) as filler:
        try:
            while filler.write(bytes(10**6)):
                pass
        except OSError:
            return


def struck(scoring):
    act = os.environ["STRUCK_BY"]
    if act and not Path(os.environ["STRUCK"]).exists():
        Path(os.environ["STRUCK"]).touch()
        globals()[act]()
    layers = [member.layer for group in scoring.found for member in group.members]
    return {layer: scoring.state.tensors[f"{layer}.weight"].abs().flatten(1).mean(dim=1) for layer in layers}


CRITERIA.add("struck", Criterion(compute=struck, source="a test"))
"""
SPEC = """
name = "struck"
imports = ["struck.py"]
[trial]
network = "friedman_mlp"
pruning.linear = true
data = { name = "friedman1", train_images = 20 }
source.epochs = 1
optimisation = { epochs = 1, head_epochs = 1 }
method = { name = "prune", criterion = "struck" }
"""

pytestmark = [
    pytest.mark.check,
    pytest.mark.skipif(os.getuid() != 0, reason="mounts a file system and makes a cgroup: only root may"),
]


def launched(notes: Path, folder: Path, act: str = "", place: Path | None = None) -> tuple[int, str]:
    """Launches the sweep of one trial with its run and cache in a folder; its exit code and what it printed."""
    notes.mkdir(exist_ok=True)
    (notes / "spec.toml").write_text(SPEC)
    (notes / "struck.py").write_text(MODULE)
    asked = {"STRUCK_BY": act, "STRUCK_AT": str(place), "STRUCK": str(notes / "struck")}
    command = [sys.executable, ROOT / "sweeps" / "launch.py", "spec.toml", "--site", "serial"]
    done = subprocess.run(
        [*command, "--runs", folder / "runs", "--cache", folder / "cache"],
        cwd=notes, env=os.environ | asked, capture_output=True, text=True, check=False,
    )  # fmt: skip
    said = done.stdout + done.stderr
    assert "Traceback" not in said, said
    return done.returncode, said


def attempts(folder: Path) -> list[dict[str, Any]]:
    with load(folder / "runs" / "struck") as tables:
        return tables.rows("SELECT * FROM attempts ORDER BY attempt")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that was left alone."""
    folder = tmp_path_factory.mktemp("undisturbed")
    code, said = launched(folder / "notes", folder)
    assert code == 0, said
    return folder / "runs" / "struck"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 300 MB, in memory."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=300m", "tmpfs", str(disk)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
    yield disk
    subprocess.run(["umount", disk], check=True)


@pytest.fixture
def little_memory() -> Iterator[Path]:
    """A cgroup that may have 1 GB."""
    group = MEMORY / f"test-{os.getpid()}"
    try:
        group.mkdir()
        (group / "memory.limit_in_bytes").write_text(str(10**9))
    except OSError as error:
        pytest.skip(f"no cgroup (version 1) with a limit on memory can be made here: {error}")
    yield group
    group.rmdir()


def is_whole(folder: Path, undisturbed: Path) -> bool:
    run = folder / "runs" / "struck"
    assert violations(run, folder / "cache", ended=True) == []
    assert differences(run, undisturbed) == []
    return True


def test_a_rank_that_runs_out_of_memory_is_replaced(tmp_path: Path, undisturbed: Path, little_memory: Path) -> None:
    code, said = launched(tmp_path / "notes", tmp_path, "eat_memory", little_memory)
    assert code == 0, said
    assert "oom_kill 1" in (little_memory / "memory.oom_control").read_text()  # it was the kernel, for memory
    died, finished = attempts(tmp_path)
    assert (died["status"], died["cause"]) == (
        "died",
        "rank 0 of 1 was ended by SIGKILL, as the kernel does when memory is short",
    )
    assert finished["status"] == "finished"
    assert is_whole(tmp_path, undisturbed)


@pytest.mark.long
def test_a_disk_that_is_full_is_told_and_the_sweep_goes_on_later(
    tmp_path: Path, undisturbed: Path, small_disk: Path
) -> None:
    code, said = launched(tmp_path / "notes", small_disk, "fill_disk", small_disk)
    assert code in (1, 2), said
    assert "No space left on device" in said
    (small_disk / "filler").unlink()
    code, said = launched(tmp_path / "notes", small_disk)
    assert code == 0, said
    assert is_whole(small_disk, undisturbed)


@pytest.mark.long
def test_a_cache_that_becomes_read_only_is_told_and_the_sweep_goes_on_later(
    tmp_path: Path, undisturbed: Path, small_disk: Path
) -> None:
    (tmp_path / "cache").symlink_to(small_disk)
    code, said = launched(tmp_path / "notes", tmp_path, "be_read_only", small_disk)
    assert code == 1, said
    (failed,) = attempts(tmp_path)
    assert (failed["status"], "Read-only file system" in failed["cause"]) == ("failed", True)
    code, said = launched(tmp_path / "notes", tmp_path)
    assert code == 2
    assert "cannot be written to (Read-only file system); type --cache with a folder of yours" in said
    assert len(attempts(tmp_path)) == 1  # refused before anything was tried
    subprocess.run(["mount", "-o", "remount,rw", small_disk], check=True)
    code, said = launched(tmp_path / "notes", tmp_path)
    assert code == 0, said
    assert is_whole(tmp_path, undisturbed)

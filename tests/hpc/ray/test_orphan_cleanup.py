"""What a killed owner leaves below /tmp is cleared, what others have is not."""

import errno
import os
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
import pytest

from hpc.ray.orphan_cleanup import MARK, OWNER, PREFIX, clear, guarded_folder, remove_abandoned, scratch_folder

OWNER_PROGRAM = """
import os, subprocess, sys
from hpc.ray.orphan_cleanup import MARK, guarded_folder
with guarded_folder() as folder:
    child = subprocess.Popen(["sleep", "600"], env=os.environ | {MARK: str(folder)}, start_new_session=True)
    guard = next(p for p in __import__("psutil").Process().children() if p.pid != child.pid)
    log = (folder / "log").open("w")  # as Ray's logs in its driver: still open when the folder is cleared
    print(folder, child.pid, guard.pid, flush=True)
    sys.stdin.read()
"""


def start_owner() -> tuple[subprocess.Popen[str], Path, psutil.Process, psutil.Process]:
    """A process with a guarded folder, the folder, a process that belongs to it, and the guard."""
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER_PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert owner.stdout is not None
    folder, child, guard = owner.stdout.readline().split()
    return owner, Path(folder), psutil.Process(int(child)), psutil.Process(int(guard))


def gone(*processes: psutil.Process) -> bool:
    return not psutil.wait_procs(processes, 300)[1]


def test_leaving_ends_marked_processes_and_spares_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hpc.ray.orphan_cleanup.END_LIMIT_S", 0.2)
    bystander = subprocess.Popen(["sleep", "600"], env=os.environ | {MARK: "/tmp/another"})
    with guarded_folder() as folder:
        assert folder.stat().st_mode & 0o777 == 0o700
        marked = subprocess.Popen(["sleep", "600"], env=os.environ | {MARK: str(folder)})
        with (folder / "log").open("w") as log:
            writer = subprocess.Popen(["sleep", "600"], stdout=log)  # its environment does not tell
        with (folder / "log").open() as log:
            reader = subprocess.Popen(["sleep", "600"], stdin=log)  # somebody who looks
    assert marked.wait(60) == writer.wait(60) == -signal.SIGKILL
    assert reader.poll() is None
    reader.kill()
    reader.wait()
    assert not folder.exists()
    assert bystander.poll() is None
    bystander.kill()
    bystander.wait()


def test_the_guard_clears_when_its_owner_was_killed() -> None:
    owner, folder, child, guard = start_owner()
    owner.kill()
    owner.wait()
    assert gone(child, guard)
    assert not folder.exists()


@pytest.mark.check
def test_an_owner_that_has_cleared_its_folder_is_left_alone() -> None:
    owner, folder, child, guard = start_owner()
    owner.communicate()
    assert owner.returncode == 0
    assert gone(child, guard)
    assert not folder.exists()


@pytest.mark.check
def test_the_next_start_clears_when_the_guard_was_killed_too() -> None:
    owner, folder, child, guard = start_owner()
    guard.kill()
    remove_abandoned()
    assert folder.exists()  # its owner lives
    owner.kill()
    owner.wait()
    remove_abandoned()
    assert gone(child, guard)
    assert not folder.exists()


def test_a_folder_of_another_machine_or_without_owner_is_left_alone() -> None:
    foreign = Path("/tmp") / f"{PREFIX}test-{os.getpid()}"
    foreign.mkdir()
    try:
        remove_abandoned()
        assert foreign.exists()
        (foreign / OWNER).write_text("another-machine boot ns\n1\n1")
        remove_abandoned()
        assert foreign.exists()
    finally:
        clear(foreign)


@pytest.mark.parametrize(
    ("machine", "stays"),
    [
        ("{host} 11111111-1111-1111-1111-111111111111 {space}", False),  # it was switched off meanwhile
        ("{host} {boot} pid:[1]", True),  # another container, whose processes cannot be seen from here
        ("elsewhere 11111111-1111-1111-1111-111111111111 {space}", True),
    ],
)
def test_a_folder_of_before_the_last_start_is_cleared(tmp_path: Path, machine: str, stays: bool) -> None:
    facts = {
        "host": socket.gethostname(),
        "boot": Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
        "space": Path("/proc/self/ns/pid").readlink(),
    }
    folder = tmp_path / f"{PREFIX}old"
    folder.mkdir()
    (folder / OWNER).write_text("\n".join([machine.format(**facts), "1", "1"]))
    remove_abandoned(tmp_path)
    assert folder.exists() == stays


def test_a_folder_below_too_long_a_path_is_made_where_sockets_fit(tmp_path: Path) -> None:
    with guarded_folder(tmp_path / ("x" * 30)) as folder:
        assert folder.parent == Path("/tmp")
    with tempfile.TemporaryDirectory(prefix="s", dir="/tmp") as short, guarded_folder(Path(short)) as folder:
        assert folder.parent == Path(short)
    assert not folder.exists()


def test_where_no_guard_can_be_started_no_folder_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    def too_many(*_: object, **__: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    with tempfile.TemporaryDirectory(prefix="s", dir="/tmp") as short:
        monkeypatch.setattr("hpc.ray.orphan_cleanup.subprocess.Popen", too_many)
        with pytest.raises(OSError, match="Too many open files"), guarded_folder(Path(short)):
            pytest.fail("nobody would remove it")
        assert not list(Path(short).iterdir())


def test_what_others_put_there_under_such_a_name_stops_nobody(tmp_path: Path) -> None:
    """Links that lead nowhere, in a circle or to another folder; a file; an owner that cannot be read or understood."""
    for name, target in (("nowhere", "gone"), ("circle", f"{PREFIX}circle"), ("elsewhere", "kept")):
        (tmp_path / f"{PREFIX}{name}").symlink_to(target)
    (tmp_path / f"{PREFIX}file").write_text("")
    odd = ("a folder", "no number", "too short", "not UTF-8")
    for name in odd:
        (tmp_path / f"{PREFIX}{name}").mkdir()
    (tmp_path / f"{PREFIX}a folder" / OWNER).mkdir()
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    here = f"{socket.gethostname()} {boot} {Path('/proc/self/ns/pid').readlink()}"
    (tmp_path / f"{PREFIX}no number" / OWNER).write_text(f"{here}\nnumber\n1")
    (tmp_path / f"{PREFIX}too short" / OWNER).write_text("1")
    (tmp_path / f"{PREFIX}not UTF-8" / OWNER).write_bytes(b"\xff\n1\n2")
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / OWNER).write_text(f"{socket.gethostname()} before pid\n1\n1")  # as before the last start
    before = sorted(tmp_path.rglob("*"))
    remove_abandoned(tmp_path)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_jobs_own_scratch_folder_goes_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, used, is_left in (("job-77", False, False), ("mine", False, True), ("of-77", True, True)):
        folder = tmp_path / name
        folder.mkdir()
        monkeypatch.setenv("TMPDIR", str(folder))
        with scratch_folder("77") as found:
            assert found == folder
            if used:
                (folder / "kept").touch()
        assert folder.exists() == is_left

"""What a Ray on this machine is started with, and what is said where it does not start; none is started here."""

import errno
import os
import signal
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ray._private import services
from ray._raylet import AuthenticationMode, AuthenticationTokenLoader, get_authentication_mode

from hpc.errors import ClusterError
from hpc.ray.local import has_raylet, local_ray
from hpc.ray.orphan_cleanup import MARK
from hpc.ray.private import check_shows_token, read_environment_again
from transtailor.waiting import wait_for


@pytest.fixture
def astray(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """A user has another Ray; returns what Ray reads of her environment."""
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "known to others")
    return environment()


def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith("RAY_") or name == MARK}


def test_it_has_a_token_of_its_own_and_listens_on_the_loopback(
    monkeypatch: pytest.MonkeyPatch, astray: dict[str, str]
) -> None:
    seen: dict[str, Any] = {}

    def init(**settings: Any) -> None:
        seen.update(settings, mark=os.environ[MARK], address_of_node=services.resolve_ip_for_localhost("127.0.0.1"))
        seen.update(mode=get_authentication_mode(), token=AuthenticationTokenLoader.instance().get_raw_token())

    monkeypatch.setattr("ray.init", init)
    tokens = set()
    for _ in range(2):
        with local_ray(1) as folder:
            assert (seen["address"], seen["address_of_node"]) == ("local", "127.0.0.1")
            assert seen["mode"] == AuthenticationMode.TOKEN
            assert seen["token"] == (folder / "token").read_text()
            assert stat.S_IMODE((folder / "token").stat().st_mode) == 0o600
            assert (seen["mark"], MARK in os.environ) == (str(folder), False)
            tokens.add(seen["token"])
        assert not folder.exists()
    assert len(tokens) == 2
    assert {len(token) for token in tokens} == {64}
    assert environment() == astray


def test_a_driver_whose_ray_takes_no_token_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as changed:
        changed.setenv("RAY_AUTH_MODE", "disabled")
        read_environment_again()
        with pytest.raises(ClusterError, match="not in its token mode"):
            check_shows_token()
    read_environment_again()


def test_where_it_does_not_start_the_error_says_what_it_needs(
    monkeypatch: pytest.MonkeyPatch, astray: dict[str, str]
) -> None:
    seen: list[Path] = []

    def init(*, _temp_dir: str, **_: Any) -> None:
        seen.append(Path(_temp_dir).parent)
        raise Exception("The current node timed out during startup.")  # as Ray does

    monkeypatch.setattr("ray.init", init)
    said = r"timed out during startup[\s\S]*/dev/shm.*ulimit -n is \d+.*--site serial"
    with pytest.raises(ClusterError, match=said), local_ray(1):
        pytest.fail("there is no Ray")
    assert len(seen) == 2  # on a machine that is busy just then the second try may do
    assert not seen[0].exists()
    assert environment() == astray


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder with so short a path that Ray's sockets fit below it."""
    with tempfile.TemporaryDirectory(prefix="s", dir="/tmp") as folder:
        yield Path(folder)


def test_its_files_are_where_tmpdir_says(monkeypatch: pytest.MonkeyPatch, short: Path, tmp_path: Path) -> None:
    monkeypatch.setattr("ray.init", lambda **_: None)
    for said, parent in ((short, short), (tmp_path / "gone", Path("/tmp")), (tmp_path / ("x" * 30), Path("/tmp"))):
        monkeypatch.setenv("TMPDIR", str(said))
        with local_ray(1) as folder:
            assert folder.parent == parent


@pytest.mark.parametrize("number", [errno.EROFS, errno.ENOSPC, errno.EACCES])
@pytest.mark.parametrize("call", ["tempfile.mkdtemp", "Path.write_text"])
def test_where_no_folder_can_be_made_it_says_what_to_type(
    monkeypatch: pytest.MonkeyPatch, short: Path, number: int, call: str
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setenv("TMPDIR", str(short))
    monkeypatch.setattr(f"hpc.ray.orphan_cleanup.{call}", refuse)
    said = rf"{os.strerror(number)}; set TMPDIR.* at most 16 bytes; or add --site serial, which needs no Ray"
    with pytest.raises(ClusterError, match=rf"made in {short}: .*{said}"), local_ray(1):
        pytest.fail("there is no Ray")
    assert list(short.iterdir()) == []


@pytest.mark.check
def test_what_does_not_come_up_in_time_is_started_once_more(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    starts: list[subprocess.Popen[bytes]] = []

    def init(**_: Any) -> None:
        starts.append(subprocess.Popen(["sleep", "600"]))
        if len(starts) == 1:
            raise Exception("The current node timed out during startup.")

    monkeypatch.setattr("ray.init", init)
    with local_ray(1):
        assert starts[0].wait() == -signal.SIGKILL  # what was left of the first try is in nobody's way
        assert starts[1].poll() is None
    assert starts[1].wait() == -signal.SIGKILL
    assert "Ray is started again: The current node timed out" in capfd.readouterr().err


def test_what_will_not_pass_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    starts = []

    def init(**_: Any) -> None:
        starts.append(1)
        raise OSError("No space left on device")

    monkeypatch.setattr("ray.init", init)
    with pytest.raises(ClusterError, match="No space left"), local_ray(1):
        pytest.fail("there is no Ray")
    assert len(starts) == 1


def test_the_loss_of_its_raylet_is_noticed_by_a_look_at_one_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program, reads, read = tmp_path / "raylet", [], Path.read_text

    def counted(path: Path, *words: Any, **options: Any) -> str:
        reads.append(path)
        return read(path, *words, **options)

    monkeypatch.setattr(Path, "read_text", counted)
    program.write_text("#!/bin/sh\nwhile :; do sleep 0.1; done\n")
    program.chmod(0o755)
    for _ in range(2):  # a second Ray in one process has another raylet
        assert not has_raylet()
        raylet = subprocess.Popen([program])
        try:
            wait_for(has_raylet, "the program of the child", 60.0)
            reads.clear()
            assert has_raylet()
            assert reads == [Path(f"/proc/{raylet.pid}/stat")]
        finally:
            raylet.kill()
            raylet.wait()

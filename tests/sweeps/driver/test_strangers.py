"""Every port that a sweep opens, found by looking, and what somebody without its token gets there."""

import ipaddress
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from hpc.ray.orphan_cleanup import PREFIX
from results.store.reader import load
from tests.hpc.stranger import OK, UNAUTHENTICATED, UNIMPLEMENTED, Answers, Port, ask, listening
from transtailor.waiting import wait_for

ROOT = Path(__file__).parents[3]
LIMIT_S = 500.0
SPEC = """
name = "long"
imports = ["waits.py"]
[trial]
network = "friedman_mlp"
pruning.linear = true
data = { name = "friedman1", train_images = 20 }
source.epochs = 1
optimisation = { epochs = 1, head_epochs = 1 }
method = { name = "prune", criterion = "waits" }
[resources]
ranks = 2
"""
# Inside a stage, with all that a training has open, and with the cores left to who asks.
MODULE = """
import time

from tailor.extend import CRITERIA, Criterion


def waits(scoring):
    while True:
        time.sleep(1)


CRITERIA.add("waits", Criterion(compute=waits, source="a test"))
"""
KNOWN = "f" * 64  # a token that others have
LED_ASTRAY = {"RAY_AUTH_MODE": "disabled", "RAY_AUTH_TOKEN": KNOWN, "RAY_ADDRESS": "127.0.0.1:6379"}
pytestmark = [pytest.mark.check, pytest.mark.timeout(1800)]


class Sweep:
    """A sweep of `--site local` while two ranks are in a stage."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "spec.toml").write_text(SPEC)
        (folder / "waits.py").write_text(MODULE)
        words = ["--runs", str(folder / "runs"), "--cache", str(folder / "cache")]
        home = folder / "home"
        home.mkdir()
        self.process = psutil.Popen(
            [sys.executable, str(ROOT / "sweeps" / "launch.py"), str(folder / "spec.toml"), *words],
            cwd=folder, env=os.environ | LED_ASTRAY | {"HOME": str(home)}, stdout=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip
        wait_for(self._trains, "the first stage", LIMIT_S)
        self.ports = listening(self.process)
        (self.ray,) = {Path(f"/tmp/{part}") for part in self._told().split("/") if part.startswith(PREFIX)}

    @property
    def token(self) -> str:
        return (self.ray / "token").read_text()

    def _trains(self) -> bool | None:
        assert self.process.poll() is None, "it ended"
        return any(self.folder.glob("cache/??/[!.]*.stage")) or None

    def _told(self) -> str:
        return next(port.program for port in self.ports if "gcs_server" in port.program)


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sweep]:
    """One for all tests; Ctrl-C ends it, which leaves nothing behind."""
    running = Sweep(tmp_path_factory.mktemp("long"))
    yield running
    started = running.process.children(recursive=True)
    os.killpg(running.process.pid, signal.SIGINT)  # as a terminal does: the whole group gets it, Ray's processes, too
    assert running.process.wait(LIMIT_S) == 130
    assert not psutil.wait_procs(started, LIMIT_S)[1]
    assert not running.ray.exists()
    with load(running.folder / "runs" / "long") as tables:
        assert tables.rows("SELECT status, cause FROM attempts") == [
            {"status": "interrupted", "cause": "the launch was stopped by SIGINT"}
        ]


def test_a_local_sweep_listens_on_the_loopback_alone(sweep: Sweep) -> None:
    assert len(sweep.ports) > 5
    assert [port for port in sweep.ports if not ipaddress.ip_address(port.address).is_loopback] == []


def test_its_token_is_its_own_and_in_no_command_line_or_environment(sweep: Sweep) -> None:
    assert (sweep.ray.stat().st_mode & 0o777, (sweep.ray / "token").stat().st_mode & 0o777) == (0o700, 0o600)
    for process in [sweep.process, *sweep.process.children(recursive=True)]:
        try:
            shown = " ".join([*process.cmdline(), *process.environ().values()])
        except psutil.NoSuchProcess:  # it has ended meanwhile
            continue
        assert sweep.token not in shown
    assert not (sweep.folder / "home" / ".ray").exists()  # where Ray's own token would be, for all of a user's Rays


def test_no_port_of_a_local_sweep_gives_a_stranger_anything(sweep: Sweep) -> None:
    closed_to_strangers(ask(sweep.ports, sweep.token, KNOWN))
    assert sweep.process.poll() is None


def closed_to_strangers(found: dict[Port, Answers]) -> None:
    """Each port is Ray's and refuses, or is of ranks that train; who has the token is answered."""
    for port, said in found.items():
        for who in ("stranger", "guesser"):
            statuses = set(said[who].values())
            assert OK not in statuses, (port, who, said)
            refused = UNAUTHENTICATED in statuses or said[who]["http"].split()[1:2] in (["401"], ["403"])
            of_ranks = "TuneSlot" in port.program and set(statuses) <= {"", None}  # torch's store, gloo
            # A process of Ray that only starts, or has no time: it tells nobody anything, the owner neither.
            silent = all(set(answers.values()) <= {"", None, UNIMPLEMENTED} for answers in said.values())
            assert refused or of_ranks or silent, (port, who, said)
    assert OK in {status for said in found.values() for status in said["owner"].values()}  # so the question was right
    assert any(said["stranger"]["http"] for said in found.values())


def cluster_in_a_network(folder: Path, *options: str) -> dict[str, Any]:
    """What is said of a head and a worker in a network of their own."""
    done = subprocess.run(
        ["unshare", "--net", sys.executable, "-m", "tests.hpc.cluster_in_a_network", str(folder), *options],
        cwd=ROOT, env=os.environ | {"HOME": str(folder)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    told: dict[str, Any] = json.loads(done.stdout)
    assert "a task ran there" in told["ran"]["text"], told["ran"]
    return told


@pytest.mark.skipif(os.geteuid() != 0, reason="a network of one's own takes root")
def test_no_port_of_a_head_and_a_worker_gives_a_stranger_anything(tmp_path: Path) -> None:
    told = cluster_in_a_network(tmp_path)
    found = {Port(*where): said for *where, said in told["ports"]}
    assert len(found) >= 6
    closed_to_strangers(found)
    assert told["heard_token"]  # docs/security.md says so; and the listener of the next test hears


@pytest.mark.skipif(os.geteuid() != 0, reason="a network of one's own takes root")
def test_with_tls_nobody_without_a_certificate_is_answered_and_nobody_hears_the_token(tmp_path: Path) -> None:
    told = cluster_in_a_network(tmp_path, "--tls")
    assert not told["heard_token"]
    assert len(told["encrypted"]) >= 5  # of the head, and two of each node
    for said in told["encrypted"]:
        # A server that does not know the call says so before it asks for the token.
        assert said in ({"no token": UNAUTHENTICATED, "owner": OK}, dict.fromkeys(("no token", "owner"), UNIMPLEMENTED))
    assert [said["owner"] for said in told["encrypted"]].count(OK) == 1

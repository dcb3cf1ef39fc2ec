"""What a job was given, and the address that its node listens on."""

import errno
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hpc.errors import ClusterError
from hpc.ray.node import (
    JobAllocation,
    allocation,
    child_of,
    errors_of,
    last_errors,
    own_address,
    signals_ignored,
)
from transtailor.waiting import wait_for


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"SLURM_CPUS_ON_NODE": "4"}, (4, None, 0)),
        ({"SLURM_CPUS_ON_NODE": "8", "SLURM_CPUS_PER_TASK": "4"}, (4, None, 0)),
        ({"SLURM_CPUS_ON_NODE": "4", "SLURM_MEM_PER_NODE": "2048"}, (4, 2**31, 0)),
        ({"SLURM_CPUS_ON_NODE": "4", "SLURM_MEM_PER_CPU": "512"}, (4, 2**31, 0)),
        ({"SLURM_CPUS_ON_NODE": "4", "CUDA_VISIBLE_DEVICES": "1,3"}, (4, None, 2)),
        ({"SLURM_CPUS_ON_NODE": "4", "CUDA_VISIBLE_DEVICES": "GPU-0aa,MIG-1bb,2"}, (4, None, 3)),
        ({"SLURM_CPUS_ON_NODE": "4", "CUDA_VISIBLE_DEVICES": ""}, (4, None, 0)),
    ],
)
def test_the_allocation_is_what_slurm_says(environment: dict[str, str], expected: tuple[int, int | None, int]) -> None:
    cpus, memory_bytes, gpus = expected
    allocated = allocation({"SLURM_JOB_ID": "7"} | environment)
    assert allocated == JobAllocation(job="7", cpus=cpus, memory_bytes=memory_bytes, gpus=gpus)


def test_outside_a_job_there_is_none() -> None:
    with pytest.raises(ClusterError, match="not a job of SLURM: 'SLURM_JOB_ID' is not set"):
        allocation({"SLURM_CPUS_ON_NODE": "4"})


def test_gpus_that_are_not_supported_are_refused_by_name() -> None:
    job = {"SLURM_JOB_ID": "7", "SLURM_CPUS_ON_NODE": "4"}
    with pytest.raises(ClusterError, match="AMD GPUs .ROCR_VISIBLE_DEVICES = 0,1.: ROCm is not supported"):
        allocation(job | {"ROCR_VISIBLE_DEVICES": "0,1"})


def test_what_cannot_start_is_told(tmp_path: Path) -> None:
    assert errors_of(tmp_path) == []
    errors = tmp_path / "session_2026" / "logs" / "raylet.err"
    errors.parent.mkdir(parents=True)
    errors.write_text("bash: line 1: /nowhere: No such file\n\n[01:02] process(7) is dead\n")
    assert errors_of(tmp_path) == ["bash: line 1: /nowhere: No such file", "[01:02] process(7) is dead"]
    errors.write_text("bash: line 1: /nowhere: No such file\n")
    errors.with_suffix(".out").write_text("[2026 I 1 1] well\n[2026 E 1 1] not registered\n[2026 I 1 1] done\n")
    assert last_errors(tmp_path) == "[2026 E 1 1] not registered | bash: line 1: /nowhere: No such file"


def test_the_address_is_that_of_the_interface() -> None:
    assert own_address("lo") == "127.0.0.1"


@pytest.mark.parametrize(("address", "said"), [("127.0.1.1", "127.0.1.1"), (None, "Name or service not known")])
def test_without_a_default_route_and_an_address_of_its_name_the_key_of_the_site_is_named(
    address: str | None, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_route(*_: object) -> None:
        raise OSError(errno.ENETUNREACH, "Network is unreachable")

    def by_name(_: str) -> str:
        if address is None:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return address

    monkeypatch.setattr(socket.socket, "connect", no_route)
    monkeypatch.setattr(socket, "gethostbyname", by_name)
    with pytest.raises(ClusterError, match=rf"{said}.*: set network_interface in the site .*interfaces here: .*lo"):
        own_address()
    monkeypatch.setattr(socket, "gethostbyname", lambda _: "10.1.2.3")
    assert own_address() == "10.1.2.3"


def test_an_unknown_interface_is_named_beside_the_known_ones() -> None:
    with pytest.raises(ClusterError, match=r"'ib7' has no IPv4 address on .*interfaces here: .*lo"):
        own_address("ib7")


def test_a_child_is_searched_for_once_and_then_looked_at_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    me, reads, read = os.getpid(), [], Path.read_text

    def counted(path: Path, *words: Any, **options: Any) -> str:
        reads.append(path)
        return read(path, *words, **options)

    child = subprocess.Popen(["sleep", "600"])
    try:
        wait_for(lambda: child_of(me, "sleep"), "the program of the child", 60.0)
        monkeypatch.setattr(Path, "read_text", counted)
        assert child_of(me, "sleep") == child.pid
        assert child_of(child.pid, "sleep") is None
        reads.clear()
        assert child_of(me, "sleep", child.pid) == child.pid
        assert reads == [Path(f"/proc/{child.pid}/stat")]
        assert child_of(me, "raylet", child.pid) is None  # another program has that number now
    finally:
        child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert child_of(me, "sleep", child.pid) is None  # it has ended, and was not waited for
    child.wait()
    assert child_of(me, "sleep", child.pid) is None


def test_children_survive_the_warning_that_reaches_all_processes() -> None:
    before = signal.getsignal(signal.SIGUSR2)
    with signals_ignored():
        child = subprocess.Popen([sys.executable, "-c", "import time; print(1, flush=True); time.sleep(60)"], stdout=-1)
    assert signal.getsignal(signal.SIGUSR2) == before
    assert child.stdout is not None
    child.stdout.read(1)
    child.send_signal(signal.SIGUSR2)
    with pytest.raises(subprocess.TimeoutExpired):
        child.wait(0.3)
    child.kill()
    child.communicate()

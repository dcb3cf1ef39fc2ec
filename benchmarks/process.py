"""The cost of a command in a separate process: seconds, processor time and memory."""

import ctypes
import os
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

LOOK_EVERY_S = 0.5
_PR_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True, kw_only=True)
class Taken:
    """The cost of one process; `cpu_s` is that of all its threads."""

    wall_s: float
    cpu_s: float
    peak_gb: float  # the system counts no peak below that of the calling process: keep that one small


def wait_for(process: "subprocess.Popen[Any]", start_s: float) -> Taken:
    """Wait for the end of a process that was started then, by time.perf_counter; return its cost."""
    _, status, used = os.wait4(process.pid, 0)
    wall_s = time.perf_counter() - start_s
    process.returncode = os.waitstatus_to_exitcode(status)
    return Taken(wall_s=wall_s, cpu_s=used.ru_utime + used.ru_stime, peak_gb=used.ru_maxrss * 1024 / 1e9)


def run_with_descendants(command: Sequence[str | Path], folder: Path) -> Taken:
    """Run a command until it and all processes that it has started, daemons too, have ended; return the cost of all.

    Processor time is read while they run, so a process lacks what it took in its last half second. Memory that
    processes share counts once. For a process without other children, whose ends this would wait for, too.

    Raises:
        CalledProcessError: the command failed.
    """
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)  # daemons become children of this process
    start_s = time.perf_counter()
    begun = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL)
    cpu_s: dict[tuple[int, float], float] = {}
    peak_bytes = 0
    status: int | None = None
    while children := psutil.Process().children(recursive=True):
        shared_bytes = 0
        for child in children:
            try:
                times = child.cpu_times()
                cpu_s[child.pid, child.create_time()] = times.user + times.system
                shared_bytes += _proportional_bytes(child.pid)
            except (psutil.NoSuchProcess, OSError):  # it has ended meanwhile
                continue
        peak_bytes = max(peak_bytes, shared_bytes)
        status = _ended_children().get(begun.pid, status)
        time.sleep(LOOK_EVERY_S)
    wall_s = time.perf_counter() - start_s
    begun.returncode = status
    if status:
        raise subprocess.CalledProcessError(status, [str(word) for word in command])
    return Taken(wall_s=wall_s, cpu_s=sum(cpu_s.values()), peak_gb=peak_bytes / 1e9)


def _ended_children() -> dict[int, int]:
    """Return the exit code of each child that has ended since the last call, by its process id."""
    codes = {}
    with suppress(ChildProcessError):  # none is left
        while True:
            pid, ended = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            codes[pid] = os.waitstatus_to_exitcode(ended)
    return codes


def _proportional_bytes(pid: int) -> int:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return 1024 * int(line.split()[1])
    return 0

"""The cost of a command in a separate process: seconds, processor time and memory."""

import os
import resource
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Taken:
    """The cost of one process; `cpu_s` is that of all its threads."""

    wall_s: float
    cpu_s: float
    peak_gb: float


def run_measured(command: Sequence[str], folder: Path, environment: Mapping[str, str] | None = None) -> Taken:
    """Runs the command once in a folder, without its output.

    The system counts no peak below that of the calling process: keep that one small.

    Raises:
        CalledProcessError: it failed.
    """
    start_s = time.perf_counter()
    with subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL) as process:
        used = reap(process)
    wall_s = time.perf_counter() - start_s
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return cost_of(wall_s, used)


def reap(process: "subprocess.Popen[Any]") -> resource.struct_rusage:
    """Waits for the end of a process; returns its resources."""
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return used


def cost_of(wall_s: float, used: resource.struct_rusage) -> Taken:
    """The cost of a process in that time."""
    return Taken(wall_s=wall_s, cpu_s=used.ru_utime + used.ru_stime, peak_gb=used.ru_maxrss * 1024 / 1e9)

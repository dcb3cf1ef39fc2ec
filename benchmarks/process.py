"""The cost of a command in a separate process: seconds, processor time and memory."""

import os
import subprocess
import time
from dataclasses import dataclass
from typing import Any


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

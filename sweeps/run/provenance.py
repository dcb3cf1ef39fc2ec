"""Where a run comes from: the command, the machine, the versions of packages (without importing them), the code."""

import importlib.metadata
import os
import platform
import shlex
import socket
import subprocess
import sys
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from transtailor.lines import lines_of
from transtailor.machine import usable_cores
from transtailor.sources import PACKAGES, ROOT, code_digest


def provenance(files: dict[Path, bytes]) -> dict[str, Any]:
    """The facts of this launch, as JSON values; `files` are the sources that run."""
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join([Path(sys.executable).name, *sys.argv]),
        "argv": list(sys.argv),
        "folder": str(Path.cwd()),
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "cores": usable_cores(),
        "cpu": _cpu(),
        "memory_bytes": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        "gpus": _gpus(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": _packages(),
        "git": _git(),
        "code_digest": code_digest(files),
    }


def _cpu() -> str | None:
    """The processor's name, if Linux knows it."""
    try:
        lines = lines_of(Path("/proc/cpuinfo").read_text())
    except OSError:
        return None
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), None)


def _gpus() -> list[str]:
    """Name, memory and driver of each GPU of this machine; empty without any."""
    words = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return lines_of(done.stdout) if done.returncode == 0 else []


@cache
def _packages() -> dict[str, str]:
    """Name -> version of each installed package, from its metadata, which a process reads once."""
    found = (dist.metadata for dist in importlib.metadata.distributions())
    versions = {metadata["Name"]: metadata["Version"] for metadata in found}
    return dict(sorted(versions.items(), key=lambda item: str(item[0]).lower()))


def _git() -> dict[str, Any] | None:
    """Commit of the checkout that the code is in, and whether it was changed; None without git or a checkout.

    An installed copy in the folder of another checkout, such as in an environment there, has no commit.
    """
    top = _git_output("rev-parse", "--show-toplevel")
    commit = _git_output("rev-parse", "HEAD")
    changes = _git_output("status", "--porcelain", "--", *PACKAGES)
    if top is None or commit is None or changes is None or Path(top).resolve() != ROOT:
        return None
    return {"commit": commit, "dirty": bool(changes), "changes": lines_of(changes)}


def _git_output(*arguments: str) -> str | None:
    command = ["git", "--no-optional-locks", "-C", str(ROOT), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None  # git is optional: digest and copy of the code identify it
    return done.stdout.strip() if done.returncode == 0 else None

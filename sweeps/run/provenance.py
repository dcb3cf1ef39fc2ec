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
from transtailor.machine import cpu_name, usable_cores
from transtailor.sources import PACKAGES, ROOT, code_digest


def provenance(files: dict[Path, bytes]) -> dict[str, Any]:
    """Return the facts of this launch as JSON values; `files` are the sources that run."""
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join([Path(sys.executable).name, *sys.argv]),
        "folder": str(Path.cwd()),
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "cores": usable_cores(),
        "cpu": cpu_name(),
        "memory_bytes": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        "gpus": _gpus(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": _packages(),
        "git": _git(),
        "code_digest": code_digest(files),
    }


def _gpus() -> list[str]:
    """Return name, memory and driver of each GPU of this machine; empty without any."""
    command = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return lines_of(answer.stdout) if answer.returncode == 0 else []


@cache
def _packages() -> dict[str, str]:
    """Return name -> version of each installed package, from its metadata, which a process reads once."""
    versions = {}
    for distribution in importlib.metadata.distributions():
        metadata = distribution.metadata  # read from the disk at each access
        versions[metadata["Name"]] = metadata["Version"]
    return dict(sorted(versions.items(), key=lambda name_and_version: str(name_and_version[0]).lower()))


def _git() -> dict[str, Any] | None:
    """Return the commit of the checkout that has this code, and its changes; None without git or a checkout.

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
        answer = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None  # git is optional: digest and copy of the code identify it
    return answer.stdout.strip() if answer.returncode == 0 else None

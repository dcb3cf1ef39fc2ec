"""Installs packages that some tests need, in a limited time: `python -m tests.install`, as root, on Debian.

Exits with 0 if all of them are installed afterwards; otherwise prints one line for each missing part, with the reason.
"""

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Callable

from tests.clients import mounts
from tests.slurm import testbed

QUIET = {"DEBIAN_FRONTEND": "noninteractive"}
WAITS = ("-o", "DPkg::Lock::Timeout=60", "-o", "Acquire::Retries=3", "-o", "Acquire::http::Timeout=20")


def no_chromium() -> str | None:
    """Why no browser can be started here; None if one can."""
    return None if shutil.which("chromium") else "no chromium: apt-get install -y --no-install-recommends chromium"


# Part -> its packages, and a function that returns why it cannot be used.
PARTS: dict[str, tuple[str, Callable[[], str | None]]] = {
    "a real SLURM": (testbed.PACKAGES, testbed.missing),
    "a browser": ("chromium", no_chromium),
    "clients of a shared folder": (mounts.PACKAGES, mounts.missing),
}


def install(packages: list[str], limit_s: float) -> str:
    """Installs the packages; returns the error, or an empty text."""
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        return ""
    for words in (("update",), ("install", "--yes", "--no-install-recommends", *packages)):
        try:
            done = subprocess.run(
                ["apt-get", "-qq", *WAITS, *words], env=os.environ | QUIET, stdin=subprocess.DEVNULL,
                capture_output=True, text=True, timeout=limit_s, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return f"apt-get {words[0]} took more than {limit_s:g} s; "
        if done.returncode and words[0] == "install":  # an update may fail in part
            return f"apt-get install failed: {(done.stderr.strip() or 'no message').splitlines()[-1]}; "
    return ""


def main() -> int:
    """Installs what is missing; returns the exit code."""
    parser = argparse.ArgumentParser(description="Installs packages that tests need.", allow_abbrev=False)
    parser.add_argument("--limit-s", type=float, default=300.0, help="for each call of apt-get")
    options = parser.parse_args()
    absent = [name for packages, missing in PARTS.values() if missing() is not None for name in packages.split()]
    wrong = install(absent, options.limit_s) if absent else ""
    reasons = {part: reason for part, (_, missing) in PARTS.items() if (reason := missing()) is not None}
    for part, reason in reasons.items():
        sys.stdout.write(f"tests that need {part} cannot run here: {wrong}{reason}\n")
    return 1 if reasons else 0


if __name__ == "__main__":
    sys.exit(main())

"""Installs what the test bed needs, in a limited time: `python -m tests.slurm.install`, as root, on a Debian.

Exits with 0 where a test bed can be raised afterwards; otherwise prints one line that says why not.
"""

import argparse
import os
import shutil
import subprocess
import sys

from tests.slurm.testbed import PACKAGES, missing

QUIET = {"DEBIAN_FRONTEND": "noninteractive"}
WAITS = ("-o", "DPkg::Lock::Timeout=60", "-o", "Acquire::Retries=1", "-o", "Acquire::http::Timeout=20")
CALLS = (("update",), ("install", "--yes", "--no-install-recommends", *PACKAGES.split()))


def install(limit_s: float) -> str:
    """Installs the packages; what went wrong in a few words, empty if nothing did."""
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        return ""
    for words in CALLS:
        try:
            done = subprocess.run(
                ["apt-get", "-qq", *WAITS, *words], env=os.environ | QUIET, stdin=subprocess.DEVNULL,
                capture_output=True, text=True, timeout=limit_s, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return f"apt-get {words[0]} took more than {limit_s:g} s; "
        if done.returncode and words[0] == "install":  # an update may fail in part
            return f"apt-get install failed: {(done.stderr.strip() or 'without a word').splitlines()[-1]}; "
    return ""


def main() -> int:
    """Installs what is missing; returns the exit code."""
    parser = argparse.ArgumentParser(description="Installs what the SLURM tests need.", allow_abbrev=False)
    parser.add_argument("--limit-s", type=float, default=300.0, help="for each call of apt-get")
    options = parser.parse_args()
    if missing() is None:
        return 0
    wrong = install(options.limit_s)
    if (reason := missing()) is None:
        return 0
    sys.stdout.write(f"no real SLURM here, its tests are skipped: {wrong}{reason}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())

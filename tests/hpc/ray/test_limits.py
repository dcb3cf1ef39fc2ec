"""Limits of the login shell: raised where the system allows it, and told where a process died."""

import subprocess
import sys

PROGRAM = "from hpc.ray import limits; limits.raise_limits(); print(limits.open_files(), limits.limits_hint(), sep='|')"


def under(limits: str) -> list[str]:
    """Open files and hint of a process that was started under some limits."""
    words = ["bash", "-c", f'{limits}; exec "$0" -c "$1"', sys.executable, PROGRAM]
    return subprocess.run(words, capture_output=True, text=True, check=True, timeout=300).stdout.strip().split("|")


def test_soft_limits_are_raised_and_hard_ones_are_told() -> None:
    assert under("ulimit -Sn 64; ulimit -Hn 4096; ulimit -St 100; ulimit -Sv 100000000") == ["4096", ""]
    _, hint = under("ulimit -t 1000")
    assert hint == "; processes here are limited to 1000 seconds of processor time (ulimit -t)"

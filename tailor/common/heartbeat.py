"""The heartbeat of this process, and its progress: a watcher can tell a long computation from one that hangs.

Each batch and each collective call beats. Your own module that computes for long without a batch calls `beat()`.
"""

from collections.abc import Callable
from itertools import count

ProgressReport = Callable[[], tuple[float, str]]
"""Gives the fraction that is done, in [0, 1], and a text for users; called from other threads."""

_numbers = count(1)
_last = [0]


def unknown_progress() -> tuple[float, str]:
    """Return no progress and no text: the report before anything sets another one."""
    return 0.0, ""


_report: list[ProgressReport] = [unknown_progress]


def beat() -> None:
    """Report that the computation is alive; costs almost no time."""
    _last[0] = next(_numbers)


sign = beat  # its name in modules that were written for version 0.1


def report_progress_by(report: ProgressReport) -> None:
    """Ask `report` for the progress from now on."""
    _report[0] = report


def latest() -> tuple[int, float, str]:
    """Return the number of beats so far (while it rises, the process is alive), and the present progress."""
    fraction, text = _report[0]()
    return _last[0], fraction, text

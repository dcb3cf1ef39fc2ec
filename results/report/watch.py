"""Write a report again and again while its sweep runs."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

from results.report.page import write_report
from results.store.completeness import is_over
from results.store.reader import load

STATE = "SELECT count(*) AS attempts, count(*) FILTER (status = 'running') AS running FROM attempts"


def watch(run: str | os.PathLike[str], period_s: float, *, out: Path | None = None) -> Iterator[Path]:
    """Write the report every `period_s` until the run has ended; yield its path each time.

    A run has ended when it is over, or when two checks in a row see no running attempt (an interrupted sweep). The page
    reloads itself with the same period; the last one no longer does.

    Raises:
        ResultsError: as `write_report`.
    """
    idle_checks = 0  # in a row
    while True:
        with load(run) as loaded:
            (state,) = loaded.rows(STATE)
            has_ended = is_over(loaded)
        is_idle = state["attempts"] > 0 and state["running"] == 0
        idle_checks = idle_checks + 1 if is_idle else 0
        has_ended = has_ended or idle_checks > 1
        yield write_report(run, None if has_ended else period_s, out=out)
        if has_ended:
            return
        time.sleep(period_s)

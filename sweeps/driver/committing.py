"""While a sweep runs, its rows are committed in a thread, and its table of points is written now and then."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa

from results.errors import ResultsError
from results.store.points import keep_what_is_not_ours, write_points
from results.store.reader import load
from sweeps.driver.commits import Commits

FIRST_S = 1.0  # until the first commit
SOONEST_S = 10.0  # between two commits
LATEST_S = 60.0  # while rows wait
COST_FRACTION = 0.05  # of a sweep's time that commits may take, within these limits
POINTS_EVERY_S = 60.0
POINTS_COST_FRACTION = 0.01  # of a sweep's time that writing its points may take
END_LIMIT_S = 30.0  # for a commit that runs when a launch is ended at once
Note = Callable[[str], object]


class PointsFile:
    """The table of points of a run that is running: written anew now and then, and at each end."""

    def __init__(self, run: Path, note: Note) -> None:
        self._run = run
        self._note = note
        self._next_s = time.monotonic() + POINTS_EVERY_S

    @property
    def is_due(self) -> bool:
        """Whether the last time is long enough ago for what it cost."""
        return time.monotonic() >= self._next_s

    def write(self) -> None:
        """Write the table; note why if that fails: the next launch does it at its end."""
        began_s = time.monotonic()
        try:
            with load(self._run) as tables:
                kept = keep_what_is_not_ours(tables)
                if kept:
                    self._note(kept)
                write_points(tables)
        except (ResultsError, OSError, pa.ArrowException) as error:
            self._note(f"its table of points is not written: {error}")
        ended_s = time.monotonic()
        self._next_s = ended_s + max(POINTS_EVERY_S, (ended_s - began_s) / POINTS_COST_FRACTION)


@contextmanager
def commit_meanwhile(commits: Commits, run: Path, note: Note) -> Iterator[None]:
    """Commit in a thread while the block runs, and write the points; at its end commit all that waits.

    Args:
        note: takes a message if something cannot be written.
    """
    points = PointsFile(run, note)
    over = threading.Event()
    thread = threading.Thread(target=_commit_until, args=(over, commits, points, note), daemon=True)
    thread.start()
    is_quick = False
    try:
        yield
    except KeyboardInterrupt:  # a second signal
        is_quick = True
        raise
    finally:
        over.set()
        thread.join(END_LIMIT_S)
        if commits.ended_by is not None:
            raise commits.ended_by
        if thread.is_alive():
            note(f"the disk has not answered for {END_LIMIT_S:g} s: the next launch writes the last rows")
        elif not is_quick:
            commits.finish()
            points.write()


def _commit_until(over: threading.Event, commits: Commits, points: PointsFile, note: Note) -> None:
    pause_s = FIRST_S
    is_failing = False
    while not over.wait(pause_s):
        began_s = time.monotonic()
        try:
            if commits.is_waiting:
                commits.commit()
            is_failing = False
        except OSError:
            if not is_failing:
                note(f"{commits.why_failing}; it is tried again, and no trial starts meanwhile")
            is_failing = True
        except Exception:  # noqa: BLE001  # `Commits.ended_by` has it, which ends the sweep
            return
        took_s = time.monotonic() - began_s
        pause_s = min(max(took_s / COST_FRACTION, SOONEST_S), LATEST_S)
        if commits.has_new_ends and points.is_due:
            commits.has_new_ends = False
            points.write()

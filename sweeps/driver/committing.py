"""While a sweep runs, its rows are committed in a thread, and its table of points is written now and then."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from results.store.points import renew_points
from sweeps.driver.commits import Commits

FIRST_S = 1.0  # until the first commit
SOONEST_S = 10.0  # between two commits
LATEST_S = 60.0  # while rows wait
COST_FRACTION = 0.05  # of a sweep's time that commits may take, within these limits
POINTS_EVERY_S = 60.0
POINTS_COST_FRACTION = 0.01  # of a sweep's time that writing its points may take
END_LIMIT_S = 30.0  # for a commit that runs when a launch is ended at once
Note = Callable[[str], object]


@contextmanager
def commit_meanwhile(commits: Commits, run: Path, note: Note) -> Iterator[None]:
    """Commit in a thread while the block runs, and write the points; at its end commit all that waits.

    Args:
        note: takes a message if something cannot be written.
    """
    over = threading.Event()
    thread = threading.Thread(target=_commit_until, args=(over, commits, run, note), daemon=True)
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
            renew_points(run, note)


def _commit_until(over: threading.Event, commits: Commits, run: Path, note: Note) -> None:
    next_points_s = time.monotonic() + POINTS_EVERY_S
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
        began_s = time.monotonic()
        if commits.has_new_ends and began_s >= next_points_s:
            commits.has_new_ends = False
            renew_points(run, note)
            ended_s = time.monotonic()
            next_points_s = ended_s + max(POINTS_EVERY_S, (ended_s - began_s) / POINTS_COST_FRACTION)

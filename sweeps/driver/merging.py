"""Keeps the tables of a running sweep quick to read, brings them to rest at its end, and writes its table of points."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa

from results.errors import ResultsError
from results.store.merge import merge_if_many
from results.store.points import keep_what_is_not_ours, points_file, write_points
from results.store.reader import load
from results.store.settle import settle_or_clear
from transtailor.shell import command
from transtailor.waiting import TELL_AFTER_S

LOOK_EVERY_S = 60.0
END_LIMIT_S = 30.0  # for a merge that runs when the sweep ends; it is ended with the process
POINTS_COST_FRACTION = 0.01  # of a sweep's time that writing its points may take
MANY_TRIALS = 2000  # whose points are not written after a stop, which is to end soon

Note = Callable[[str], object]


class RunningTables:
    """What is done to the tables of a run while a sweep writes them, and when it ends.

    Attributes:
        is_stopped: a stop was asked for.
    """

    def __init__(self, run: Path, note: Note) -> None:
        self.is_stopped = False
        self._run = run
        self._note = note
        self._next_points_s = time.monotonic() + LOOK_EVERY_S

    def begin(self) -> None:
        """Remove the table of points that an earlier launch has written: it lacks what this one adds."""
        if points_file(self._run).exists():
            self._try(self._remove_points, "its table of points is not removed")

    def look(self) -> None:
        """Merge the parts if they are many; write the points if the last time is long enough ago."""
        self._try(lambda: merge_if_many(self._run), "its tables are not merged")
        if time.monotonic() >= self._next_points_s:
            took_s = self._write_points()
            self._next_points_s = time.monotonic() + took_s / POINTS_COST_FRACTION

    def end(self) -> None:
        """Bring the tables to rest and write the points; after a stop of a large sweep, say how to write them."""
        began_s = time.monotonic()

        def tell(text: str) -> None:
            if time.monotonic() - began_s > TELL_AFTER_S:
                self._note(text)

        if self._try(lambda: settle_or_clear(self._run, tell), "its tables are not settled"):
            self._try(self._write_last_points, "its table of points is not written")

    def _write_last_points(self) -> None:
        with load(self._run, ["planned"]) as tables:
            (planned,) = tables.rows("SELECT count(*) AS trials FROM planned")
        if self.is_stopped and planned["trials"] > MANY_TRIALS:
            points_file(self._run).unlink(missing_ok=True)
            self._note(f"to write {points_file(self._run)}, type: {command('points', self._run)}")
            return
        self._write_points()

    def _write_points(self) -> float:
        """Write the table of points; return the seconds that it took."""
        began_s = time.monotonic()

        def write() -> None:
            with load(self._run) as tables:
                self._note_what_is_kept(keep_what_is_not_ours(tables))
                write_points(tables)

        self._try(write, "its table of points is not written")
        return time.monotonic() - began_s

    def _remove_points(self) -> None:
        with load(self._run, ["planned"]) as tables:
            self._note_what_is_kept(keep_what_is_not_ours(tables))
        points_file(self._run).unlink(missing_ok=True)

    def _note_what_is_kept(self, text: str) -> None:
        if text:
            self._note(text)

    def _try(self, act: Callable[[], object], what_fails: str) -> bool:
        """Call `act`, and return whether it succeeded; if not, note why: the next launch does it at its end."""
        try:
            act()
        except (ResultsError, OSError, pa.ArrowException) as error:
            self._note(f"{what_fails}: {error}")
            return False
        return True


@contextmanager
def merge_meanwhile(run: Path, note: Note) -> Iterator[RunningTables]:
    """Merge the parts of a run in a thread while the block runs, if there are many; settle its tables when it ends.

    The table of points is written each minute, if that costs little, and at the end.

    Args:
        note: takes a message if some of this fails; and one for each table, if settling takes long.
    """
    tables = RunningTables(run, note)
    tables.begin()
    over = threading.Event()
    thread = threading.Thread(target=_look_until, args=(over, tables), daemon=True)
    thread.start()
    is_quick = False
    try:
        yield tables
    except KeyboardInterrupt:  # a second signal
        is_quick = True
        raise
    finally:
        over.set()
        thread.join(END_LIMIT_S)
        if not is_quick and not thread.is_alive():
            tables.end()


def _look_until(over: threading.Event, tables: RunningTables) -> None:
    while not over.wait(LOOK_EVERY_S):
        tables.look()

"""Merges the parts of a running sweep: thousands of small files would make every reader slow."""

import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa

from results.errors import ResultsError
from results.store.compact import compact, compact_if_many, list_superfluous, remove_old

LOOK_EVERY_S = 60.0
END_LIMIT_S = 30.0  # for a compaction that runs when the sweep ends; it is killed with the process

Note = Callable[[str], object]


@contextmanager
def merge_meanwhile(run: Path, note: Note) -> Iterator[None]:
    """Merge the parts of a run in a thread while the block runs, if there are many, and all at its end.

    Then the parts are removed that were merged before the block began, and what a killed compaction had left. So no
    reader that lists all files while a sweep runs loses one of them, or finds neither a part nor the merged file that
    stands for it.

    Args:
        note: takes a message if the parts cannot be merged; they are when the next launch ends.
    """
    old = frozenset(list_superfluous(run))
    over = threading.Event()
    thread = threading.Thread(target=_merge_until, args=(over, run, note), daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(END_LIMIT_S)
    if not thread.is_alive():
        _try(lambda: _merge_all(run, old), note)


def _merge_all(run: Path, old: Collection[Path]) -> None:
    compact(run)
    remove_old(run, old)


def _merge_until(over: threading.Event, run: Path, note: Note) -> None:
    while not over.wait(LOOK_EVERY_S):
        _try(lambda: compact_if_many(run), note)


def _try(merge: Callable[[], object], note: Note) -> None:
    try:
        merge()
    except (ResultsError, OSError, pa.ArrowException) as error:
        note(f"the parts of its tables are not merged: {error}")

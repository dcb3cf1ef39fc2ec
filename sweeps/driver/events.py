"""Writes the table `events`: what happened to a sweep and its cluster, and when."""

import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Protocol

from results.store.rows import Rows

REFUSED = "worker_refused"


class RowTaker(Protocol):
    """The part of results.store.writer.Writer that is used here."""

    def add(self, table: str, rows: Rows) -> object:
        """Take rows for the next commit."""


class EventLog:
    """The events that one driver sees, numbered in their order; may be called from any thread.

    A refusal by SLURM is also shown with `tell`, once for each text: the request is repeated while the sweep runs.
    """

    def __init__(self, rows: RowTaker, driver: str, code_digest: str, tell: Callable[[str], object]) -> None:
        self._rows = rows
        self._driver = driver
        self._code_digest = code_digest
        self._tell = tell
        self._number = 0
        self._last_refusal: str | None = None  # its text
        self._lock = threading.Lock()

    def __call__(
        self,
        kind: str,
        *,
        job: str | None = None,
        node: str | None = None,
        slots: int | None = None,
        detail: str | None = None,
    ) -> None:
        """Write one event: its kind, SLURM's id of a job, a machine's name, the slots after it, and an explanation."""
        with self._lock:
            row = {
                "driver": self._driver,
                "number": self._number,
                "happened_at": datetime.now(UTC),
                "kind": kind,
                "job": job,
                "node": node,
                "slots": slots,
                "detail": detail,
                "code_digest": self._code_digest,
            }
            self._number += 1
            self._rows.add("events", [row])
            is_new_refusal = kind == REFUSED and detail != self._last_refusal
            if kind == REFUSED:
                self._last_refusal = detail
        if is_new_refusal:
            self._tell(f"SLURM refused: {detail}; it is asked again")

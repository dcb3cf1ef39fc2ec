"""Writes the table `events`: what happened to a sweep and its cluster, and when."""

import threading
from collections.abc import Callable
from datetime import UTC, datetime

from sweeps.driver.ledger import RowWriter

REFUSED = "worker_refused"


class EventLog:
    """The events that one driver sees, numbered in their order; may be called from any thread.

    A refusal by SLURM is also shown with `tell`, once for each text: the request is repeated while the sweep runs.
    """

    def __init__(self, writer: RowWriter, driver: str, code_digest: str, tell: Callable[[str], object]) -> None:
        self._writer, self._driver, self._code_digest, self._tell = writer, driver, code_digest, tell
        self._number = 0
        self._refused: str | None = None  # the refusal that was shown last
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
            self._writer.write("events", [row])
            is_new = kind == REFUSED and detail != self._refused
            self._refused = detail if kind == REFUSED else self._refused
        if is_new:
            self._tell(f"SLURM refused: {detail}; it is asked again")

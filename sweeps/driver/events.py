"""Writes the table `events`: what the cluster of a sweep did, and when."""

import threading
from datetime import UTC, datetime

from sweeps.driver.ledger import RowWriter


class EventLog:
    """The events that one driver saw, numbered in their order; may be called from any thread."""

    def __init__(self, writer: RowWriter, driver: str, code_digest: str) -> None:
        self._writer, self._driver, self._code_digest = writer, driver, code_digest
        self._number = 0
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
        """Writes one event: its kind, SLURM's id of a job, a machine's name, slots after it, and more in words."""
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

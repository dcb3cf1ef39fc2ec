"""One Ctrl-C (or SIGTERM) stops a sweep cleanly, a second one at once."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Self

LOOK_EVERY_S = 1.0
SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(BaseException):
    """The user, or the scheduler, asked to stop; no `except Exception` of a library may take it for a failure."""


class StopSignals:
    """Holds SIGINT and SIGTERM while a sweep runs; a signal is acted on where the code says that it may be.

    Outside the main thread, where Python sets no handlers, nothing is held.
    """

    def __init__(self, file: Path | None = None) -> None:
        """Takes a file that asks to stop as soon as it is there; None: signals alone do."""
        self.received: str | None = None  # name of the first signal, or the file
        self._file = file
        self._looked_s = 0.0
        self._interruptible = False
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.getsignal(number) for number in SIGNALS}
            self.rearm()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def rearm(self) -> None:
        """Takes the signals back from a library that set handlers of its own."""
        for number in self._previous:
            signal.signal(number, self._receive)

    def check(self) -> None:
        """Raises Interrupted if a signal has come, or the file is there."""
        if self._file is not None and time.monotonic() - self._looked_s > LOOK_EVERY_S:
            self._looked_s = time.monotonic()
            if self._file.exists():
                self.received = self.received or f"the file {self._file.name}"
        if self.received is not None:
            raise Interrupted(self.received)

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Inside, a signal raises Interrupted at once, also out of a wait."""
        self._interruptible = True
        try:
            self.check()
            yield
        finally:
            self._interruptible = False

    def _receive(self, number: int, _frame: FrameType | None) -> None:
        if self.received is not None:
            raise KeyboardInterrupt
        self.received = signal.Signals(number).name
        if self._interruptible:
            raise Interrupted(self.received)

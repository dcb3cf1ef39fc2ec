"""A request to stop a sweep: Ctrl-C, SIGTERM or a file ends it cleanly, a second signal at once."""

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any, Self

from transtailor.files import is_there

LOOK_EVERY_S = 0.5
END_LIMIT_S = 5.0  # for a thread to end, if the disk does not answer
RAISED_AGAIN_AFTER_S = 0.05
STOP_COMMAND = "transtailor stop"  # which makes the file
SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(BaseException):
    """The user, or the scheduler, asked to stop; not an Exception, so that no library takes it for a failure."""


class StopSignals:
    """Catches SIGINT and SIGTERM while a sweep runs, and acts on them where the code allows it.

    Outside the main thread, where Python sets no handlers, no signal is caught.
    """

    def __init__(self, file: Path | None, on_stop: Callable[[str], object]) -> None:
        """Listen to signals and to a file.

        Args:
            file: asks to stop as soon as it exists; None: only signals do.
            on_stop: called once with who asked, soon and from another thread, whatever the main thread does.
        """
        self.received: str | None = None  # name of the first signal, or the command that makes the file
        self._file = file
        self._on_stop = on_stop
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch_file, name="stop", daemon=True)
        self._interruptible = False
        self._previous: dict[signal.Signals, Any] = {}
        self._hook_before: Callable[[Any], object]
        self._again: threading.Timer | None = None  # sends the signal again

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.getsignal(number) for number in SIGNALS}
            self._hook_before, sys.unraisablehook = sys.unraisablehook, self._raise_later
            self.rearm()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._again is not None:
            self._again.cancel()
            self._again.join(END_LIMIT_S)
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        if self._previous:
            sys.unraisablehook = self._hook_before
        self._over.set()
        self._thread.join(END_LIMIT_S)

    def rearm(self) -> None:
        """Take the signals back from a library that has set its own handlers."""
        for number in self._previous:
            signal.signal(number, self._receive)

    def check(self) -> None:
        """Raise Interrupted if a signal has come, or the file exists."""
        if self.received is not None:
            raise Interrupted(self.received)

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Inside this context a signal raises Interrupted at once, also out of a wait."""
        self._interruptible = True
        try:
            self.check()
            yield
        finally:
            self._interruptible = False

    def _watch_file(self) -> None:
        """Look for the file until the sweep is over or a stop was asked for, and tell who asked."""
        while self.received is None and not self._over.wait(LOOK_EVERY_S):
            with suppress(OSError):  # a file system that does not answer is asked again
                if self._file is not None and is_there(self._file):
                    self.received = self.received or STOP_COMMAND
        if self.received is not None:
            self._on_stop(self.received)

    def _receive(self, number: int, _frame: FrameType | None) -> None:
        """Handle a signal: the first one asks for a stop, a second one ends the process at once."""
        if self._again is not None:
            self._again = None
        elif self.received is not None:
            raise KeyboardInterrupt
        self.received = self.received or signal.Signals(number).name
        if self._interruptible:
            raise Interrupted(self.received)

    def _raise_later(self, unraisable: Any) -> None:
        """Handle an exception that a library's C code could not pass on: of ours, send the signal again."""
        if not isinstance(unraisable.exc_value, Interrupted):
            self._hook_before(unraisable)
            return
        arguments = (threading.main_thread().ident, signal.SIGINT)
        self._again = threading.Timer(RAISED_AGAIN_AFTER_S, signal.pthread_kill, arguments)
        self._again.start()

"""Wait by one function everywhere, so that no wait is silent, or unlimited without a reason."""

import errno
import math
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, TypeVar

from transtailor.terminal import say

POLL_S = 0.2
TELL_AFTER_S = 10.0
LONGEST_SILENCE_S = 60.0  # between two lines of a long step
KILL_LIMIT_S = 20.0  # until a killed process has gone
SLOWER_FRACTION = 0.2  # of the time waited so far: the pause between two polls, if they may become rarer
Value = TypeVar("Value")


class Child(Protocol):
    """A process that this one started, such as a `subprocess.Popen`."""

    pid: int

    def wait(self, timeout: float | None = None) -> int:
        """The exit code; raises subprocess.TimeoutExpired."""

    def kill(self) -> None:
        """End it at once."""


class WaitedTooLong(Exception):  # noqa: N818  # an event
    """A condition was not met within the limit; the text names both."""


@dataclass(frozen=True)
class Unlimited:
    """In place of a limit: the reason why a wait may last for ever, such as "SLURM queue"."""

    reason: str


def _to_stderr(text: str) -> None:
    say(text, to=sys.stderr)


def wait_for(
    condition: Callable[[], Value | None],
    what: str,
    limit_s: float | Unlimited,
    *,
    poll_s: float = POLL_S,
    poll_to_s: float | None = None,
    error: type[Exception] = WaitedTooLong,
    tell: Callable[[str], object] | None = _to_stderr,
) -> Value:
    """Poll `condition` until it returns neither None nor False; return that value.

        >>> replies = iter([None, False, "ready"])
        >>> wait_for(lambda: next(replies), "a reply", limit_s=60.0, poll_s=0.0)
        'ready'

    Args:
        condition: polled; its exceptions end the wait.
        what: names what is waited for, and where to look, for messages.
        limit_s: the longest wait.
        poll_s: pause between two polls.
        poll_to_s: for costly polls: the pause grows with the time waited, up to this.
        error: raised after the limit.
        tell: receives one line after `TELL_AFTER_S`: what is waited for, since when, and the limit. None if the
            condition itself reports the progress.

    Raises:
        error: the limit has passed; the text names `what`.
    """
    began_s = time.monotonic()
    began_at = datetime.now()
    most_s = math.inf if isinstance(limit_s, Unlimited) else limit_s
    while True:
        value = condition()
        if value is not None and value is not False:
            return value
        waited_s = time.monotonic() - began_s
        if waited_s >= most_s:
            raise error(f"waited {most_s:g} s for {what}")
        if tell is not None and waited_s >= TELL_AFTER_S:
            limit = f"no limit: {limit_s.reason}" if isinstance(limit_s, Unlimited) else f"at most {limit_s:g} s"
            tell(f"waiting for {what} since {began_at:%H:%M:%S} ({limit})")
            tell = None
        pause_s = poll_s
        if poll_to_s is not None:
            pause_s = min(poll_to_s, max(poll_s, waited_s * SLOWER_FRACTION))
        time.sleep(min(pause_s, most_s - waited_s))


@contextmanager
def telling(what: str, *, first_s: float = TELL_AFTER_S, tell: Callable[[str], object] = _to_stderr) -> Iterator[None]:
    """Tell that a long step begins, while it lasts for how long, ever more rarely, and how long it took.

    >>> with telling("counting", tell=print):
    ...     pass
    counting ...

    Args:
        what: the name of the step.
        first_s: after which it is told the first time that the step goes on, then after twice as long, and so on. A
            step that ends before has only its first line.
        tell: receives the lines, also from another thread.
    """
    began_s = time.monotonic()
    has_ended = threading.Event()

    def go_on() -> None:
        told_after_s = first_s
        while not has_ended.wait(max(0.0, began_s + told_after_s - time.monotonic())):
            tell(f"{what}: {told_after_s:.0f} s so far")
            told_after_s += min(told_after_s, LONGEST_SILENCE_S)

    tell(f"{what} ...")
    thread = threading.Thread(target=go_on, daemon=True)
    thread.start()
    try:
        yield
    finally:
        has_ended.set()
        thread.join(KILL_LIMIT_S)  # so that no line comes after the end
    took_s = time.monotonic() - began_s
    if took_s >= first_s:
        tell(f"{what}: done in {took_s:.0f} s")


def reap(process: Child, limit_s: float = 0.0) -> int | None:
    """Return the exit code of a child, which is killed if it has not ended after `limit_s`.

    Return None, after a line on standard error, if even the kill does not end it, as when a file system hangs.
    """
    try:
        return process.wait(limit_s)
    except subprocess.TimeoutExpired:
        process.kill()
    try:
        return process.wait(KILL_LIMIT_S)
    except subprocess.TimeoutExpired:
        _to_stderr(f"process {process.pid} was killed and has not ended {KILL_LIMIT_S:g} s later: it is abandoned")
        return None


def start_in_thread(call: Callable[[], Value]) -> Future[Value]:
    """Start a call that may hang in a thread, and return its future.

    The thread does not keep this process alive, as the thread of a pool would. If no thread can be started at the
    moment, the future raises an OSError.
    """
    future: Future[Value] = Future()

    def run() -> None:
        try:
            future.set_result(call())
        except BaseException as error:  # noqa: BLE001  # raised again by `result`
            future.set_exception(error)

    try:
        threading.Thread(target=run, daemon=True).start()
    except RuntimeError as error:  # as Python reports it
        future.set_exception(BlockingIOError(errno.EAGAIN, str(error)))
    return future

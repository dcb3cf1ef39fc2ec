"""Waiting: one function for all of it, so that nothing waits for ever without a reason, or in silence."""

import math
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from transtailor.terminal import say

POLL_S = 0.2
TELL_AFTER_S = 10.0
KILL_LIMIT_S = 20.0  # until a killed process has gone
SLOWER_FRACTION = 0.2  # of the time waited so far, where the looks are to become rarer
Found = TypeVar("Found")


class WaitedTooLong(Exception):  # noqa: N818  # an event
    """What was waited for has not come within the limit; the text names both."""


@dataclass(frozen=True)
class Unlimited:
    """In the place of a limit: why a wait may last for ever, such as "SLURM queue"."""

    reason: str


def _to_stderr(text: str) -> None:
    say(text, to=sys.stderr)


def wait_for(
    condition: Callable[[], Found | None],
    what: str,
    limit_s: float | Unlimited,
    *,
    poll_s: float = POLL_S,
    poll_to_s: float | None = None,
    error: type[Exception] = WaitedTooLong,
    tell: Callable[[str], object] | None = _to_stderr,
) -> Found:
    """What `condition` returns, as soon as that is neither None nor False.

    Args:
        condition: asked again and again; what it raises ends the wait.
        what: is waited for, and where to look, for messages.
        limit_s: how long, at most.
        poll_s: between two looks.
        poll_to_s: where looks are dear, they become rarer the longer it takes, up to this.
        error: raised after the limit.
        tell: takes a line once the wait is no short one: for what, since when, how long at most. None where the
            condition itself shows how things stand.

    Raises:
        error: the limit has passed; the text says what was waited for.
    """
    began_s, began_at = time.monotonic(), datetime.now()
    most_s = math.inf if isinstance(limit_s, Unlimited) else limit_s
    while (found := condition()) is None or found is False:
        waited_s = time.monotonic() - began_s
        if waited_s >= most_s:
            raise error(f"waited {most_s:g} s for {what}")
        if tell is not None and waited_s >= TELL_AFTER_S:
            limit = f"no limit: {limit_s.reason}" if isinstance(limit_s, Unlimited) else f"at most {limit_s:g} s"
            tell(f"waiting for {what} since {began_at:%H:%M:%S} ({limit})")
            tell = None
        pause_s = poll_s if poll_to_s is None else min(poll_to_s, max(poll_s, waited_s * SLOWER_FRACTION))
        time.sleep(min(pause_s, most_s - waited_s))
    return found


def reap(process: subprocess.Popen[Any], limit_s: float = 0.0) -> int | None:
    """The exit code of a child that is to end within `limit_s` and is killed then.

    None: not even that ended it, as where a file system does not answer; a line says so.
    """
    try:
        return process.wait(limit_s)
    except subprocess.TimeoutExpired:
        process.kill()
    try:
        return process.wait(KILL_LIMIT_S)
    except subprocess.TimeoutExpired:
        _to_stderr(f"process {process.pid} was killed and has not ended {KILL_LIMIT_S:g} s later: it is left to itself")
        return None


def in_thread(call: Callable[[], Found]) -> Future[Found]:
    """The future of a call that may hang: its thread ends with this process, which a pool's would hold up."""
    future: Future[Found] = Future()

    def run() -> None:
        try:
            future.set_result(call())
        except BaseException as error:  # noqa: BLE001  # whoever asks for the result gets it
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future

"""Signs of life of this process: it gives one with each batch and each meeting of ranks, so that a watcher can tell a
long computation from one that hangs; and what it can say of how far it is.

A module of one's own that computes for long without taking a batch may give its own: `tailor.core.heartbeat.sign()`.
"""

from collections.abc import Callable
from itertools import count

Where = Callable[[], tuple[float, str]]
"""How far the computation is: the fraction that is done, in [0, 1], and words for people; asked from other threads."""

_numbers = count(1)
_last = [0]


def nowhere() -> tuple[float, str]:
    """Nothing is known."""
    return 0.0, ""


_where: list[Where] = [nowhere]


def sign() -> None:
    """Say that the computation goes on; costs nothing."""
    _last[0] = next(_numbers)


def tell(where: Where) -> None:
    """From now on `where` says how far the computation is."""
    _where[0] = where


def newest() -> tuple[int, float, str]:
    """How many signs this process has given (as long as it rises, it goes on), and what `Where` says now."""
    return _last[0], *_where[0]()

"""Signs of life of this process: it gives one with each batch and each meeting of ranks, so that a watcher can tell a
long computation from one that hangs.

A module of one's own that computes for long without taking a batch may give its own: `tailor.core.heartbeat.sign()`.
"""

from itertools import count

_numbers = count(1)
_last = [0]


def sign() -> None:
    """Say that the computation goes on; costs nothing."""
    _last[0] = next(_numbers)


def signs() -> int:
    """How many signs this process has given; as long as the number rises, it goes on."""
    return _last[0]

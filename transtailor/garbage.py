"""Turn garbage collection off where a search for garbage would find next to none."""

import gc
import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType


@contextmanager
def pause_collection() -> Iterator[None]:
    """Turn the garbage collector off for a block, or for each call of a function that this decorates."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def import_uncollected(name: str) -> ModuleType:
    """Import a module with the garbage collector off, and return it.

    What a first import leaves in memory stays as long as the process, so later searches for garbage skip it (`freeze`).

        >>> import_uncollected("json").dumps(1)
        '1'
    """
    if name not in sys.modules:
        with pause_collection():
            importlib.import_module(name)
            gc.freeze()
    return sys.modules[name]

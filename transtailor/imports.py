"""Imports of large libraries, without a search for garbage."""

import gc
import importlib
import sys
from types import ModuleType


def import_uncollected(name: str) -> ModuleType:
    """Import a module with the garbage collector off; returns the module.

    An import makes next to no garbage, and the search for it takes a fifth of the processor time in which torch is
    imported. What is there after a first import stays as long as the process, so later searches leave it out.

        >>> import_uncollected("json").dumps(1)
        '1'
    """
    if name in sys.modules:
        return sys.modules[name]
    was_on = gc.isenabled()
    gc.disable()
    try:
        return importlib.import_module(name)
    finally:
        gc.freeze()
        if was_on:
            gc.enable()

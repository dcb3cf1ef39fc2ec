"""The heap of a process that trains on a CPU: what a step frees is kept for the next one, and given back after a trial.

By itself glibc returns the large tensors of a step to the system, which clears their pages again for the next step;
and what it keeps is in pieces that do not fit networks of other widths, so that a process grows for hours.
"""

import ctypes
from typing import Any

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of malloc.h
LARGEST_IN_HEAP_BYTES = 32 * 2**20  # glibc's own limit; larger tensors are mapped apart and always returned
KEEP_BYTES = 2**31 - 1  # the largest int: nothing is returned unasked


def keep_freed_memory() -> bool:
    """Keep what is freed for the next allocation; False with another C library than glibc, where nothing changes.

    Numbers: benchmarks/heap.py.
    """
    mallopt = _function("mallopt")
    return mallopt is not None and all(
        [mallopt(M_MMAP_THRESHOLD, LARGEST_IN_HEAP_BYTES), mallopt(M_TRIM_THRESHOLD, KEEP_BYTES)]
    )


def give_back_freed_memory() -> None:
    """Return what is free to the system: half a millisecond, and 0.2 s for a gigabyte."""
    trim = _function("malloc_trim")
    if trim is not None:
        trim(0)


def _function(name: str) -> Any:  # ctypes has no type for it
    return getattr(ctypes.CDLL(None), name, None)

"""Whether this program computes on a GPU what it computes on the CPU: the checks of `check-gpu`."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tailor.parallel.process_group import ProcessGroup


@dataclass(frozen=True)
class CheckRow:
    """One check: what was compared, how much may differ, what differed."""

    check: str
    compared: str
    tolerance: str
    difference: str
    is_right: bool | None  # None: it says nothing on this device


Check = Callable[["ProcessGroup", Path], Iterator[CheckRow]]
"""A function that checks one subject on a device, in an empty folder of its own, and yields the rows."""

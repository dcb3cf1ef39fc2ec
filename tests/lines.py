"""Work measured in executed lines of Python: unlike seconds, it does not depend on how busy the machine is."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


@contextmanager
def at_most(lines: int, *, of: str) -> Iterator[None]:
    """Raises AssertionError as soon as the modules of a package have executed more lines than this."""
    left = lines

    def count(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal left
        if not frame.f_globals.get("__name__", "").startswith(of):
            return None
        left -= event == "line"
        assert left >= 0, f"{frame.f_code.co_qualname} still runs after {lines:,} lines"
        return count

    before = sys.gettrace()
    sys.settrace(count)
    try:
        yield
    finally:
        sys.settrace(before)

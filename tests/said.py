"""Commands called in the process of their tests: a start of Python and its imports take longer than most of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest


@dataclass(frozen=True)
class Said:
    """How a command ended, and what it wrote."""

    returncode: int
    stdout: str
    stderr: str


def said(main: Callable[[Sequence[str]], int], words: Sequence[object], capsys: pytest.CaptureFixture[str]) -> Said:
    """What `python -m` with these words would say."""
    try:
        code = main([str(word) for word in words])
    except SystemExit as ended:  # what the parser refuses
        code = int(ended.code or 0)
    return Said(code, *capsys.readouterr())

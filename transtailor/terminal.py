"""What is shown on a terminal: text and nothing else, whoever wrote it."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO


def printable(text: object) -> str:
    """A text in which all that a terminal could act on is written as an escape; tabs and line breaks stay.

    That is control characters, marks that turn the direction of what follows, and what stands for no character.
    """
    shown = str(text)
    if shown.isprintable():
        return shown
    return "".join(
        sign if sign.isprintable() or sign in "\n\t" else sign.encode("unicode_escape").decode() for sign in shown
    )


def say(text: object, *, to: TextIO | None = None) -> None:
    """Show a text as a line, at once; on the standard output, if no stream is given."""
    stream = sys.stdout if to is None else to
    stream.write(f"{printable(text)}\n")
    stream.flush()


@contextmanager
def ignore_closed_stdout() -> Iterator[None]:
    """End the block quietly when the reader of the standard output has gone; that is no mistake."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python's own last flush would complain
